"""Minari datasets (https://minari.farama.org), with raw frames instead of the lossy JPEG that it defaults to.

The folder is one dataset and has a name as Minari wants it, `NAME-v0`: with `MINARI_DATASETS_PATH` set to the folder
around it, `minari.load_dataset("NAME-v0")` finds it. Rewards, seeds, infos and the action space have their place in it,
and so has the environment where it is one that Gymnasium knows by an id: then `recover_environment()` makes it.

Reading needs no Minari, which would import and make whatever environment the metadata names. The HDF5 file of a
stranger is read in a child process. Its arrays have no checksums unless its maker asked for them: a flipped bit in a
frame is seen only where it breaks something.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box

from worldmodel.data.convert.formats.format import EpisodeSource, Format, ImportedEpisode
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.episode import Episode
from worldmodel.io.hdf5.untrusted import ForeignHDF5, Group
from worldmodel.io.untrusted import UntrustedFileError, errors_name, read_json
from worldmodel.nn.actions import space_from_json

NAME = re.compile(r"[\w-]+-v\d+")
METADATA, DATA = "metadata.json", "main_data.hdf5"
SPACES = {"Box": "box", "Discrete": "discrete", "MultiDiscrete": "multi_discrete", "MultiBinary": "multi_binary"}
STEPS = ("actions", "rewards", "terminations", "truncations")
EPISODES = 1 << 24  # that metadata may claim
INFOS = 1000  # of one episode


def matches(folder: Path) -> bool:
    return (folder / "data" / METADATA).exists()


def write(folder: Path, info: DatasetInfo, episodes: Iterable[Episode]) -> None:
    """Raises ValueError for a folder with a name that Minari does not take."""
    _check_installed()
    import minari
    from minari.dataset.minari_storage import MinariStorage

    if not NAME.fullmatch(folder.name):
        raise ValueError(f"Minari wants its folders called NAME-v0 (or -v1, ...), got {folder.name}")
    frames = Box(0, 255, info.frame_shape, np.uint8)
    storage = MinariStorage.new(folder / "data", frames, info.action_space, jpeg_encoding=False)
    storage.update_metadata({"dataset_id": folder.name, "minari_version": minari.__version__})
    storage.update_metadata(_env_spec(info))
    storage.update_episodes(map(_buffer, episodes))


def _env_spec(info: DatasetInfo) -> dict[str, str]:
    """What `recover_environment()` makes: an environment that is registered here, with plain settings, or none."""
    spec = gymnasium.registry.get(str(info.env.get("id", "")))
    if spec is None:
        return {}
    kwargs = {**spec.kwargs, **info.env.get("kwargs", {})}
    try:
        return {"env_spec": replace(spec, kwargs=kwargs).to_json()}
    except (TypeError, ValueError):  # it is made by a function, or of values that JSON cannot hold
        return {}


def _buffer(episode: Episode) -> Any:
    from minari.data_collector import EpisodeBuffer

    ends = np.zeros((2, len(episode)), bool)
    ends[:, -1] = episode.terminated, episode.truncated
    arrays: dict[str, Any] = {"observations": episode.frames, "actions": episode.actions, "rewards": episode.rewards}
    arrays |= {"terminations": ends[0], "truncations": ends[1], "infos": episode.infos}
    return EpisodeBuffer(seed=episode.seed, **arrays)


@dataclass(frozen=True)
class _Set:
    """What the metadata of a dataset says: which entry of the observation is the frame (None: all of it)."""

    folder: Path
    count: int
    key: str | None
    others: tuple[str, ...]


def read(folder: Path) -> EpisodeSource:
    """The frames are the observation, or the one part of it that is a picture.

    Raises:
        ValueError: a dataset without frames, or with several; one that is not in HDF5; a space that is not known.
    """
    path = folder / "data" / METADATA
    with errors_name(path):
        metadata = read_json(path)
        if (kind := metadata.get("data_format", "hdf5")) != "hdf5":
            raise ValueError(f"expected data_format hdf5, got {kind}; write the dataset anew with data_format='hdf5'")
        count = metadata.get("total_episodes")
        if not isinstance(count, int) or not 0 <= count <= EPISODES:
            raise ValueError(f"total_episodes: expected 0 to {EPISODES:,}, got {count}")
        action_space = _space(_serialized(metadata, "action_space"))
        key, others = _frame_key(folder, _serialized(metadata, "observation_space"))
    file = ForeignHDF5(folder / "data" / DATA)
    about = _Set(folder, count, key, others)
    return EpisodeSource(count, lambda: _episodes(about, file), action_space, file.close)


def _serialized(metadata: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A space as Minari wrote it: JSON within JSON, with Infinity for bounds that there are none of."""
    if not isinstance(text := metadata.get(name), str):
        raise ValueError(f"{name}: expected the JSON of a space, got {text!r}")
    return dict(json.loads(text))


def _space(values: Mapping[str, Any]) -> Space:
    kind = values.get("type")
    if kind not in SPACES:
        raise ValueError(f"action_space: expected one of {', '.join(SPACES)}, got {kind!r}")
    bounds = {side: np.array(values[side], object).ravel().tolist() for side in ("low", "high") if side in values}
    starts = {"start": np.zeros_like(values["nvec"]).tolist() if kind == "MultiDiscrete" else 0}  # of old versions
    return space_from_json({**starts, "dtype": "int64", **values, **bounds, "kind": SPACES[kind]})


def _frame_key(folder: Path, space: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """Which part of the observation is the frame (None: all of it), and the names of the other parts."""
    if _picture_axes(space):
        return None, ()
    parts = dict(space["subspaces"]) if space.get("type") == "Dict" else {}
    for axes in (3, 2):  # a picture with channels goes before a grey one
        pictures = [key for key, part in parts.items() if _picture_axes(part) == axes]
        if len(pictures) == 1:
            return pictures[0], tuple(key for key in parts if key != pictures[0])
        if pictures:
            break
    shown = {key: f"{part.get('type')} {part.get('dtype')} {part.get('shape')}" for key, part in parts.items()}
    raise ValueError(
        f"{folder}: expected one uint8 picture (h, w, c) or (h, w) in the observation, got {shown or space}"
    )


def _picture_axes(space: Mapping[str, Any]) -> int:
    """How many axes a picture has; 0 for what is no picture."""
    picture = space.get("type") == "Box" and space.get("dtype") == "uint8" and len(space["shape"]) in (2, 3)
    return len(space["shape"]) if picture else 0


def _episodes(about: _Set, file: ForeignHDF5) -> Iterator[ImportedEpisode]:
    root = file.describe()
    there = {name for name in root.members if name.startswith("episode_")} if isinstance(root, Group) else set()
    if there != (expected := {f"episode_{index}" for index in range(about.count)}):
        odd = ", ".join(sorted(there ^ expected)[:3])
        raise UntrustedFileError(f"{file.path}: expected {about.count:,} episodes, got {len(there):,}: look at {odd}")
    for index in range(about.count):
        name = f"{about.folder}, episode {index}"
        with errors_name(name):
            found = _found(name, f"episode_{index}", about, file)
        yield found


def _found(name: str, episode: str, about: _Set, file: ForeignHDF5) -> ImportedEpisode:
    frames = (episode, "observations", *([] if about.key is None else [about.key]))
    counts = {step: file.array(episode, step).shape[:1] for step in STEPS}
    if len(set(counts.values())) > 1 or not all(counts["actions"]):
        raise ValueError(f"expected as many {', '.join(STEPS)}, got {counts}")
    steps = {step: file.read(episode, step) for step in STEPS}
    group = file.describe(episode)
    infos = _leaves(file, episode, "infos") if isinstance(group, Group) and "infos" in group.members else {}
    seed = group.seed if isinstance(group, Group) and group.seed is not None else 0
    return ImportedEpisode(
        name,
        partial(file.pictures, *frames),
        steps["actions"],
        steps["rewards"],
        _ended(name, "terminations", steps["terminations"]),
        _ended(name, "truncations", steps["truncations"]),
        max(seed, 0),
        lambda: {path: file.read(*place) for path, place in infos.items()},
        left_out=(*(f"observation {key}" for key in about.others), *(f"infos/{path}" for path in infos)),
    )


def _ended(name: str, what: str, values: np.ndarray) -> bool:
    """Whether the last step says so."""
    if values.dtype.kind not in "biu" or values.ndim != 1:
        raise ValueError(f"{name}: {what}: expected a truth value for each step, got {values.dtype} {values.shape}")
    if values[:-1].any():
        raise ValueError(f"{name}: {what}: it ends before the last step; cut the episode there")
    return bool(values[-1])


def _leaves(file: ForeignHDF5, *root: str) -> dict[str, tuple[str, ...]]:
    """Where the infos are; infos within infos are called `outer/inner`.

    Raises:
        UntrustedFileError: more than `INFOS`: a few groups that hold each other can make any number of them.
    """
    leaves: dict[str, tuple[str, ...]] = {}
    places = [(*root,)]
    for tried, place in enumerate(places):
        if tried > INFOS:
            raise UntrustedFileError(f"{file.path}: {'/'.join(root)}: expected at most {INFOS:,} entries")
        if isinstance(found := file.describe(*place), Group):
            places += [(*place, name) for name in found.members]
        else:
            leaves["/".join(place[len(root) :])] = place
    return leaves


def _check_installed() -> None:
    try:
        import minari  # noqa: F401
    except ImportError as error:
        raise ImportError('Minari is not installed: pip install "worldmodel[data]"', name="minari") from error


MINARI = Format(matches, write, read, infos=True)

"""Minari datasets (https://minari.farama.org), with raw frames instead of Minari's default, lossy JPEG.

The folder is one dataset, with a name that Minari accepts: `NAME-v0`. With `MINARI_DATASETS_PATH` set to the parent
folder, `minari.load_dataset("NAME-v0")` finds it. The dataset holds rewards, seeds, infos and the action space. If
Gymnasium has the environment registered under an id, `recover_environment()` makes it.

Reading does not use Minari, because Minari imports and makes any environment that the metadata names. An HDF5 file
may come from anyone and is read in a child process. Its arrays have checksums only if its writer asked for them, so
a flipped bit in a frame can go unnoticed.
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
MAX_EPISODES = 1 << 24  # that metadata may claim
MAX_INFOS = 1000  # per episode


def matches(folder: Path) -> bool:
    return (folder / "data" / METADATA).exists()


def write(folder: Path, info: DatasetInfo, episodes: Iterable[Episode]) -> None:
    """Raises ValueError if Minari does not accept the folder's name."""
    _check_installed()
    import minari
    from minari.dataset.minari_storage import MinariStorage

    if not NAME.fullmatch(folder.name):
        raise ValueError(f"expected a folder called NAME-v0 (or -v1, ...), as Minari requires, got {folder.name}")
    frames = Box(0, 255, info.frame_shape, np.uint8)
    storage = MinariStorage.new(folder / "data", frames, info.action_space, jpeg_encoding=False)
    storage.update_metadata({"dataset_id": folder.name, "minari_version": minari.__version__})
    storage.update_metadata(_env_spec(info))
    storage.update_episodes(map(_buffer, episodes))


def _env_spec(info: DatasetInfo) -> dict[str, str]:
    """The environment for `recover_environment()`; empty if it is not registered or JSON cannot hold it."""
    spec = gymnasium.registry.get(str(info.env.get("id", "")))
    if spec is None:
        return {}
    kwargs = {**spec.kwargs, **info.env.get("kwargs", {})}
    try:
        return {"env_spec": replace(spec, kwargs=kwargs).to_json()}
    except (TypeError, ValueError):  # a function makes it, or JSON cannot hold its settings
        return {}


def _buffer(episode: Episode) -> Any:
    from minari.data_collector import EpisodeBuffer

    ends = np.zeros((2, len(episode)), bool)
    ends[:, -1] = episode.terminated, episode.truncated
    arrays: dict[str, Any] = {"observations": episode.frames, "actions": episode.actions, "rewards": episode.rewards}
    arrays |= {"terminations": ends[0], "truncations": ends[1], "infos": episode.infos}
    return EpisodeBuffer(seed=episode.seed, **arrays)


@dataclass(frozen=True)
class _Layout:
    """The layout of a dataset: `key` names the entry of the observation that is the frame (None: all of it)."""

    folder: Path
    count: int
    key: str | None
    others: tuple[str, ...]


def read(folder: Path) -> EpisodeSource:
    """Reads a dataset; its frames are the observation, or the only image in it.

    Raises:
        ValueError: no image or several images in the observation, data that is not HDF5, or an unknown space.
    """
    path = folder / "data" / METADATA
    with errors_name(path):
        metadata = read_json(path)
        if (kind := metadata.get("data_format", "hdf5")) != "hdf5":
            raise ValueError(f"expected data_format hdf5, got {kind}; write the dataset again with data_format='hdf5'")
        count = metadata.get("total_episodes")
        if not isinstance(count, int) or not 0 <= count <= MAX_EPISODES:
            raise ValueError(f"total_episodes: expected 0 to {MAX_EPISODES:,}, got {count}")
        action_space = _space(_serialized(metadata, "action_space"))
        key, others = _frame_key(folder, _serialized(metadata, "observation_space"))
    file = ForeignHDF5(folder / "data" / DATA)
    layout = _Layout(folder, count, key, others)
    return EpisodeSource(count, lambda: _episodes(layout, file), action_space, file.close)


def _serialized(metadata: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A space as Minari writes it: JSON within JSON, with Infinity for missing bounds."""
    if not isinstance(text := metadata.get(name), str):
        raise ValueError(f"{name}: expected the JSON of a space, got {text!r}")
    return dict(json.loads(text))


def _space(values: Mapping[str, Any]) -> Space:
    kind = values.get("type")
    if kind not in SPACES:
        raise ValueError(f"action_space: expected one of {', '.join(SPACES)}, got {kind!r}")
    bounds = {side: np.array(values[side], object).ravel().tolist() for side in ("low", "high") if side in values}
    zero = np.zeros_like(values["nvec"]).tolist() if kind == "MultiDiscrete" else 0  # old versions have no start
    return space_from_json({"start": zero, "dtype": "int64", **values, **bounds, "kind": SPACES[kind]})


def _frame_key(folder: Path, space: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """The entry of the observation that is the frame (None: all of it), and the names of the other entries."""
    if _image_axes(space):
        return None, ()
    parts = dict(space["subspaces"]) if space.get("type") == "Dict" else {}
    for axes in (3, 2):  # an image with channels is preferred to a grey one
        images = [key for key, part in parts.items() if _image_axes(part) == axes]
        if len(images) == 1:
            return images[0], tuple(key for key in parts if key != images[0])
        if images:
            break
    shown = {key: f"{part.get('type')} {part.get('dtype')} {part.get('shape')}" for key, part in parts.items()}
    raise ValueError(f"{folder}: expected one uint8 image (h, w, c) or (h, w) in the observation, got {shown or space}")


def _image_axes(space: Mapping[str, Any]) -> int:
    """The number of axes of an image space; 0 for other spaces."""
    is_image = space.get("type") == "Box" and space.get("dtype") == "uint8" and len(space["shape"]) in (2, 3)
    return len(space["shape"]) if is_image else 0


def _episodes(layout: _Layout, file: ForeignHDF5) -> Iterator[ImportedEpisode]:
    root = file.describe()
    found = {name for name in root.members if name.startswith("episode_")} if isinstance(root, Group) else set()
    if found != (expected := {f"episode_{index}" for index in range(layout.count)}):
        odd = ", ".join(sorted(found ^ expected)[:3])
        raise UntrustedFileError(
            f"{file.path}: expected {layout.count:,} episodes, got {len(found):,}; missing or unexpected: {odd}"
        )
    for index in range(layout.count):
        name = f"{layout.folder}, episode {index}"
        with errors_name(name):
            episode = _episode(name, f"episode_{index}", layout, file)
        yield episode


def _episode(name: str, episode: str, layout: _Layout, file: ForeignHDF5) -> ImportedEpisode:
    frames = (episode, "observations", *([] if layout.key is None else [layout.key]))
    counts = {step: file.array(episode, step).shape[:1] for step in STEPS}
    if len(set(counts.values())) > 1 or not all(counts["actions"]):
        raise ValueError(f"expected as many {', '.join(STEPS)}, got {counts}")
    steps = {step: file.read(episode, step) for step in STEPS}
    group = file.describe(episode)
    infos = _leaves(file, episode, "infos") if isinstance(group, Group) and "infos" in group.members else {}
    seed = group.seed if isinstance(group, Group) and group.seed is not None else 0
    return ImportedEpisode(
        name,
        partial(file.images, *frames),
        steps["actions"],
        steps["rewards"],
        _last(name, "terminations", steps["terminations"]),
        _last(name, "truncations", steps["truncations"]),
        max(seed, 0),
        lambda: {path: file.read(*place) for path, place in infos.items()},
        left_out=(*(f"observation {key}" for key in layout.others), *(f"infos/{path}" for path in infos)),
    )


def _last(name: str, what: str, values: np.ndarray) -> bool:
    """The value of the last step. Raises ValueError if an earlier one is true."""
    if values.dtype.kind not in "biu" or values.ndim != 1:
        raise ValueError(f"{name}: {what}: expected true or false for each step, got {values.dtype} {values.shape}")
    if values[:-1].any():
        raise ValueError(f"{name}: {what}: true before the last step; end the episode there")
    return bool(values[-1])


def _leaves(file: ForeignHDF5, *root: str) -> dict[str, tuple[str, ...]]:
    """The paths of all infos by name; nested infos are called `outer/inner`.

    Raises:
        UntrustedFileError: more than `MAX_INFOS` entries; groups that contain each other would give endless ones.
    """
    leaves: dict[str, tuple[str, ...]] = {}
    places = [(*root,)]
    for tried, place in enumerate(places):
        if tried > MAX_INFOS:
            raise UntrustedFileError(f"{file.path}: {'/'.join(root)}: expected at most {MAX_INFOS:,} entries")
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

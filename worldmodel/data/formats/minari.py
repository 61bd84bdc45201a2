"""Minari datasets (https://minari.farama.org), with raw frames instead of the lossy JPEG that it defaults to.

The folder is one dataset and has a name as Minari wants it, `NAME-v0`: with `MINARI_DATASETS_PATH` set to the folder
around it, `minari.load_dataset("NAME-v0")` finds it. Rewards, seeds, infos and the action space have their place in it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict

from worldmodel.data.episode import Episode
from worldmodel.data.formats.format import Format, Found, Source
from worldmodel.data.info import DatasetInfo

NAME = re.compile(r"[\w-]+-v\d+")


def matches(folder: Path) -> bool:
    return (folder / "data" / "metadata.json").is_file()


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
    storage.update_episodes(map(_buffer, episodes))


def _buffer(episode: Episode) -> Any:
    from minari.data_collector import EpisodeBuffer

    ends = np.zeros((2, len(episode)), bool)
    ends[:, -1] = episode.terminated, episode.truncated
    arrays: dict[str, Any] = {"observations": episode.frames, "actions": episode.actions, "rewards": episode.rewards}
    arrays |= {"terminations": ends[0], "truncations": ends[1], "infos": episode.infos}
    return EpisodeBuffer(seed=episode.seed, **arrays)


def read(folder: Path) -> Source:
    """The frames are the observation, or the one part of it that is a picture.

    Raises:
        ValueError: a dataset without frames, or with several.
    """
    _check_installed()
    from minari import MinariDataset

    dataset = MinariDataset(folder / "data")
    key = _frame_key(folder, dataset.observation_space)
    return Source(dataset.total_episodes, lambda: _episodes(folder, dataset, key), dataset.action_space)


def _frame_key(folder: Path, space: Any) -> str | None:
    """Which part of the observation is the frame; None for all of it."""
    if _is_picture(space):
        return None
    pictures = [key for key, part in space.items() if _is_picture(part)] if isinstance(space, Dict) else []
    if len(pictures) != 1:
        raise ValueError(f"{folder}: expected one uint8 picture (h, w, c) in the observation, got {space}")
    return pictures[0]


def _is_picture(space: Any) -> bool:
    return isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) == 3


def _episodes(folder: Path, dataset: Any, key: str | None) -> Iterator[Found]:
    metadata = dataset.storage.get_episode_metadata(dataset.episode_indices)
    for episode, about in zip(dataset.iterate_episodes(), metadata, strict=True):
        frames = episode.observations if key is None else episode.observations[key]
        yield Found(
            f"{folder}, episode {episode.id}",
            frames.__iter__,
            np.asarray(episode.actions),
            episode.rewards.astype(np.float32),
            bool(episode.terminations[-1]),
            bool(episode.truncations[-1]),
            about.get("seed") or 0,
            dict(_leaves(episode.infos or {})),
        )


def _leaves(infos: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Infos within infos as `outer/inner`."""
    for name, value in infos.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}/")
        else:
            yield f"{path}{name}", np.asarray(value)


def _check_installed() -> None:
    try:
        import minari  # noqa: F401
    except ImportError as error:
        raise ImportError('Minari is not installed: pip install "worldmodel[data]"', name="minari") from error


MINARI = Format(matches, write, read, infos=True)

"""The interface of a format: how it reads and writes folders of episodes, and what it reads."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Space
from jaxtyping import UInt8

from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.episode import Episode
from worldmodel.io.untrusted import check_episode, check_frame, errors_name


@dataclass(frozen=True, eq=False)
class ImportedEpisode:
    """An episode as a format reads it: small arrays at once, images and infos when they are called.

    `actions` are T numbers, rows of numbers, or words. `rewards` are T numbers, or None if the files have none.
    `infos()` have one row per frame. `missing` names what the files lack (`rewards`, `terminated`, `truncated`).
    `left_out` names what they hold besides images, actions and outcomes.
    """

    name: str
    images: Callable[[], Iterable[np.ndarray]]
    actions: np.ndarray
    rewards: np.ndarray | None
    terminated: bool = False
    truncated: bool = False
    seed: int = 0
    infos: Callable[[], dict[str, np.ndarray]] = dict
    missing: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def frames(self, convert: Callable[[np.ndarray], np.ndarray] = lambda image: image) -> UInt8[np.ndarray, "t h w c"]:
        """All images, each one converted by `convert`.

        Raises:
            ValueError: images that are not uint8 `h w c` (or `h w`), are too large, or differ in size.
        """
        frames: list[np.ndarray] = []
        for image in self.images():
            with errors_name(f"{self.name}, frame {len(frames)}"):
                check_frame(self.name, image.shape)
                frames.append(convert(image))
            check_episode(self.name, len(frames), frames[-1].nbytes)
        return self._stacked(frames)

    def _stacked(self, frames: list[np.ndarray]) -> UInt8[np.ndarray, "t h w c"]:
        shapes = {frame.shape for frame in frames}
        if len(shapes) != 1:
            raise ValueError(f"{self.name}: expected frames of one size, got {sorted(shapes)}; set size=[height,width]")
        if (kind := frames[0].dtype) != np.uint8 or frames[0].ndim not in (2, 3):
            found = f"{kind} {frames[0].shape}"
            raise ValueError(f"{self.name}: expected uint8 images (h, w, c) or (h, w), got {found}")
        stacked = np.stack(frames)
        return stacked if stacked.ndim == 4 else stacked[..., None]


@dataclass(frozen=True)
class EpisodeSource:
    """A dataset in some format: `episodes()` reads it from the start; `action_space` is None if the format has none.

    `close` ends the processes and closes the files that reading needs.
    """

    count: int
    episodes: Callable[[], Iterator[ImportedEpisode]]
    action_space: Space | None = None
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Format:
    """Writes and reads a folder in a format; `read` returns episodes in the order that `write` got them.

    `matches` decides by the names of a folder's files. `infos` says whether the format can store infos.
    """

    matches: Callable[[Path], bool]
    write: Callable[[Path, DatasetInfo, Iterable[Episode]], None]
    read: Callable[[Path], EpisodeSource]
    infos: bool


def natural_key(path: Path) -> list[Any]:
    """A key for sorting that puts `frame_10` after `frame_9`."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]


def visible(paths: Iterable[Path], folder: Path) -> list[Path]:
    """The paths in `folder` that are not hidden, in natural order. Hidden: `.x`, `._x.png`, `.ipynb_checkpoints/x`."""
    seen = [path for path in paths if not any(map(_hidden, path.relative_to(folder).parts))]
    return sorted(seen, key=lambda path: (natural_key(path), str(path)))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def has_suffix(path: Path, *suffixes: str) -> bool:
    """Whether a file has one of these suffixes, in upper or lower case."""
    return path.suffix.lower() in suffixes

"""What a format of episodes has to offer, and what it finds of an episode."""

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
    """What a format holds of an episode: the small arrays at once, pictures and infos when they are called for.

    `actions` are T numbers or rows of numbers, or words; `rewards` are T numbers, or None where the files have
    none; `infos()` have a row per frame. `absent` names what the files do not say (`rewards`, `terminated`,
    `truncated`), `left_out` what they hold beside pictures, actions and outcomes.
    """

    name: str
    pictures: Callable[[], Iterable[np.ndarray]]
    actions: np.ndarray
    rewards: np.ndarray | None
    terminated: bool = False
    truncated: bool = False
    seed: int = 0
    infos: Callable[[], dict[str, np.ndarray]] = dict
    absent: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def frames(self, fit: Callable[[np.ndarray], np.ndarray] = lambda picture: picture) -> UInt8[np.ndarray, "t h w c"]:
        """All pictures, each one as `fit` gives it back.

        Raises:
            ValueError: pictures that are not uint8 `h w c` (or `h w`), are too large, or are not of one size.
        """
        frames: list[np.ndarray] = []
        for picture in self.pictures():
            with errors_name(f"{self.name}, frame {len(frames)}"):
                check_frame(self.name, picture.shape)
                frames.append(fit(picture))
            check_episode(self.name, len(frames), frames[-1].nbytes)
        return self._stacked(frames)

    def _stacked(self, frames: list[np.ndarray]) -> UInt8[np.ndarray, "t h w c"]:
        shapes = {frame.shape for frame in frames}
        if len(shapes) != 1:
            raise ValueError(f"{self.name}: expected frames of one size, got {sorted(shapes)}; set size=[height,width]")
        if (kind := frames[0].dtype) != np.uint8 or frames[0].ndim not in (2, 3):
            found = f"{kind} {frames[0].shape}"
            raise ValueError(f"{self.name}: expected uint8 pictures (h, w, c) or (h, w), got {found}")
        stacked = np.stack(frames)
        return stacked if stacked.ndim == 4 else stacked[..., None]


@dataclass(frozen=True)
class EpisodeSource:
    """A dataset in some format: its episodes, anew with each call, and its action space where the format knows it.

    `close` ends what was begun for reading it.
    """

    count: int
    episodes: Callable[[], Iterator[ImportedEpisode]]
    action_space: Space | None = None
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Format:
    """Writing and reading a folder in a format: `read` finds episodes in the order in which `write` was given them.

    `matches` tells from the names of a folder's files; `infos` whether the format has room for them.
    """

    matches: Callable[[Path], bool]
    write: Callable[[Path, DatasetInfo, Iterable[Episode]], None]
    read: Callable[[Path], EpisodeSource]
    infos: bool


def natural_key(path: Path) -> list[Any]:
    """Sorts `frame_10` behind `frame_9`."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]


def visible(paths: Iterable[Path], folder: Path) -> list[Path]:
    """Those that no system hid in `folder`, sorted by their numbers: not `.x`, `._x.png`, `.ipynb_checkpoints/x`."""
    seen = [path for path in paths if not any(map(_hidden, path.relative_to(folder).parts))]
    return sorted(seen, key=lambda path: (natural_key(path), str(path)))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def ends(path: Path, *suffixes: str) -> bool:
    """Whether a file's name ends in one of these, in upper or lower case."""
    return path.suffix.lower() in suffixes

"""What a format of episodes has to offer, and what it finds of an episode."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Space
from jaxtyping import UInt8

from worldmodel.data.episode import Episode
from worldmodel.data.info import DatasetInfo


@dataclass(frozen=True, eq=False)
class Found:
    """What a format holds of an episode: the small arrays at once, its pictures one by one when they are called for.

    `actions` are T numbers or rows of numbers, or words; `infos` have a row per frame.
    """

    name: str
    pictures: Callable[[], Iterable[np.ndarray]]
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool = False
    truncated: bool = False
    seed: int = 0
    infos: dict[str, np.ndarray] = field(default_factory=dict)

    def frames(self, fit: Callable[[np.ndarray], np.ndarray] = lambda picture: picture) -> UInt8[np.ndarray, "t h w c"]:
        """All pictures, each one as `fit` gives it back.

        Raises:
            ValueError: pictures that are not uint8 `h w c` (or `h w`), or not of one size.
        """
        pictures = [fit(self._with_channels(picture)) for picture in self.pictures()]
        if len(shapes := {picture.shape for picture in pictures}) != 1:
            raise ValueError(f"{self.name}: expected frames of one size, got {sorted(shapes)}; set size=[height,width]")
        return np.stack(pictures)

    def _with_channels(self, picture: np.ndarray) -> UInt8[np.ndarray, "h w c"]:
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
            found = f"{picture.dtype} {picture.shape}"
            raise ValueError(f"{self.name}: expected uint8 pictures (h, w, c) or (h, w), got {found}")
        return picture if picture.ndim == 3 else picture[..., None]


@dataclass(frozen=True)
class Source:
    """A dataset in some format: its episodes, anew with each call, and its action space where the format knows it."""

    count: int
    episodes: Callable[[], Iterator[Found]]
    action_space: Space | None = None


@dataclass(frozen=True)
class Format:
    """Writing and reading a folder in a format: `read` finds episodes in the order in which `write` was given them.

    `matches` tells from the names of a folder's files; `infos` whether the format has room for them.
    """

    matches: Callable[[Path], bool]
    write: Callable[[Path, DatasetInfo, Iterable[Episode]], None]
    read: Callable[[Path], Source]
    infos: bool


def natural(path: Path) -> list[Any]:
    """Sorts `frame_10` behind `frame_9`."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]

"""A moment of play: a value that holds all that decides how play goes on, so that keeping it costs nothing."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Int, UInt8

from worldmodel.play.real import Track
from worldmodel.state import DreamState

Mode = Literal["dream", "both", "real"]  # which of the two is stepped
End = Literal["", "terminated", "truncated"]  # of an episode; "" while it goes on
Frame = UInt8[np.ndarray, "h w c"]


@dataclass(frozen=True)
class Side:
    """One side of the page, dream or real: its newest frame, and what the newest step brought.

    reward: of the newest step; total: since the start; end: how the episode ended, "" while it goes on.
    """

    frame: Frame
    reward: float = 0.0
    total: float = 0.0
    end: End = ""

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return self.end != ""

    def after(self, frame: Frame, reward: float, end: End) -> "Side":
        """The side one frame later."""
        return Side(frame, reward, self.total + reward, end)

    def waits(self) -> "Side":
        """The side that stays as it is while the other one goes on."""
        return replace(self, reward=0.0)


@dataclass(frozen=True)
class Moment:
    """A moment of play. `state` and `dream` are None while only the real environment is stepped, `real` is None
    while only the dream is.

    seed: of the start. steps: since the start, each of `time_stride` frames. surprise: nats of the newest steps of
    the dream. tokens: of the newest latent. track: how the real environment got here, in kept moments only. parent:
    the number of the kept moment that this one comes from.
    """

    mode: Mode
    seed: int
    state: DreamState | None
    dream: Side | None
    real: Side | None
    steps: int = 0
    surprise: tuple[float, ...] = ()
    tokens: Int[np.ndarray, "y x"] | None = None
    track: Track | None = None
    parent: int | None = None

    @property
    def over(self) -> bool:
        """Whether no side can be stepped."""
        return all(side.over for side in self.sides.values())

    @property
    def sides(self) -> dict[str, Side]:
        """The sides that are shown, by name."""
        both = {"dream": self.dream, "real": self.real}
        return {name: side for name, side in both.items() if side is not None}

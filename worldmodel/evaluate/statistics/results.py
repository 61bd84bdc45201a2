"""What every measurement returns: means with bootstrap intervals, curves of them by step, and
images and clips."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True)
class Interval:
    """A mean and its bootstrap interval.

    count: the number of units that were drawn again. resampled: what these are, such as "episodes";
    "" for a number without sampling error. reason: why the value means nothing here; "" if it means
    something.
    """

    mean: float
    low: float
    high: float
    count: int
    resampled: str = ""
    reason: str = ""

    @property
    def finite(self) -> bool:
        """Whether mean, low and high are finite."""
        return all(map(math.isfinite, (self.mean, self.low, self.high)))

    @property
    def inapplicable(self) -> str:
        """The reason why it cannot be judged; "" if it can."""
        return self.reason or ("" if self.finite else "it is not a finite number")

    def unless(self, reason: str) -> "Interval":
        """The same interval, not applicable for this reason ("": unchanged)."""
        return replace(self, reason=reason) if reason else self


def absent(reason: str) -> Interval:
    """A metric that has no value here, and the reason."""
    return Interval(math.nan, math.nan, math.nan, 0, reason=reason)


def exact(value: float) -> Interval:
    """A number without sampling error."""
    return Interval(float(value), float(value), float(value), 1)


@dataclass(frozen=True)
class Curve:
    """A mean at each of `steps` (frames ahead, frame of a clip, ...), with its 95 % interval.

    count, resampled: as in `Interval`.
    """

    steps: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    count: int
    resampled: str = ""

    def at(self, step: int) -> Interval:
        """Its value at this step.

        Raises: ValueError if the curve has no such step.
        """
        i = self.steps.index(step)
        return Interval(self.mean[i], self.low[i], self.high[i], self.count, self.resampled)


@dataclass
class Section:
    """One part of a report: numbers by name, curves by name, and images and clips to show.

    Images are `h w 3`, clips `t h w 3`, each of its own size. notes: what was left out, and why.
    """

    metrics: dict[str, Interval] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    images: dict[str, UInt8[np.ndarray, "_ _ 3"]] = field(default_factory=dict)
    clips: dict[str, UInt8[np.ndarray, "_ _ _ 3"]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def update(self, other: "Section") -> None:
        """Take over all entries of another section."""
        for name in ("metrics", "curves", "images", "clips"):
            getattr(self, name).update(getattr(other, name))
        self.notes += other.notes

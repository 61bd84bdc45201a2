"""What every measurement comes back as: means with bootstrap intervals, curves of them by step, and what to look at."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import UInt8

RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean and its bootstrap interval; `count` values in all. why: the reason why it means nothing here, if so."""

    mean: float
    low: float
    high: float
    count: int
    why: str = ""

    @property
    def finite(self) -> bool:
        """Whether all three are numbers."""
        return all(map(math.isfinite, (self.mean, self.low, self.high)))

    @property
    def inapplicable(self) -> str:
        """The reason why it cannot be judged; nothing where it can be."""
        return self.why or ("" if self.finite else "it is not a finite number")

    def unless(self, why: str) -> "Interval":
        """The same, with a reason why it means nothing (none: as it was)."""
        return replace(self, why=why) if why else self


def absent(why: str) -> Interval:
    """A figure that cannot be had here, and the reason."""
    return Interval(math.nan, math.nan, math.nan, 0, why)


def exact(value: float) -> Interval:
    """A number that no sample stands behind."""
    return Interval(float(value), float(value), float(value), 1)


def bootstrap(groups: Sequence[Sequence[float] | np.ndarray], seed: int = 0, level: float = 0.95) -> Interval:
    """The mean of the groups' means, with its percentile bootstrap interval (Efron 1979) on both levels: groups, such
    as the episodes of one training seed each, are drawn again, and then the values within; one group keeps its place.

    Raises: ValueError for no groups, or an empty one.
    """
    found = [np.asarray(group, np.float64) for group in groups]
    if not found or min(map(len, found)) < 1:
        raise ValueError("bootstrap: expected one group or more, each of one value or more")
    rng = np.random.default_rng(seed)
    within = np.stack([x[rng.integers(len(x), size=(len(found), RESAMPLES, len(x)))].mean(2) for x in found])
    chosen = rng.integers(len(found), size=(len(found), RESAMPLES))  # which group takes each of the places
    places = np.arange(len(found))[:, None], np.arange(RESAMPLES)[None]
    means = within[chosen, *places].mean(0)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    mean = float(np.mean([group.mean() for group in found]))
    return Interval(mean, float(low), float(high), sum(map(len, found)))


@dataclass(frozen=True)
class Curve:
    """A mean at each of `steps` (frames ahead, frame of a clip, ...), with its 95 % interval over `count` samples."""

    steps: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    count: int

    def at(self, step: int) -> Interval:
        """Its value there.

        Raises: ValueError where the curve has no such step.
        """
        i = self.steps.index(step)
        return Interval(self.mean[i], self.low[i], self.high[i], self.count)


@dataclass
class Section:
    """One part of a report: numbers by name, curves by name, and pictures and clips for whoever would rather look.

    Pictures are `h w 3`, clips `t h w 3`, each of its own size. notes: what was left out, and why.
    """

    metrics: dict[str, Interval] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    pictures: dict[str, UInt8[np.ndarray, "_ _ 3"]] = field(default_factory=dict)
    clips: dict[str, UInt8[np.ndarray, "_ _ _ 3"]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

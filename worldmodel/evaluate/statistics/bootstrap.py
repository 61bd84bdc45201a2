"""Bootstrap intervals of functions of means: of decibels, ratios, differences between methods.

Clips of one episode resemble each other, so they are not independent. The cluster bootstrap draws
whole episodes with replacement and takes all their clips (Davison & Hinkley 1997, section 3.8). All
columns share the draws, so comparisons are paired: the difficulty that two methods share cancels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from worldmodel.evaluate.statistics.results import Curve, Interval

# Takes means, `r *rest` each, and returns `r` or `r t` values.
Statistic = Callable[..., np.ndarray]

RESAMPLES = 10_000
BLOCK_NUMBERS = 2**23  # numbers in the means of the draws that are computed together: 64 MiB
FEWEST = 5  # with fewer episodes than this, clips are drawn: an interval over four episodes says too little
LEVEL = 0.95
NO_DIVISOR = "there is nothing to divide by"


@dataclass(frozen=True, eq=False)
class Resampler:
    """Draws whole units with replacement.

    unit: the unit of each row of the data, 0 to m - 1. name: what a unit is, in the plural, such as
    "episodes".
    """

    unit: Int[np.ndarray, "n"]
    name: str

    @classmethod
    def by_episode(cls, episodes: Sequence[int] | np.ndarray, rows: str = "clips") -> "Resampler":
        """A unit is an episode with all its rows. With fewer than 5 episodes each row is a unit,
        called `rows`."""
        if len(np.unique(np.asarray(episodes))) < FEWEST:
            return cls.by_row(len(episodes), rows)
        return cls.by_label(episodes, "episodes")

    @classmethod
    def by_row(cls, count: int, name: str) -> "Resampler":
        """Each of `count` rows is a unit."""
        return cls(np.arange(count), name)

    @classmethod
    def by_label(cls, labels: Sequence[int] | np.ndarray, name: str) -> "Resampler":
        """Rows with the same label are a unit; units are numbered in the order of their first
        rows."""
        _, first, label = np.unique(np.asarray(labels), return_index=True, return_inverse=True)
        return cls(first.argsort().argsort()[label], name)

    def __len__(self) -> int:
        """The number of units."""
        return int(self.unit.max()) + 1

    def means(self, values: Float[np.ndarray, "n *rest"], seed: int = 0) -> Float[np.ndarray, "r *rest"]:
        """Means over all rows of each of RESAMPLES draws; equal seeds draw equal units."""
        return np.concatenate([means[0] for means in self._blocks((values,), seed)])

    def interval(self, statistic: Statistic, *columns: Float[np.ndarray, "n *rest"]) -> Interval:
        """`statistic` of the columns' means over all rows, one number, with its percentile
        interval."""
        low, high = bounds(self._draws(statistic, columns))
        return self._as_interval(point_estimate(statistic, *columns), low, high)

    def curve(self, steps: Sequence[int], statistic: Statistic, *columns: Float[np.ndarray, "n t"]) -> Curve:
        """`interval` at each of t steps."""
        values = (point_estimate(statistic, *columns), *bounds(self._draws(statistic, columns)))
        mean, low, high = (tuple(map(float, each)) for each in values)
        return Curve(tuple(steps), mean, low, high, len(self), self.name)

    def bias_corrected(self, statistic: Statistic, *columns: Float[np.ndarray, "n *rest"]) -> Interval:
        """`interval` without the bias of the bootstrap itself (Efron & Tibshirani 1993, chapter
        10).

        Draws with replacement have fewer different codes than the data, and larger distances
        between them.
        """
        mean, draws = point_estimate(statistic, *columns), self._draws(statistic, columns)
        middle = np.nanmean(draws) if np.isfinite(draws).any() else np.nan
        low, high = bounds(draws) + mean - middle
        return self._as_interval(mean, low, high)

    def quotient(self, a: Float[np.ndarray, "n"], b: Float[np.ndarray, "n"]) -> Interval:
        """The ratio of two means; not applicable if the second one is 0."""
        return self.interval(ratio, a, b).unless("" if b.any() else NO_DIVISOR)

    def rows(self, draws: int, seed: int) -> Iterator[Int[np.ndarray, "k"]]:
        """The row numbers of each draw, for statistics that are not functions of
        means."""
        members = [np.flatnonzero(self.unit == unit) for unit in range(len(self))]
        for chosen in np.random.default_rng(seed).integers(len(self), size=(draws, len(self))):
            yield np.concatenate([members[unit] for unit in chosen])

    def _draws(self, statistic: Statistic, columns: tuple[np.ndarray, ...]) -> np.ndarray:
        return np.concatenate([statistic(*means) for means in self._blocks(columns)])

    def _blocks(self, columns: tuple[np.ndarray, ...], seed: int = 0) -> Iterator[list[np.ndarray]]:
        """The means of all columns, some draws at a time."""
        m = len(self)
        sizes = np.bincount(self.unit).astype(np.float64)
        sums = [self._sums(column) for column in columns]
        weights = np.random.default_rng(seed).multinomial(m, np.full(m, 1 / m), size=RESAMPLES).astype(np.float64)
        size = max(1, BLOCK_NUMBERS // max(each[0].size for each in sums))
        for block in np.split(weights, range(size, RESAMPLES, size)):
            totals = block @ sizes
            yield [np.tensordot(block, each, axes=1) / totals.reshape(-1, *[1] * (each.ndim - 1)) for each in sums]

    def _sums(self, values: Float[np.ndarray, "n *rest"]) -> Float[np.ndarray, "m *rest"]:
        """The sum over the rows of each unit."""
        sums = np.zeros((len(self), *values.shape[1:]))
        np.add.at(sums, self.unit, values)
        return sums

    def _as_interval(self, mean: np.ndarray, low: float, high: float) -> Interval:
        """An interval; it gives the reason if it is not defined."""
        reason = "" if np.isfinite(mean) else NO_DIVISOR
        if np.isfinite(mean) and not (np.isfinite(low) and np.isfinite(high)):
            reason = "it has no interval: many draws of the bootstrap leave nothing to divide by"
        return Interval(float(mean), float(low), float(high), len(self), self.name, reason)


def point_estimate(statistic: Statistic, *columns: Float[np.ndarray, "n *rest"]) -> np.ndarray:
    """`statistic` of the columns' means, which have a leading axis of one: it always gets
    arrays."""
    return np.asarray(statistic(*(column.mean(0, keepdims=True) for column in columns))[0])


def bounds(draws: Float[np.ndarray, "r *rest"]) -> Float[np.ndarray, "2 *rest"]:
    """The middle 95 % of the draws; NaN where more than 1 in 20 draws are not finite."""
    sides = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    known = np.isfinite(draws)
    if known.all():
        return np.quantile(draws, sides, axis=0)
    enough = known.mean(0) >= LEVEL
    found = np.nanquantile(np.where(known | ~enough, np.where(known, draws, 0.0), np.nan), sides, axis=0)
    return np.where(enough, found, np.nan)


def leading_true(values: Bool[np.ndarray, "t"]) -> int:
    """The number of true values before the first false one."""
    return len(values) if values.all() else int(values.argmin())


def identity(mean: np.ndarray) -> np.ndarray:
    """The mean itself."""
    return mean


def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b; 1 for 0 / 0, as both are equal. NaN if only b is 0."""
    return np.where(a == b, 1.0, share(a, b))


def share(a: float | np.ndarray, b: np.ndarray | np.floating) -> np.ndarray:
    """a / b; NaN where b is 0."""
    a, b = np.broadcast_arrays(a, b)
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0)

"""Bootstrap intervals of anything that is a function of means: of decibels, ratios, differences between methods.

What belongs to one clip is drawn together, so comparisons are paired: the difficulty that two methods share cancels.
Clips count as independent; where many are cut from few episodes they overlap, and the intervals are too narrow.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from worldmodel.evaluate.statistics.results import RESAMPLES, Curve, Interval

# From means of one shape, `r *rest`, as many of the same shape, or without its last axis.
Statistic = Callable[..., np.ndarray]
LEVEL = 0.95
NOTHING = "there is nothing to divide by"


def resampled(values: Float[np.ndarray, "n *rest"], seed: int = 0) -> Float[np.ndarray, "r *rest"]:
    """Means over the first axis of RESAMPLES draws of n rows with replacement; one seed draws the same rows of all."""
    n = len(values)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    return np.tensordot(weights, values, axes=1)


def curve(steps: Sequence[int], statistic: Statistic, *columns: Float[np.ndarray, "n t"]) -> Curve:
    """`of` the columns' means over the rows, at each of `steps`, with its percentile bootstrap interval."""
    mean = np.asarray(point_estimate(statistic, *columns))
    low, high = bounds(statistic(*(resampled(column) for column in columns)))
    return Curve(tuple(steps), _floats(mean), _floats(low), _floats(high), len(columns[0]))


def interval(statistic: Statistic, *columns: Float[np.ndarray, "n *m"]) -> Interval:
    """`of` the columns' means over the rows: one number with its interval."""
    low, high = bounds(statistic(*(resampled(column) for column in columns)))
    return _as_interval(float(point_estimate(statistic, *columns)), float(low), float(high), len(columns[0]))


def bias_corrected(statistic: Statistic, *columns: Float[np.ndarray, "n *m"]) -> Interval:
    """`interval` with the bootstrap's own bias taken out, for what draws with replacement push one way: they have
    fewer different codes, and distances between them are greater (Efron & Tibshirani 1993, chapter 10)."""
    mean, draws = float(point_estimate(statistic, *columns)), statistic(*(resampled(column) for column in columns))
    middle = np.nanmean(draws) if np.isfinite(draws).any() else np.nan
    low, high = bounds(draws) + mean - middle
    return _as_interval(mean, float(low), float(high), len(columns[0]))


def _as_interval(mean: float, low: float, high: float, count: int) -> Interval:
    """An interval, which says so where it is not defined."""
    why = "" if np.isfinite(mean) else NOTHING
    if np.isfinite(mean) and not (np.isfinite(low) and np.isfinite(high)):
        why = "many draws of the bootstrap leave nothing to divide by, so it has no interval"
    return Interval(mean, low, high, count, why)


def point_estimate(statistic: Statistic, *columns: Float[np.ndarray, "n *m"]) -> np.ndarray | np.floating:
    """`of` the columns' means over all rows, told as those of one draw are: `of` never sees a mere number."""
    return statistic(*(column.mean(0, keepdims=True) for column in columns))[0]


def bounds(draws: Float[np.ndarray, "r *rest"]) -> Float[np.ndarray, "2 *rest"]:
    """The middle 95 % of the draws; not a number where more than 1 in 20 of them are none."""
    sides = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    known = np.isfinite(draws)
    if known.all():
        return np.quantile(draws, sides, axis=0)
    enough = known.mean(0) >= LEVEL
    found = np.nanquantile(np.where(known | ~enough, np.where(known, draws, 0.0), np.nan), sides, axis=0)
    return np.where(enough, found, np.nan)


def leading_true(better: Bool[np.ndarray, "t"]) -> int:
    """How many steps from the first on are all better."""
    return len(better) if better.all() else int(better.argmin())


def identity(mean: np.ndarray) -> np.ndarray:
    """The mean itself."""
    return mean


def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a over b; 0 over 0 is 1, as what is equal is. Not a number where b alone is 0."""
    return np.where(a == b, 1.0, share(a, b))


def share(a: float | np.ndarray, b: np.ndarray | np.floating) -> np.ndarray:
    """a over b; not a number where b is 0."""
    a, b = np.broadcast_arrays(a, b)
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0)


def quotient(a: Float[np.ndarray, "n"], b: Float[np.ndarray, "m"]) -> Interval:
    """The ratio of two means with its interval, paired over the rows; not applicable where the second one is 0."""
    return interval(ratio, a, b).unless("" if b.any() else NOTHING)


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)

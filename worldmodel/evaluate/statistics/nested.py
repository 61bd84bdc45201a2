"""Bootstrap intervals of a mean over groups of values, such as the episodes of several trained
agents."""

from collections.abc import Sequence

import numpy as np

from worldmodel.evaluate.statistics.bootstrap import LEVEL, RESAMPLES
from worldmodel.evaluate.statistics.results import Interval


def nested_bootstrap(groups: Sequence[Sequence[float] | np.ndarray], seed: int = 0) -> Interval:
    """The mean of the groups' means, with its percentile bootstrap interval (Efron 1979) on both
    levels.

    Groups are drawn with replacement, then the values within each drawn group. A single group is
    always drawn.

    Raises: ValueError if there are no groups, or one is empty.
    """
    found = [np.asarray(group, np.float64) for group in groups]
    if not found or min(map(len, found)) < 1:
        raise ValueError("bootstrap: expected one group or more, each of one value or more")
    rng = np.random.default_rng(seed)
    within = np.stack([x[rng.integers(len(x), size=(len(found), RESAMPLES, len(x)))].mean(2) for x in found])
    chosen = rng.integers(len(found), size=(len(found), RESAMPLES))  # the group at each place of a draw
    places = np.arange(len(found))[:, None], np.arange(RESAMPLES)[None]
    means = within[chosen, *places].mean(0)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    mean = float(np.mean([group.mean() for group in found]))
    name = "episodes" if len(found) == 1 else "agents, then episodes of each"
    return Interval(mean, float(low), float(high), sum(map(len, found)), name)

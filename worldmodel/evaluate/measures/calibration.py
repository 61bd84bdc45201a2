"""Whether probabilities mean what they say: reliability by bins, and the probability that lies in
the wrong bin."""

import numpy as np
from jaxtyping import Bool, Float

from worldmodel.evaluate.statistics.bootstrap import Resampler, share
from worldmodel.evaluate.statistics.results import Curve, Interval

BINS = 10  # of equal width


def binned(chance: Float[np.ndarray, "n *m"], happened: Bool[np.ndarray, "n *m"]) -> Float[np.ndarray, "n 3 bins"]:
    """For each of n clips and each bin by chance: the number of probabilities, their sum, and how
    many came true."""
    n = len(chance)
    chance, happened = chance.reshape(n, -1), happened.reshape(n, -1)
    place = np.minimum((chance * BINS).astype(np.int64), BINS - 1) + BINS * np.arange(n)[:, None]
    weights = (None, chance.ravel(), happened.ravel())
    sums = [np.bincount(place.ravel(), each, minlength=n * BINS).reshape(n, BINS) for each in weights]
    return np.stack(sums, axis=1).astype(np.float64)


def calibration_error(resampler: Resampler, sums: Float[np.ndarray, "n 3 bins"], events: int) -> Interval:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599): the mean gap between chance
    and rate over the bins, weighted by the number of probabilities in each.

    events: how many events a row's probabilities are of. With the probabilities of all outcomes of
    each event, the error is the probability in the wrong bin.
    """
    return resampler.bias_corrected(lambda mean: np.abs(mean[..., 1, :] - mean[..., 2, :]).sum(-1) / events, sums)


def reliability(resampler: Resampler, sums: Float[np.ndarray, "n 3 bins"]) -> Curve:
    """How often a prediction came true, by its probability, both in percent; empty bins are left
    out."""
    filled = sums[:, 0].sum(0) > 0
    predicted = 100 * sums[:, 1].sum(0)[filled] / sums[:, 0].sum(0)[filled]
    steps = predicted.round().astype(int).tolist()
    return resampler.curve(steps, _percent, sums[:, 0][:, filled], sums[:, 2][:, filled])


def _percent(number: np.ndarray, true: np.ndarray) -> np.ndarray:
    return 100 * share(true, number)  # a draw may have no probability in a bin

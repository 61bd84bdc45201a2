"""Whether the tokens of dreams stay like those of the data: which codes occur, whether they change,
how they vary."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from worldmodel.evaluate.measures import token_statistics
from worldmodel.evaluate.sections.drift.data import AVERAGING_STEPS, DriftData
from worldmodel.evaluate.statistics.bootstrap import NO_DIVISOR, Resampler, identity, ratio, share
from worldmodel.evaluate.statistics.results import Curve, Interval, Section, absent, exact
from worldmodel.evaluate.testbed.real_samples import RealWindows, real_windows

FREEZE_WINDOW = 30  # steps without change that make a frozen dream; fewer if episodes are shorter
DEAD_QUANTILE = 0.001  # share of real windows that move or show as little as a frozen or collapsed dream
MAX_REAL_SHARE = 1 / 64  # if more held-out windows look frozen or collapsed, dreams cannot be judged by this
WINDOWS = 1000  # real windows that set these bounds
SET_SIZE = 64  # dreams whose codes are compared with the codes of as many real windows


def token_divergence(data: DriftData) -> Section:
    """How far the codes are from those of the training episodes."""
    codes, moments, reference = data.tokens.info.codes, data.config.moments, _code_frequencies(data)
    shares = {m: _code_shares(data, m) for m in (*moments, *data.late_steps)}
    found = [_divergence(data.trace.resampler, shares[m], reference) for m in moments]
    length = min(AVERAGING_STEPS, max(len(data.tokens.tokens(index)) for index in data.held_out))
    real = real_windows(data.tokens, data.held_out, length, WINDOWS, data.seed)
    windows = token_statistics.histogram(real.tokens, codes)
    as_many = len(data.trace.tokens) * AVERAGING_STEPS // length
    floor = RealWindows(real.episodes[:as_many], real.tokens[:as_many]).resampler
    first, last = moments[0], moments[-1]
    metrics = {
        f"drift/token_divergence@{first}": found[0],
        f"drift/token_divergence@{last}": found[-1],
        "drift/token_divergence_floor": _divergence(floor, windows[:as_many], reference),
        f"drift/token_divergence_{last}_over_{first}": _late_over_early(data, shares[last], shares[first], reference),
    }
    size = min(SET_SIZE, len(data.trace.tokens))
    level = token_statistics.real_level(windows, size * AVERAGING_STEPS // length, reference, data.seed)
    for m in data.late_steps:
        late = token_statistics.divergence(token_statistics.set_means(shares[m], size), reference).mean()
        over = exact(float(late / level)) if level > 0 else absent("samples of real frames have the same codes")
        metrics[f"drift/token_divergence_{m}_over_real"] = over.unless(data.beyond(m))
    mean, low, high = (tuple(getattr(each, side) for each in found) for side in ("mean", "low", "high"))
    curve = Curve(moments, mean, low, high, found[0].count, found[0].resampled)
    return Section(metrics, {"drift/token_divergence": curve})


def _code_frequencies(data: DriftData) -> Float[np.ndarray, "k"]:
    """The share of each code in the training episodes."""
    codes = data.tokens.info.codes
    counts = sum(np.bincount(data.tokens.tokens(index).ravel(), minlength=codes) for index in data.train)
    return counts / np.sum(counts)


def _code_shares(data: DriftData, moment: int) -> Float[np.ndarray, "b k"]:
    """The share of each code in each dream, in the steps up to a moment."""
    tokens = data.trace.tokens[:, moment - AVERAGING_STEPS : moment]
    return token_statistics.histogram(tokens, data.tokens.info.codes)


def _divergence(resampler: Resampler, shares: Float[np.ndarray, "n k"], reference: Float[np.ndarray, "k"]) -> Interval:
    """The divergence of the codes of n windows; without the bootstrap's bias, as noise always
    diverges."""
    found = resampler.bias_corrected(lambda mean: token_statistics.divergence(mean, reference), shares)
    return replace(found, low=max(0.0, found.low))


def _late_over_early(
    data: DriftData, late: Float[np.ndarray, "b k"], early: Float[np.ndarray, "b k"], reference: Float[np.ndarray, "k"]
) -> Interval:
    """The ratio of two divergences of the same dreams."""

    def statistic(*means: np.ndarray) -> np.ndarray:
        return share(*(token_statistics.divergence(each, reference) for each in means))

    found = data.trace.resampler.bias_corrected(statistic, late, early)
    return replace(found, low=max(0.0, found.low)) if found.finite else found


def frozen_and_collapsed(data: DriftData) -> Section:
    """Whether dreams still move, and still show something."""
    codes, sides, section = data.tokens.info.codes, (data.train, data.held_out), Section()
    longest = (max(len(data.tokens.tokens(i)) for i in side) for side in sides)
    length = min(FREEZE_WINDOW, data.config.steps, *longest)
    if length < 2:
        return Section({f"drift/{name}": absent("no episode has two latents") for name in ("frozen", "collapsed")})
    known, new = (real_windows(data.tokens, side, length, WINDOWS, data.seed) for side in sides)
    measures = {
        "frozen": token_statistics.changing,
        "collapsed": lambda windows: token_statistics.within_frames(windows, codes),
    }
    for name, measure in measures.items():
        bound = np.quantile(measure(known.tokens), DEAD_QUANTILE)
        passing = (measure(new.tokens) <= bound).astype(float)
        section.metrics[f"drift/{name}_real"] = new.resampler.interval(identity, passing)
        common = f"{passing.mean():.0%} of real windows pass for {name}" if passing.mean() > MAX_REAL_SHARE else ""
        section.update(_dead_dreams(data, name, measure, length, bound, common))
    return section


def _dead_dreams(
    data: DriftData, name: str, measure: Callable[[np.ndarray], np.ndarray], length: int, bound: float, common: str
) -> Section:
    """The share of dreams whose last `length` tokens measure no more than `bound`, by moment.

    common: why the last steps cannot be judged by it; "" if they can.
    """
    moments = [m for m in data.config.moments if m >= length]
    ends = {m: max(length, m) for m in data.late_steps}
    dead = {
        m: (measure(data.trace.tokens[:, m - length : m]) <= bound).astype(float) for m in {*moments, *ends.values()}
    }
    resampler, section = data.trace.resampler, Section()
    columns = np.stack([dead[m] for m in moments], axis=1)
    section.curves[f"drift/{name}"] = resampler.curve(moments, identity, columns)
    for m in ends.values():
        key = f"drift/{name}" if m == data.config.steps else f"drift/{name}@{m}"
        section.metrics[key] = resampler.interval(identity, dead[m]).unless(data.beyond(m) or common)
    return section


def variety(data: DriftData) -> Section:
    """How much dreams differ from each other, beside real frames."""
    real = real_windows(data.tokens, data.held_out, 1, len(data.trace.tokens), data.seed)
    name, dream_unit, real_unit = _common_units(data.trace.episodes, real.episodes)
    units, codes = 1 + int(max(dream_unit.max(), real_unit.max())), data.tokens.info.codes
    resampler, section = Resampler.by_row(units, name), Section()
    others = token_statistics.place_counts(real.tokens[:, 0], real_unit, units, codes)
    reason = "" if token_statistics.place_entropy(others.sum(0, keepdims=True)).any() else NO_DIVISOR
    for m in data.late_steps:
        counts = token_statistics.place_counts(data.trace.tokens[:, m - 1], dream_unit, units, codes)
        found = resampler.bias_corrected(_entropy_ratio, counts, others)
        section.metrics[f"drift/variety_{m}"] = found.unless(reason or data.beyond(m))
    return section


def _common_units(dreams: Sequence[int], real: Sequence[int]) -> tuple[str, np.ndarray, np.ndarray]:
    """What to draw from n dreams and n real frames, and the unit of each: episodes, or pairs if
    these are few."""
    both = Resampler.by_episode([*dreams, *real])
    if both.name == "episodes":
        return both.name, both.unit[: len(dreams)], both.unit[len(dreams) :]
    return "pairs of a dream and a real frame", np.arange(len(dreams)), np.arange(len(real))


def _entropy_ratio(dreams: Float[np.ndarray, "r p k"], real: Float[np.ndarray, "r p k"]) -> Float[np.ndarray, "r"]:
    return ratio(token_statistics.place_entropy(dreams), token_statistics.place_entropy(real))

"""What becomes of dreams that run free for a thousand steps: whether they stay sharp, varied, alive, like the data."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor
from torch.nn import functional as F

from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.clips.windows import WindowSampler
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.evaluate.measures import token_statistics
from worldmodel.evaluate.statistics.bootstrap import bias_corrected, curve, identity, interval, quotient, share
from worldmodel.evaluate.statistics.results import Curve, Interval, Section, absent, exact
from worldmodel.evaluate.testbed.dream_clips import (
    WorldProtocol,
    clips_of,
    decibels,
    gain,
    picture,
    random_actions,
    stride_of,
)
from worldmodel.io.video import contact_sheet
from worldmodel.prior import SamplerConfig

MOMENTS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)  # steps at which dreams are looked at
AVERAGING_STEPS = 10  # steps up to a moment that its numbers are means of: a single frame says little
FREEZE_WINDOW = (
    30  # steps without change, under held random actions, that make a frozen dream; less where episodes are shorter
)
DEAD_QUANTILE = (
    0.001  # share of real windows that move or show as little as a dream called frozen or collapsed: of 64, hardly one
)
MAX_REAL_SHARE = 1 / 64  # share of held-out windows beyond which the bar tells nothing of dreams
WINDOWS = 1000  # real windows by which that is told, and of which samples of real codes are drawn
REAL_SAMPLES, REAL_QUANTILE = (
    1000,
    0.95,
)  # of these, and the share of them whose divergence passes for that of real frames
SET_SIZE = 64  # dreams whose codes are compared with as many real ones: the more of either, the less passes for chance
THUMB = 8  # pixels a side of the small pictures among which the nearest are sought
CANDIDATES = 16  # of these, so many are compared in full
VIDEO_DREAMS, VIDEO_FRAMES = 4, 200  # dreams in the clip, and its frames


@dataclass
class DriftConfig:
    """How much is dreamed: `dreams` at once, `steps` of the world each, after `context` real frames; and among how many
    `real_frames` the nearest one is sought."""

    dreams: int = 192
    steps: int = 1000
    context: int = 6
    real_frames: int = 2048
    seed: int = 0
    sampler: SamplerConfig = field(default_factory=SamplerConfig)

    def __post_init__(self) -> None:
        if self.steps < 2 * AVERAGING_STEPS:
            raise ValueError(f"steps: expected {2 * AVERAGING_STEPS} or more, to compare the end with the start")

    @property
    def moments(self) -> tuple[int, ...]:
        """Steps at which is looked, the last one among them."""
        return (*(m for m in MOMENTS if m < self.steps), self.steps)


@dataclass
class DreamTrace:
    """What is kept of dreams: some numbers of each step, and the frames of some moments."""

    tokens: Int32[np.ndarray, "b n y x"]
    sharpness: Float[np.ndarray, "b n"]  # mean gradient, grey levels a pixel
    bits: Float[np.ndarray, "b n"]
    frames: UInt8[Tensor, "m b h w c"]  # the newest of each moment
    video: UInt8[Tensor, "t few h w c"]  # of the first few dreams, thinned out


def drift(
    world: WorldProtocol,
    store: EpisodeStore,
    tokens: TokenStore,
    train: Sequence[int],
    held_out: Sequence[int],
    config: DriftConfig | None = None,
) -> Section:
    """Free-running dreams by step, beside what real frames have of the same. Actions are random ones, held as those of
    the data were. Sharpness, codes and bits are of the 10 steps up to each moment; intervals are over dreams.

    - sharpness: mean gradient of the grey picture, as a multiple of that of held-out frames. It is linear in contrast;
      the variance of the Laplacian, the other usual one, is ruled by a few hard edges and by speckle.
    - token_divergence: Jensen–Shannon, in bits, between the codes dreamed and those of the training episodes; `floor`
      is what as many held-out real tokens give. What is asked is `over_real`: late dreams, in sets of 64, are on
      average no farther from the data than 95 of 100 samples of as many real tokens. `over_10`, late over early, is
      beside it with its interval, which is too wide to ask for a tenth: that of a perfect world's 64 dreams is as well.
    - nearest_real: PSNR of the most similar of some training frames; `held_out` is what real frames find.
    - bits: surprise of a step under the model itself.
    - frozen, collapsed: the share of dreams whose last 30 steps change fewer tokens, or have frames of less entropy,
      than 99.9 % of windows of training episodes; `real` is what held-out windows reach of that, 0.1 % if alike. What
      is asked: of 64 dreams none, of more surely fewer than one in 64.
    - variety: entropy of a token over the dreams, over that of as many real frames; its interval is over the grid.

    Raises: ValueError when the held-out episodes are too short for the context.
    """
    config = config or DriftConfig()
    trace = trace_dreams(world, store, held_out, config)
    real_until = real_steps(tokens, [*train, *held_out], world, config.context)
    section = Section()
    for part in (
        _sharpness(trace, store, held_out, config, real_until),
        _token_divergence(trace, tokens, train, held_out, config, real_until),
        _nearness(trace, store, train, held_out, config),
        _surprise(trace, config, real_until),
        _frozen_and_collapsed(trace, tokens, train, held_out, config, real_until),
        _pictures(trace, config),
    ):
        for name in ("metrics", "curves", "pictures", "clips"):
            getattr(section, name).update(getattr(part, name))
    if real_until < config.steps:
        section.notes.append(f"drift: {beyond(config.steps, real_until)}; what lies beyond is shown, but not judged")
    return section


def real_steps(tokens: TokenStore, episodes: Sequence[int], world: WorldProtocol, context: int) -> int:
    """Up to which step of a dream there are real frames of the same age: those of the longest episode."""
    stride = stride_of(world)
    given = 1 + (world.whole_latents(context) - 1) // stride
    return max(0, max(len(tokens.tokens(index)) for index in episodes) - given)


def beyond(step: int, real_until: int) -> str:
    """Why nothing can be said of a step; nothing where real episodes are so long."""
    return "" if step <= real_until else f"the longest episode ends at step {real_until}, before step {step}"


def judged_steps(config: DriftConfig, real_until: int) -> list[int]:
    """The steps at which late dreams are judged: the last one, and before it the last that real episodes reach."""
    return sorted({config.steps, min(config.steps, real_until)} - set(range(2 * AVERAGING_STEPS)) | {config.steps})


def trace_dreams(world: WorldProtocol, store: EpisodeStore, episodes: Sequence[int], config: DriftConfig) -> DreamTrace:
    """Dream, and keep what is looked at: memory is that of a few moments, however long it takes."""
    stride = stride_of(world)
    clips = clips_of(
        world, store, episodes, context=config.context, horizon=stride, clips=config.dreams, seed=config.seed
    )
    count, hold = len(clips.given), store.info.hold if store.info.policy == "sticky" else 1.0
    actions = random_actions(world.info.reachable, count, config.steps * stride, config.seed, hold)
    state = world.start(clips.given, clips.lead, config.seed)
    numbers, kept, video = [], {}, []
    sampler = replace(config.sampler, allow_termination=False)
    for n in range(config.steps):
        state, step = world.step(state, actions[:, n * stride : (n + 1) * stride], sampler)
        frame = step.frames[:, -1]
        numbers.append((step.tokens.cpu().numpy().astype(np.int32), sharpness(frame), step.bits.cpu().numpy()))
        if n + 1 in config.moments:
            kept[n + 1] = frame.cpu()
        if n % max(1, config.steps // VIDEO_FRAMES) == 0:
            video.append(frame[:VIDEO_DREAMS].cpu().clone())  # a copy: a view would keep all dreams of the step
    columns = [np.stack(column, axis=1) for column in zip(*numbers, strict=True)]
    return DreamTrace(columns[0], columns[1], columns[2], torch.stack(list(kept.values())), torch.stack(video))


def sharpness(frames: UInt8[Tensor, "b h w c"]) -> Float[np.ndarray, "b"]:
    """Mean absolute difference of neighbouring pixels of the grey picture, across and down: grey levels a pixel."""
    grey = frames.float().mean(-1)
    across, down = grey.diff(dim=2).abs().mean((1, 2)), grey.diff(dim=1).abs().mean((1, 2))
    return ((across + down) / 2).double().cpu().numpy()


def _sharpness(
    trace: DreamTrace, store: EpisodeStore, held_out: Sequence[int], config: DriftConfig, real_until: int
) -> Section:
    real = sharpness(real_frames(store, held_out, len(trace.tokens), config.seed))
    section = _by_moment("sharpness", trace.sharpness, config, real_until, share(1.0, real.mean()))
    section.metrics["drift/sharpness_real"] = interval(identity, real)
    return section


def _surprise(trace: DreamTrace, config: DriftConfig, real_until: int) -> Section:
    return _by_moment("bits", trace.bits.astype(np.float64), config, real_until)


def _by_moment(
    name: str, values: Float[np.ndarray, "b n"], config: DriftConfig, real_until: int, unit: float | np.ndarray = 1.0
) -> Section:
    """Means up to each moment, times `unit`, and the ratio of the last to the first."""
    moments, first = config.moments, config.moments[0]
    means = {m: values[:, m - AVERAGING_STEPS : m].mean(1) for m in (*moments, *judged_steps(config, real_until))}
    metrics = {
        f"drift/{name}_{m}_over_{first}": quotient(means[m], means[first]).unless(beyond(m, real_until))
        for m in judged_steps(config, real_until)
    }
    columns = np.stack([means[m] for m in moments], axis=1)
    return Section(metrics=metrics, curves={f"drift/{name}": curve(moments, identity, columns * unit)})


def _token_divergence(
    trace: DreamTrace,
    tokens: TokenStore,
    train: Sequence[int],
    held_out: Sequence[int],
    config: DriftConfig,
    real_until: int,
) -> Section:
    """How far the codes are from those of the training episodes."""
    codes, moments, dreams = tokens.info.codes, config.moments, len(trace.tokens)
    counts = sum(np.bincount(tokens.tokens(index).ravel(), minlength=codes) for index in train)
    reference = counts / np.sum(counts)
    shares = [token_statistics.histogram(trace.tokens[:, m - AVERAGING_STEPS : m], codes) for m in moments]
    found = [_diverged(each, reference) for each in shares]
    length = min(AVERAGING_STEPS, max(len(tokens.tokens(index)) for index in held_out))
    windows = token_statistics.histogram(
        token_statistics.real_windows(tokens, held_out, length, WINDOWS, config.seed), codes
    )
    alike = windows[: dreams * AVERAGING_STEPS // length]
    size = min(SET_SIZE, dreams)
    level = real_level(windows, size * AVERAGING_STEPS // length, reference, config.seed)
    first, last = moments[0], moments[-1]
    metrics = {
        f"drift/token_divergence@{first}": found[0],
        f"drift/token_divergence@{last}": found[-1],
        "drift/token_divergence_floor": _diverged(alike, reference),
        f"drift/token_divergence_{last}_over_{first}": _over(shares[-1], shares[0], reference),
    }
    for m in judged_steps(config, real_until):
        late = token_statistics.divergence(
            set_means(token_statistics.histogram(trace.tokens[:, m - AVERAGING_STEPS : m], codes), size), reference
        )
        over = exact(float(late.mean() / level)) if level > 0 else absent("samples of real frames have the same codes")
        metrics[f"drift/token_divergence_{m}_over_real"] = over.unless(beyond(m, real_until))
    columns = ([getattr(each, side) for each in found] for side in ("mean", "low", "high"))
    drawn = Curve(moments, *(tuple(column) for column in columns), count=dreams)
    return Section(metrics=metrics, curves={"drift/token_divergence": drawn})


def _diverged(shares: Float[np.ndarray, "n k"], reference: Float[np.ndarray, "k"]) -> Interval:
    """The divergence of the codes of n windows. Drawing these again adds noise, which always diverges: hence
    `centred`."""
    found = bias_corrected(lambda mean: token_statistics.divergence(mean, reference), shares)
    return replace(found, low=max(0.0, found.low))


def _over(
    late: Float[np.ndarray, "n k"], early: Float[np.ndarray, "n k"], reference: Float[np.ndarray, "k"]
) -> Interval:
    """The ratio of two such divergences of the same dreams."""
    found = bias_corrected(
        lambda *both: share(*(token_statistics.divergence(each, reference) for each in both)), late, early
    )
    return replace(found, low=max(0.0, found.low)) if found.finite else found


def set_means(shares: Float[np.ndarray, "n k"], size: int) -> Float[np.ndarray, "s k"]:
    """The codes of whole sets of `size` dreams."""
    return shares[: len(shares) // size * size].reshape(-1, size, shares.shape[1]).mean(1)


def real_level(windows: Float[np.ndarray, "w k"], count: int, reference: Float[np.ndarray, "k"], seed: int) -> float:
    """What the divergences of 95 in 100 samples of `count` real windows stay below, from the codes of many windows."""
    rng = np.random.default_rng(seed)
    means = np.stack([windows[rng.integers(len(windows), size=count)].mean(0) for _ in range(REAL_SAMPLES)])
    return float(np.quantile(token_statistics.divergence(means, reference), REAL_QUANTILE))


def _nearness(
    trace: DreamTrace, store: EpisodeStore, train: Sequence[int], held_out: Sequence[int], config: DriftConfig
) -> Section:
    """How much dreams look like some real frame."""
    gallery = real_frames(store, train, config.real_frames, config.seed)
    error = np.stack([nearest(frames, gallery) for frames in trace.frames], axis=1)
    real = nearest(real_frames(store, held_out, len(trace.tokens), config.seed), gallery)
    first, last = config.moments[0], config.moments[-1]
    metrics = {
        f"drift/nearest_real@{first}": interval(decibels, error[:, 0]),
        f"drift/nearest_real@{last}": interval(decibels, error[:, -1]),
        f"drift/nearest_real_{last}_minus_{first}": interval(gain, error[:, 0], error[:, -1]),
        "drift/nearest_real_held_out": interval(decibels, real),
    }
    return Section(metrics=metrics, curves={"drift/nearest_real": curve(config.moments, decibels, error)})


def real_frames(store: EpisodeStore, episodes: Sequence[int], count: int, seed: int) -> UInt8[Tensor, "n h w c"]:
    """Frames from random places of the episodes."""
    lengths = {index: store.length(index) for index in episodes}
    places = WindowSampler(lengths, 1, seed, item="frames", setting="the clip length").draw(0, count)
    return torch.from_numpy(np.concatenate([store.frames(index, start, start + 1) for index, start in places]))


def nearest(frames: UInt8[Tensor, "n h w c"], gallery: UInt8[Tensor, "m h w c"]) -> Float[np.ndarray, "n"]:
    """Mean squared error of each frame to the nearest of the gallery, sought among those whose small pictures are."""
    distance = torch.cdist(_thumbs(frames), _thumbs(gallery))
    closest = distance.topk(min(CANDIDATES, len(gallery)), largest=False).indices
    error = [
        (gallery[c].float() - frame.float()).square().mean((1, 2, 3)).min()
        for frame, c in zip(frames, closest, strict=True)
    ]
    return torch.stack(error).double().numpy()


def _thumbs(frames: UInt8[Tensor, "n h w c"]) -> Float[Tensor, "n p"]:
    return F.adaptive_avg_pool2d(frames.float().movedim(-1, 1), THUMB).flatten(1)


def _frozen_and_collapsed(
    trace: DreamTrace,
    tokens: TokenStore,
    train: Sequence[int],
    held_out: Sequence[int],
    config: DriftConfig,
    real_until: int,
) -> Section:
    """Whether dreams still move, still show something, and still differ."""
    codes, seed = tokens.info.codes, config.seed
    span = min(FREEZE_WINDOW, config.steps, *(max(len(tokens.tokens(i)) for i in side) for side in (train, held_out)))
    ends = [max(span, m) for m in judged_steps(config, real_until)]
    real, new = (token_statistics.real_windows(tokens, side, span, WINDOWS, seed) for side in (train, held_out))
    moments, section = [m for m in config.moments if m >= span], Section()
    measures = {
        "frozen": token_statistics.changing,
        "collapsed": lambda windows: token_statistics.within_frames(windows, codes),
    }
    for name, measure in measures.items():
        if span < 2:
            section.metrics[f"drift/{name}"] = absent("no episode has two latents")
            continue
        bar = np.quantile(measure(real), DEAD_QUANTILE)
        dead = {m: (measure(trace.tokens[:, m - span : m]) <= bar).astype(float) for m in (*moments, *ends)}
        section.curves[f"drift/{name}"] = curve(moments, identity, np.stack([dead[m] for m in moments], axis=1))
        passing = (measure(new) <= bar).astype(float)
        section.metrics[f"drift/{name}_real"] = interval(identity, passing)
        common = f"{passing.mean():.0%} of real windows pass for {name}" if passing.mean() > MAX_REAL_SHARE else ""
        for m in ends:
            key = f"drift/{name}" if m == config.steps else f"drift/{name}@{m}"
            section.metrics[key] = interval(identity, dead[m]).unless(beyond(m, real_until) or common)
    alike = token_statistics.real_windows(tokens, held_out, 1, len(trace.tokens), seed)[:, 0]
    for m in judged_steps(config, real_until):
        varied = [token_statistics.among(each, codes) for each in (trace.tokens[:, m - 1], alike)]
        section.metrics[f"drift/variety_{m}"] = quotient(varied[0], varied[1]).unless(beyond(m, real_until))
    return section


def _pictures(trace: DreamTrace, config: DriftConfig) -> Section:
    """Some dreams at all moments, and a clip of the first few, side by side."""
    rows = [picture(trace.frames[:, i]) for i in range(min(6, trace.frames.shape[1]))]
    titles = [str(moment) for moment in config.moments]
    labels = [f"dream {i}" for i in range(len(rows))]
    video = np.concatenate([picture(trace.video[:, i]) for i in range(trace.video.shape[1])], axis=2)
    return Section(
        pictures={"drift/moments": contact_sheet(rows, labels, len(titles), titles)}, clips={"drift/dreams": video}
    )

"""How near dreams are to what truly happened: frame by frame after the last real one, and as a set
of clips."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from worldmodel.evaluate.measures.frechet import Features, frechet_interval
from worldmodel.evaluate.measures.images import FrameMetric
from worldmodel.evaluate.measures.objects import are_small, background, kept, object_area
from worldmodel.evaluate.statistics.bootstrap import Resampler, leading_true, share
from worldmodel.evaluate.statistics.results import Section, exact
from worldmodel.evaluate.testbed.held_out import HeldOut, decode, same_actions
from worldmodel.io.config import LARGEST, check_range
from worldmodel.io.video import contact_sheet
from worldmodel.nn.actions import action_words
from worldmodel.prior import SamplerConfig
from worldmodel.world import WorldInfo, WorldModel

NOTHING_MOVED = "nothing moved up to there: the last real frame is the truth"
SET_FRAMES = 16  # the last frames of each dream, by which sets of clips are compared
COLUMNS, VIDEOS = 10, 2  # moments on the contact sheet; clips shown as videos


@dataclass
class RolloutsConfig:
    """How much is dreamed beside held-out clips."""

    clips: int = 48
    """Held-out clips."""
    horizon: int = 30
    """Frames dreamed of each clip; fewer if episodes are shorter."""
    samples: int = 4
    """Dreams of each clip."""
    at: tuple[int, ...] = (1, 5, 10, 30)
    """Frames ahead at which metrics are given."""

    def __post_init__(self) -> None:
        check_range(self, 1, LARGEST, "clips", "horizon", "samples", "at")


@dataclass(frozen=True)
class Continuations:
    """What truly followed after `context` frames, the dreams by sample, and the baselines by name:
    uint8 `n t h w c` each."""

    context: int
    truth: UInt8[Tensor, "n t h w c"]
    dreams: list[Tensor]
    baselines: dict[str, Tensor]


def rollouts(
    world: WorldModel,
    clips: HeldOut,
    config: RolloutsConfig,
    *,
    context: int,
    sampler: SamplerConfig,
    seed: int,
    frame_metrics: Mapping[str, FrameMetric],
    features: Mapping[str, Features],
) -> Section:
    """How similar dreams and the truth are by frames ahead, and their Fréchet distances by each
    kind of features.

    Baselines are the last real frame held still, dreams under another clip's actions, and the truth
    decoded from its own tokens; differences are paired by clip.

    clips: `context` frames each, then those to follow; the horizon is no longer than these.
    """
    continuations = imagine(world, clips, config, context=context, sampler=sampler, seed=seed)
    section = Section()
    for name, frame_metric in frame_metrics.items():
        _compare_frames(section, clips, continuations, name, frame_metric)
    _pick(section, config.at)
    _mark_inapplicable(section, clips, continuations)
    gain = section.curves["psnr_gained/copy_last_frame"]
    above, weakest = leading_true(np.array(gain.low) > 0), int(np.argmin(gain.low))
    idle = NOTHING_MOVED if unmoved(continuations)[weakest] else ""
    section.metrics["least_gain_over_copy"] = gain.at(gain.steps[weakest]).unless(idle)
    section.metrics["frames_above_copy"] = exact(above)
    section.metrics["share_above_copy"] = exact(above / len(gain.steps))
    _follow_objects(section, clips, continuations)
    for name, extract in features.items():
        _compare_sets(section, clips, continuations, name, extract)
    _show(section, clips, continuations, world.info)
    return section


def imagine(
    world: WorldModel, clips: HeldOut, config: RolloutsConfig, *, context: int, sampler: SamplerConfig, seed: int
) -> Continuations:
    """The dreams of all clips after `context` real frames, sample i with seed `seed + i`, and the
    baselines."""
    horizon = min(world.whole_latents(1 + config.horizon), world.whole_latents(clips.frames.shape[1] - context + 1)) - 1
    future = slice(context, context + horizon)
    given, truth = clips.frames[:, :context], clips.frames[:, future]
    wrong = np.concatenate([clips.actions[:, : context - 1], clips.actions[clips.others(), context - 1 :]], axis=1)
    dreams = [world.imagine(given, clips.actions, horizon, sampler, seed + i) for i in range(config.samples)]
    baselines = {
        "copy_last_frame": given[:, -1:].expand_as(truth),
        "shuffled_actions": world.imagine(given, wrong, horizon, sampler, seed),
        "decoded_truth": decode(world.tokenizer, clips)[:, future],
    }
    return Continuations(context, truth, dreams, baselines)


def _compare_frames(
    section: Section, clips: HeldOut, continuations: Continuations, name: str, frame_metric: FrameMetric
) -> None:
    """Curves of one frame metric: of dreams and baselines, and of the gains of dreams over
    baselines."""
    samples = np.stack([frame_metric.per_frame(dream, continuations.truth) for dream in continuations.dreams])
    values = {"dream": samples.mean(0)}
    if len(samples) > 1:
        values[f"best_of_{len(samples)}"] = best(samples, frame_metric)
    values |= {
        source: frame_metric.per_frame(video, continuations.truth) for source, video in continuations.baselines.items()
    }
    found = {source: clips.unit_means(each) for source, each in values.items()}
    steps, resampler = range(1, 1 + samples.shape[2]), clips.resampler
    for source, each in found.items():
        section.curves[f"{name}/{source}"] = resampler.curve(steps, frame_metric.display, each)
    for source in ("copy_last_frame", "shuffled_actions"):
        gain = resampler.curve(steps, frame_metric.gain, found["dream"], found[source])
        section.curves[f"{name}_gained/{source}"] = gain


def _follow_objects(section: Section, clips: HeldOut, continuations: Continuations) -> None:
    """The share of small objects that the dream and the tokenizer keep; nothing where the background moves."""
    still = background(clips.frames)
    area = object_area(continuations.truth, still)
    if not are_small(area) or (area.mean(0) == 0).any():
        return
    videos = {"dream": continuations.dreams[0], "decoded_truth": continuations.baselines["decoded_truth"]}
    for source, video in videos.items():
        columns = (clips.unit_means(each) for each in kept(video, continuations.truth, still))
        curve = clips.resampler.curve(range(1, 1 + area.shape[1]), share, *columns)
        section.curves[f"small_objects/{source}"] = curve


def best(samples: Float[np.ndarray, "m n t"], frame_metric: FrameMetric) -> Float[np.ndarray, "n t"]:
    """For each clip, the sample that is most similar to the truth over all frames."""
    chosen = (frame_metric.sign * frame_metric.display(samples.mean(2))).argmax(0)
    return samples[chosen, np.arange(samples.shape[1])]


def _pick(section: Section, at: tuple[int, ...]) -> None:
    """Metrics: all curves at these frames ahead, as far as they go."""
    for name, found in section.curves.items():
        section.metrics |= {f"{name}@{step}": found.at(step) for step in at if step in found.steps}


def unmoved(continuations: Continuations) -> Bool[np.ndarray, "t"]:
    """The frames ahead at which the truth equals the last real frame, in every clip."""
    return (continuations.truth == continuations.baselines["copy_last_frame"]).all(-1).all(-1).all(-1).all(0).numpy()


def _mark_inapplicable(section: Section, clips: HeldOut, continuations: Continuations) -> None:
    """Mark the gains where nothing can be gained."""
    idle, no_others = unmoved(continuations), same_actions(clips)
    for name, metric in section.metrics.items():
        if "_gained/shuffled_actions@" in name:
            section.metrics[name] = metric.unless(no_others)
        elif "_gained/copy_last_frame@" in name and idle[int(name.rpartition("@")[2]) - 1]:
            section.metrics[name] = metric.unless(NOTHING_MOVED)


def _compare_sets(section: Section, clips: HeldOut, continuations: Continuations, name: str, extract: Features) -> None:
    """Distances between the last frames of the truth and of each dream and baseline."""
    resampler, real = Resampler.by_episode(clips.episodes), extract(continuations.truth[:, -SET_FRAMES:])
    for source, video in {"dream": continuations.dreams[0], **continuations.baselines}.items():
        section.metrics[f"{name}/{source}"] = frechet_interval(resampler, extract(video[:, -SET_FRAMES:]), real)


def _show(section: Section, clips: HeldOut, continuations: Continuations, info: WorldInfo) -> None:
    """A contact sheet of the first clip with its last given frame and its actions, and some clips as videos."""
    truth, wrong = continuations.truth, continuations.baselines["shuffled_actions"]
    videos = {"real": truth, "dream": continuations.dreams[0], "other actions": wrong}
    moments = np.unique(np.linspace(0, truth.shape[1] - 1, COLUMNS).round().astype(int))
    context = continuations.context
    rows = [torch.cat([clips.frames[0, context - 1 : context], video[0, moments]]) for video in videos.values()]
    titles, taken = ["0", *(f"+{moment + 1}" for moment in moments)], clips.actions[0, context - 1 :]
    words = [action_words(taken[m], info.action_space, info.action_names) for m in moments]
    notes = {} if info.action_space is None else {"action": ["", *words]}
    sheet = contact_sheet(rows, list(videos), COLUMNS + 1, titles, notes, [0])
    section.images["a dream beside what truly happened, by frames ahead"] = sheet
    for clip in np.unique(np.linspace(0, len(truth) - 1, VIDEOS + 1).astype(int)[:VIDEOS]):
        name = f"clip {clip + 1}: {', '.join(videos)}"
        section.clips[name] = np.concatenate([video[clip].numpy() for video in videos.values()], axis=2)

"""All measurements of a world on held-out episodes, section by section, and the numbers as JSON."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium

from worldmodel.data.clips.split import train_validation_split
from worldmodel.data.clips.token_batches import TokenBatches
from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.evaluate.baselines.coders import CopyCoder, ResidualCoder
from worldmodel.evaluate.baselines.marginal_action import ActionMarginal
from worldmodel.evaluate.measures.frechet import Features, encoder_features, i3d_features
from worldmodel.evaluate.measures.images import FrameMetric, make_frame_metrics
from worldmodel.evaluate.output.catalogue import metric_info
from worldmodel.evaluate.sections.action_recovery import InverseConfig, action_recovery
from worldmodel.evaluate.sections.control import ControlConfig, controllability, counterfactuals
from worldmodel.evaluate.sections.drift import DriftConfig, drift
from worldmodel.evaluate.sections.fidelity import fidelity
from worldmodel.evaluate.sections.horizon import HorizonConfig, trust_horizon
from worldmodel.evaluate.sections.likelihood import Baselines, token_likelihood
from worldmodel.evaluate.sections.memory import MemoryConfig, turning_back
from worldmodel.evaluate.sections.reward_termination import reward_termination
from worldmodel.evaluate.sections.rollouts import RolloutsConfig, rollouts
from worldmodel.evaluate.statistics.results import Interval, Section
from worldmodel.evaluate.testbed.dream_clips import DreamSettings
from worldmodel.evaluate.testbed.held_out import HeldOut, decode, reach, sample_clips
from worldmodel.io.config import LARGEST, check_range
from worldmodel.io.progress import progress
from worldmodel.tokenizer import latents_of
from worldmodel.world import WorldModel

CLIP = 8  # latents of the clips for reconstruction and likelihood
BATCH = 8  # clips in a batch, for rewards and ends
RESIDUAL_CLIPS = 64  # clips of training episodes whose decoding errors are counted: millions of pixels


@dataclass
class ReportConfig(DreamSettings):
    """How much is measured."""

    clips: int = 384
    """Clips of 8 latents, for tokenizer and prior."""
    near: RolloutsConfig = field(default_factory=RolloutsConfig)
    """Dreams near the given frames."""
    far: RolloutsConfig = field(default_factory=lambda: RolloutsConfig(24, 300, 1, (50, 100, 200, 300)))
    """Dreams far from the given frames."""
    control: ControlConfig = field(default_factory=ControlConfig)
    """Dreams under true, random and other actions."""
    inverse: InverseConfig = field(default_factory=InverseConfig)
    """Recognition of the actions in dreams."""
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    """Dreams that turn away and back."""
    drift: DriftConfig = field(default_factory=DriftConfig)
    """Dreams that run freely for many steps."""
    trust: HorizonConfig = field(default_factory=HorizonConfig)
    """Measurement of the trust horizon."""
    lpips: Path | None = None
    """safetensors file with the weights of LPIPS (see `Lpips`), made of lpips.LPIPS(net="alex").state_dict(); without
    it, its metrics are absent."""
    i3d: Path | None = None
    """TorchScript file with the network of FVD (see `i3d_features`); without it, its metrics are absent. The file is a
    program, so take it only from someone you trust."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, 1, LARGEST, "clips")


@dataclass(frozen=True)
class EvaluationContext:
    """A world under test, the episodes it is compared with, and how much is measured.

    make_env: makes the environment that the world imitates; None if it cannot be played.
    """

    world: WorldModel
    store: EpisodeStore
    tokens: TokenStore
    config: ReportConfig
    make_env: Callable[[], gymnasium.Env] | None = None

    @cached_property
    def train(self) -> list[int]:
        """The episodes that the world learned from; baselines learn from them too."""
        return train_validation_split(self.store)[0]

    @cached_property
    def held_out(self) -> list[int]:
        """The episodes that the world never saw."""
        return train_validation_split(self.store)[1]

    @cached_property
    def frame_metrics(self) -> dict[str, FrameMetric]:
        """The ways to compare frames."""
        return make_frame_metrics(self.config.lpips, self.world.info.frame_shape)

    @cached_property
    def features(self) -> dict[str, Features]:
        """The ways to compare sets of clips."""
        own = {"frechet_encoder": encoder_features(self.world.tokenizer, self.clips.frames)}
        return own if self.config.i3d is None else own | {"fvd": i3d_features(self.config.i3d)}

    @cached_property
    def clips(self) -> HeldOut:
        """The clips for tokenizer and prior."""
        return self._sample_clips(self.held_out, CLIP, self.config.clips)

    def baselines(self) -> Baselines:
        """What the prior is compared with, learned from training episodes."""
        seen = self._sample_clips(self.train, CLIP, RESIDUAL_CLIPS)
        residual = ResidualCoder.learn(seen.frames.numpy(), decode(self.world.tokenizer, seen).numpy())
        action_marginal = ActionMarginal.learn(self.store, self.train, self.tokens.info.time_stride)
        return Baselines(CopyCoder.learn(self.tokens, self.train), residual, action_marginal)

    @property
    def batches(self) -> int:
        """The number of batches of `latents` with as many clips as `clips`."""
        return -(-self.config.clips // BATCH)

    def latents(self) -> TokenBatches:
        """Batches for rewards and ends: ends occur in them as often as in episodes."""
        shape = {"length": CLIP, "batch_size": BATCH, "seed": self.config.seed, "encoder": self.world.encoder}
        return TokenBatches(self.tokens, self.store, self.held_out, **shape)

    def dreams(self, config: RolloutsConfig) -> Section:
        """Rollouts as far as the held-out episodes reach."""
        context = self.world.whole_latents(self.config.context)
        given, stride = latents_of(context, self.world.tokenizer.time_stride), self.tokens.info.time_stride
        horizon = max(1, reach(self.tokens, self.held_out, given + -(-config.horizon // stride)) - given)
        clips = self._sample_clips(self.held_out, given + horizon, config.clips, "report.context")
        how = {"context": context, "sampler": self.config.sampler, "seed": self.config.seed}
        section = rollouts(self.world, clips, config, **how, frame_metrics=self.frame_metrics, features=self.features)
        if horizon * stride < config.horizon:
            why = "half of the held-out episodes are shorter"
            section.notes.append(f"horizon: {horizon * stride} frames of the {config.horizon} asked for, as {why}")
        return section

    def with_simulator(self, measure: Callable[[Callable[[], gymnasium.Env]], Section], what: str) -> Section:
        """A section that needs the environment; only a note if there is none."""
        if self.make_env is None:
            return Section(notes=[f"{what}: left out, as there is no environment to play"])
        try:
            return measure(self.make_env)
        except ImportError as error:  # its engine is not installed
            return Section(notes=[f"{what}: left out: {error}"])

    def summary(self) -> str:
        """One paragraph on what was measured, and how."""
        info, codes = self.world.info, self.world.tokenizer.codes
        frame, grid = ("×".join(map(str, size)) for size in (info.frame_shape, self.world.tokenizer.grid))
        return (
            f"{info.env.get('name', 'Environment')}: frames of {frame} as {grid} tokens of {codes} codes. "
            f"{len(self.train)} episodes to learn from, {len(self.held_out)} held out to measure on, with "
            f"seed {self.config.seed}. Intervals are the middle 95 % of 10,000 bootstrap draws of whole episodes, or "
            "of single clips if there are fewer than 5 episodes; `resampled` says what is drawn for each metric."
        )

    def _sample_clips(self, episodes: Sequence[int], latents: int, count: int, setting: str = "") -> HeldOut:
        how = {"seed": self.config.seed, "encoder": self.world.encoder, "setting": setting}
        return sample_clips(self.store, self.tokens, episodes, latents=latents, count=count, **how)


# One line per section. Names of metrics and curves start with their part, so all names in a report differ.
SECTIONS: dict[str, Callable[[EvaluationContext], Section]] = {
    "Tokenizer": lambda ctx: prefixed("tokenizer", fidelity(ctx.world.tokenizer, ctx.clips, ctx.frame_metrics)),
    "Prior": lambda ctx: prefixed("prior", token_likelihood(ctx.world, ctx.clips, ctx.baselines())),
    "Rewards and ends": lambda ctx: prefixed(
        "outcome", reward_termination(ctx.world.prior, ctx.latents(), ctx.batches)
    ),
    "Dreams": lambda ctx: prefixed("rollout", ctx.dreams(ctx.config.near)),
    "Long dreams": lambda ctx: prefixed("long_rollout", ctx.dreams(ctx.config.far)),
    "Trust horizon": lambda ctx: trust_horizon(ctx.world, ctx.store, ctx.held_out, ctx.config.trust, ctx.config),
    "Control": lambda ctx: controllability(ctx.world, ctx.store, ctx.held_out, ctx.config.control, ctx.config),
    "Other actions": lambda ctx: ctx.with_simulator(
        lambda env: counterfactuals(ctx.world, env, ctx.config.control, ctx.config), "control"
    ),
    "Actions seen": lambda ctx: action_recovery(
        ctx.world, ctx.store, ctx.train, ctx.held_out, ctx.config.inverse, ctx.config
    ),
    "Memory": lambda ctx: ctx.with_simulator(
        lambda env: turning_back(ctx.world, env, ctx.config.memory, ctx.config), "memory"
    ),
    "Drift": lambda ctx: drift(ctx.world, ctx.store, ctx.tokens, ctx.train, ctx.held_out, ctx.config.drift, ctx.config),
}


def measure(ctx: EvaluationContext, show: bool = True) -> dict[str, Section]:
    """Every section by its title.

    Raises: ValueError if no held-out episode is long enough, or a file with weights is wrong.
    """
    shown = progress(SECTIONS.items(), "evaluate", total=len(SECTIONS), unit="section", shown=show)
    sections = {title: part(ctx) for title, part in shown}
    if "ssim" not in ctx.frame_metrics:
        sections["Dreams"].notes.append("ssim: left out, as frames are smaller than its window of 11×11 pixels")
    for file, name in ((ctx.config.lpips, "lpips"), (ctx.config.i3d, "fvd")):
        if file is None:
            sections["Dreams"].notes.append(f"{name}: absent, as there is no file with its weights")
    return sections


def prefixed(part: str, section: Section) -> Section:
    """The same section with `part/` before the name of each metric and curve."""
    metrics, curves = (
        {f"{part}/{name}": value for name, value in named.items()} for named in (section.metrics, section.curves)
    )
    return replace(section, metrics=metrics, curves=curves)


def to_json(sections: Mapping[str, Section]) -> dict[str, Any]:
    """All numbers: each metric (key `figures`) with its value, interval, unit, target if any, and
    what is resampled.

    If a metric means nothing, `not_applicable` beside its value has the reason. A metric without a
    value is only in the top-level `not_applicable`, with its reason. Values of curves that are not
    finite are null.
    """
    metrics, curves, absent = {}, {}, {}
    for section in sections.values():
        assert not metrics.keys() & section.metrics.keys(), "two sections have a metric of the same name"
        metrics |= {name: _metric_to_json(name, each) for name, each in section.metrics.items() if each.finite}
        absent |= {name: each.inapplicable for name, each in section.metrics.items() if not each.finite}
        curves |= {name: _finite_or_null(asdict(curve)) for name, curve in section.curves.items()}
    notes = [note for section in sections.values() for note in section.notes]
    return {"figures": metrics, "not_applicable": absent, "curves": curves, "notes": notes}


def _metric_to_json(name: str, metric: Interval) -> dict[str, Any]:
    known = metric_info(name)
    values = {"value": metric.mean, "low": metric.low, "high": metric.high, "count": metric.count, "unit": known.unit}
    if metric.resampled:
        values["resampled"] = metric.resampled
    if metric.inapplicable:
        values["not_applicable"] = metric.inapplicable
    if known.target:
        values |= {"target": known.target, "reached": known.reached(metric)}
    return values


def _finite_or_null(values: Any) -> Any:
    """The same as strict JSON: null for infinities and NaN."""
    if isinstance(values, dict):
        return {name: _finite_or_null(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(_finite_or_null(value) for value in values)
    return None if isinstance(values, float) and not math.isfinite(values) else values

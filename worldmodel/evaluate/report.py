"""All that is measured of a world on held-out episodes, section by section, and its numbers as JSON."""

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
from worldmodel.evaluate.testbed.held_out import HeldOut, decode, draw, reach
from worldmodel.io.progress import progress
from worldmodel.prior import SamplerConfig
from worldmodel.tokenizer import latents_of
from worldmodel.world import WorldModel

CLIP = 8  # latents of the clips for reconstruction and likelihood
BATCH = 8  # clips in a batch of those for rewards and ends
RESIDUAL_CLIPS = 64  # of training episodes, that the errors of decoding are counted in: millions of pixels


@dataclass
class ReportConfig:
    """How much is measured: `clips` of 8 latents for tokenizer and prior; dreams near and far after `context` real
    frames; and what control, drift, memory and trust take. lpips, i3d: files with the weights of these networks (see
    `Lpips` and `i3d_features`), for their figures."""

    clips: int = 384
    context: int = 6
    near: RolloutsConfig = field(default_factory=RolloutsConfig)
    far: RolloutsConfig = field(default_factory=lambda: RolloutsConfig(24, 300, 1, (50, 100, 200, 300)))
    control: ControlConfig = field(default_factory=ControlConfig)
    inverse: InverseConfig = field(default_factory=InverseConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    trust: HorizonConfig = field(default_factory=HorizonConfig)
    seed: int = 0
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    lpips: Path | None = None
    i3d: Path | None = None


@dataclass(frozen=True)
class EvaluationContext:
    """What is under test: a world, the episodes that it may be compared with, and how much is measured.

    make_env: the environment that it imitates, where that can be played; some questions are put to it.
    """

    world: WorldModel
    store: EpisodeStore
    tokens: TokenStore
    config: ReportConfig
    make_env: Callable[[], gymnasium.Env] | None = None

    @cached_property
    def train(self) -> list[int]:
        """Episodes that the world learned from: what its rivals may learn from too."""
        return train_validation_split(self.store)[0]

    @cached_property
    def held_out(self) -> list[int]:
        """Episodes that it never saw."""
        return train_validation_split(self.store)[1]

    @cached_property
    def frame_metrics(self) -> dict[str, FrameMetric]:
        """How frames are compared."""
        return make_frame_metrics(self.config.lpips, self.world.info.frame_shape)

    @cached_property
    def features(self) -> dict[str, Features]:
        """How sets of clips are compared."""
        own = {"frechet_encoder": encoder_features(self.world.tokenizer, self.clips.frames)}
        return own if self.config.i3d is None else own | {"fvd": i3d_features(self.config.i3d)}

    @cached_property
    def clips(self) -> HeldOut:
        """Those for tokenizer and prior."""
        return self._draw(self.held_out, CLIP, self.config.clips)

    def baselines(self) -> Baselines:
        """What the prior has to beat, as the training episodes teach it."""
        seen = self._draw(self.train, CLIP, RESIDUAL_CLIPS)
        residual = ResidualCoder.learn(seen.frames.numpy(), decode(self.world.tokenizer, seen).numpy())
        action_marginal = ActionMarginal.learn(self.store, self.train, self.tokens.info.time_stride)
        return Baselines(CopyCoder.learn(self.tokens, self.train), residual, action_marginal)

    @property
    def batches(self) -> int:
        """Batches of `latents` that hold as many clips as `clips`."""
        return -(-self.config.clips // BATCH)

    def latents(self) -> TokenBatches:
        """Batches for rewards and ends: in these, ends come as often as they do in episodes."""
        shape = {"length": CLIP, "batch_size": BATCH, "seed": self.config.seed, "encoder": self.world.encoder}
        return TokenBatches(self.tokens, self.store, self.held_out, **shape)

    def dreams(self, config: RolloutsConfig) -> Section:
        """Rollouts as far as the held-out episodes reach."""
        context = self.world.whole_latents(self.config.context)
        given, stride = latents_of(context, self.world.tokenizer.time_stride), self.tokens.info.time_stride
        ahead = max(1, reach(self.tokens, self.held_out, given + -(-config.horizon // stride)) - given)
        clips = self._draw(self.held_out, given + ahead, config.clips, "report.context")
        how = {"context": context, "sampler": self.config.sampler, "seed": self.config.seed}
        section = rollouts(self.world, clips, config, **how, frame_metrics=self.frame_metrics, features=self.features)
        if ahead * stride < config.horizon:
            why = "half of the held-out episodes are shorter"
            section.notes.append(f"horizon: {ahead * stride} frames of the {config.horizon} asked for, as {why}")
        return section

    def with_simulator(self, measure: Callable[[Callable[[], gymnasium.Env]], Section], what: str) -> Section:
        """A section that asks the environment; where it cannot be had: a note alone."""
        if self.make_env is None:
            return Section(notes=[f"{what}: left out, as there is no environment to play"])
        try:
            return measure(self.make_env)
        except ImportError as error:  # its engine is not on this machine
            return Section(notes=[f"{what}: left out: {error}"])

    def summary(self) -> str:
        """What was compared with what, in a line."""
        info, codes = self.world.info, self.world.tokenizer.codes
        frame, grid = ("×".join(map(str, size)) for size in (info.frame_shape, self.world.tokenizer.grid))
        return (
            f"{info.env.get('name', 'Environment')}: frames of {frame} as {grid} tokens of {codes} codes. "
            f"{len(self.train)} episodes to learn from; measured on {len(self.held_out)} held out, on arrays, with "
            f"seed {self.config.seed}. Intervals are the middle 95 % of 10,000 bootstrap draws of episodes, or of "
            "clips where there are fewer than 5 episodes."
        )

    def _draw(self, episodes: Sequence[int], latents: int, count: int, setting: str = "") -> HeldOut:
        how = {"seed": self.config.seed, "encoder": self.world.encoder, "setting": setting}
        return draw(self.store, self.tokens, episodes, latents=latents, count=count, **how)


# A section is a line. Names of figures and curves begin with their part, so that all of a report's differ.
SECTIONS: dict[str, Callable[[EvaluationContext], Section]] = {
    "Tokenizer": lambda ctx: prefixed("tokenizer", fidelity(ctx.world.tokenizer, ctx.clips, ctx.frame_metrics)),
    "Prior": lambda ctx: prefixed("prior", token_likelihood(ctx.world, ctx.clips, ctx.baselines())),
    "Rewards and ends": lambda ctx: prefixed(
        "outcome", reward_termination(ctx.world.prior, ctx.latents(), ctx.batches)
    ),
    "Dreams": lambda ctx: prefixed("rollout", ctx.dreams(ctx.config.near)),
    "Long dreams": lambda ctx: prefixed("long_rollout", ctx.dreams(ctx.config.far)),
    "Trust horizon": lambda ctx: trust_horizon(ctx.world, ctx.store, ctx.held_out, ctx.config.trust),
    "Control": lambda ctx: controllability(ctx.world, ctx.store, ctx.held_out, ctx.config.control),
    "Other actions": lambda ctx: ctx.with_simulator(
        lambda env: counterfactuals(ctx.world, env, ctx.config.control), "control"
    ),
    "Actions seen": lambda ctx: action_recovery(ctx.world, ctx.store, ctx.train, ctx.held_out, ctx.config.inverse),
    "Memory": lambda ctx: ctx.with_simulator(lambda env: turning_back(ctx.world, env, ctx.config.memory), "memory"),
    "Drift": lambda ctx: drift(ctx.world, ctx.store, ctx.tokens, ctx.train, ctx.held_out, ctx.config.drift),
}


def measure(case: EvaluationContext, show: bool = True) -> dict[str, Section]:
    """Every section by its title.

    Raises: ValueError when no held-out episode is long enough, or a file with weights is not what it should be.
    """
    shown = progress(SECTIONS.items(), "evaluate", total=len(SECTIONS), unit="section", shown=show)
    sections = {title: part(case) for title, part in shown}
    if "ssim" not in case.frame_metrics:
        sections["Dreams"].notes.append("ssim: left out, as frames are smaller than its window of 11 pixels a side")
    for file, name in ((case.config.lpips, "lpips"), (case.config.i3d, "fvd")):
        if file is None:
            sections["Dreams"].notes.append(f"{name}: absent, as no file with its weights is given")
    return sections


def prefixed(part: str, section: Section) -> Section:
    """The same with `part/` before the name of each figure and curve."""
    metrics, curves = (
        {f"{part}/{name}": value for name, value in named.items()} for named in (section.metrics, section.curves)
    )
    return replace(section, metrics=metrics, curves=curves)


def to_json(sections: Mapping[str, Section]) -> dict[str, Any]:
    """All numbers: each figure with its value, interval, count of samples and unit, and its target where it has one.

    Where a figure means nothing, `not_applicable` beside its value has the reason; those without any value are not
    among the figures, but have their reasons in `not_applicable`. A curve is null where it is not a finite number.
    """
    metrics, curves, absent = {}, {}, {}
    for section in sections.values():
        assert not metrics.keys() & section.metrics.keys(), "two sections name their figures alike"
        metrics |= {name: _metric_to_json(name, each) for name, each in section.metrics.items() if each.finite}
        absent |= {name: each.inapplicable for name, each in section.metrics.items() if not each.finite}
        curves |= {name: _finite_or_null(asdict(curve)) for name, curve in section.curves.items()}
    notes = [note for section in sections.values() for note in section.notes]
    return {"figures": metrics, "not_applicable": absent, "curves": curves, "notes": notes}


def _metric_to_json(name: str, metric: Interval) -> dict[str, Any]:
    known = metric_info(name)
    values = {"value": metric.mean, "low": metric.low, "high": metric.high, "count": metric.count, "unit": known.unit}
    if metric.inapplicable:
        values["not_applicable"] = metric.inapplicable
    if known.target:
        values |= {"target": known.target, "reached": known.reached(metric)}
    return values


def _finite_or_null(values: Any) -> Any:
    """The same as strict JSON has it, which knows neither infinities nor what is not a number."""
    if isinstance(values, dict):
        return {name: _finite_or_null(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(_finite_or_null(value) for value in values)
    return None if isinstance(values, float) and not math.isfinite(values) else values

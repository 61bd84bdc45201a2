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
from worldmodel.evaluate.baselines.marginal_action import AnyAction
from worldmodel.evaluate.measures.frechet import Features, encoder_features, i3d_features
from worldmodel.evaluate.measures.images import Likeness, likenesses
from worldmodel.evaluate.output.catalogue import about
from worldmodel.evaluate.sections.action_recovery import InverseConfig, action_recovery
from worldmodel.evaluate.sections.control import ControlConfig, controllability, counterfactuals
from worldmodel.evaluate.sections.drift import DriftConfig, drift
from worldmodel.evaluate.sections.fidelity import fidelity
from worldmodel.evaluate.sections.horizon import HorizonConfig, trust_horizon
from worldmodel.evaluate.sections.likelihood import Rivals, surprise
from worldmodel.evaluate.sections.memory import MemoryConfig, turning_back
from worldmodel.evaluate.sections.reward_termination import foresight
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
class Case:
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
    def alike(self) -> dict[str, Likeness]:
        """How frames are compared."""
        return likenesses(self.config.lpips, self.world.info.frame_shape)

    @cached_property
    def features(self) -> dict[str, Features]:
        """How sets of clips are compared."""
        own = {"frechet_encoder": encoder_features(self.world.tokenizer, self.clips.frames)}
        return own if self.config.i3d is None else own | {"fvd": i3d_features(self.config.i3d)}

    @cached_property
    def clips(self) -> HeldOut:
        """Those for tokenizer and prior."""
        return self._draw(self.held_out, CLIP, self.config.clips)

    def rivals(self) -> Rivals:
        """What the prior has to beat, as the training episodes teach it."""
        seen = self._draw(self.train, CLIP, RESIDUAL_CLIPS)
        residual = ResidualCoder.learn(seen.frames.numpy(), decode(self.world.tokenizer, seen).numpy())
        any_action = AnyAction.learn(self.store, self.train, self.tokens.info.time_stride)
        return Rivals(CopyCoder.learn(self.tokens, self.train), residual, any_action)

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
        section = rollouts(self.world, clips, config, **how, alike=self.alike, features=self.features)
        if ahead * stride < config.horizon:
            why = "half of the held-out episodes are shorter"
            section.notes.append(f"horizon: {ahead * stride} frames of the {config.horizon} asked for, as {why}")
        return section

    def played(self, measure: Callable[[Callable[[], gymnasium.Env]], Section], what: str) -> Section:
        """A section that asks the environment; where it cannot be had: a note alone."""
        if self.make_env is None:
            return Section(notes=[f"{what}: left out, as there is no environment to play"])
        try:
            return measure(self.make_env)
        except ImportError as error:  # its engine is not on this machine
            return Section(notes=[f"{what}: left out: {error}"])

    def words(self) -> str:
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
PARTS: dict[str, Callable[[Case], Section]] = {
    "Tokenizer": lambda its: under("tokenizer", fidelity(its.world.tokenizer, its.clips, its.alike)),
    "Prior": lambda its: under("prior", surprise(its.world, its.clips, its.rivals())),
    "Rewards and ends": lambda its: under("outcome", foresight(its.world.prior, its.latents(), its.batches)),
    "Dreams": lambda its: under("rollout", its.dreams(its.config.near)),
    "Long dreams": lambda its: under("long_rollout", its.dreams(its.config.far)),
    "Trust horizon": lambda its: trust_horizon(its.world, its.store, its.held_out, its.config.trust),
    "Control": lambda its: controllability(its.world, its.store, its.held_out, its.config.control),
    "Other actions": lambda its: its.played(lambda env: counterfactuals(its.world, env, its.config.control), "control"),
    "Actions seen": lambda its: action_recovery(its.world, its.store, its.train, its.held_out, its.config.inverse),
    "Memory": lambda its: its.played(lambda env: turning_back(its.world, env, its.config.memory), "memory"),
    "Drift": lambda its: drift(its.world, its.store, its.tokens, its.train, its.held_out, its.config.drift),
}


def measure(case: Case, show: bool = True) -> dict[str, Section]:
    """Every section by its title.

    Raises: ValueError when no held-out episode is long enough, or a file with weights is not what it should be.
    """
    shown = progress(PARTS.items(), "evaluate", total=len(PARTS), unit="section", shown=show)
    sections = {title: part(case) for title, part in shown}
    if "ssim" not in case.alike:
        sections["Dreams"].notes.append("ssim: left out, as frames are smaller than its window of 11 pixels a side")
    for file, name in ((case.config.lpips, "lpips"), (case.config.i3d, "fvd")):
        if file is None:
            sections["Dreams"].notes.append(f"{name}: absent, as no file with its weights is given")
    return sections


def under(part: str, section: Section) -> Section:
    """The same with `part/` before the name of each figure and curve."""
    figures, curves = (
        {f"{part}/{name}": value for name, value in named.items()} for named in (section.figures, section.curves)
    )
    return replace(section, figures=figures, curves=curves)


def to_json(sections: Mapping[str, Section]) -> dict[str, Any]:
    """All numbers: each figure with its value, interval, count of samples and unit, and its target where it has one.

    Where a figure means nothing, `not_applicable` beside its value has the reason; those without any value are not
    among the figures, but have their reasons in `not_applicable`. A curve is null where it is not a finite number.
    """
    figures, curves, absent = {}, {}, {}
    for section in sections.values():
        assert not figures.keys() & section.figures.keys(), "two sections name their figures alike"
        figures |= {name: _described(name, each) for name, each in section.figures.items() if each.finite}
        absent |= {name: each.inapplicable for name, each in section.figures.items() if not each.finite}
        curves |= {name: _strict(asdict(curve)) for name, curve in section.curves.items()}
    notes = [note for section in sections.values() for note in section.notes]
    return {"figures": figures, "not_applicable": absent, "curves": curves, "notes": notes}


def _described(name: str, figure: Interval) -> dict[str, Any]:
    known = about(name)
    values = {"value": figure.mean, "low": figure.low, "high": figure.high, "count": figure.count, "unit": known.unit}
    if figure.inapplicable:
        values["not_applicable"] = figure.inapplicable
    if known.target:
        values |= {"target": known.target, "reached": known.reached(figure)}
    return values


def _strict(values: Any) -> Any:
    """The same as strict JSON has it, which knows neither infinities nor what is not a number."""
    if isinstance(values, dict):
        return {name: _strict(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(_strict(value) for value in values)
    return None if isinstance(values, float) and not math.isfinite(values) else values

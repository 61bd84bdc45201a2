"""Whether dreams follow their actions: against random ones, and against what the simulator does under others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Discrete

from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.evaluate.statistics.bootstrap import curve, interval
from worldmodel.evaluate.statistics.results import Section
from worldmodel.evaluate.testbed.dream_clips import (
    WorldProtocol,
    clips_of,
    decibels,
    errors,
    gain,
    picture,
    random_actions,
    stride_of,
)
from worldmodel.evaluate.testbed.simulator import Moment, dream_after, is_reproducible, moments, true_frames_after
from worldmodel.io.video import contact_sheet
from worldmodel.prior import SamplerConfig


@dataclass
class ControlConfig:
    """How much is dreamed to tell control.

    clips: held-out clips, each dreamed twice. context: real frames given. steps: frames ahead at which figures are
    given (4 is Genie's). branches: moments of the simulator from which two futures are played, after `walk` steps.
    """

    clips: int = 64
    context: int = 6
    steps: tuple[int, ...] = (1, 4, 10)
    branches: int = 32
    walk: int = 20
    seed: int = 0
    sampler: SamplerConfig = field(default_factory=SamplerConfig)

    def __post_init__(self) -> None:
        if min(self.steps, default=0) < 1 or min(self.clips, self.branches) < 1:
            raise ValueError(f"control: expected steps, clips and branches of 1 or more, got {self}")


def controllability(
    world: WorldProtocol, store: EpisodeStore, episodes: Sequence[int], config: ControlConfig | None = None
) -> Section:
    """ΔtPSNR of Genie (Bruce et al. 2024, arXiv 2402.15391, section 3): PSNR(x_t, x̂_t) − PSNR(x_t, x̂'_t) in dB, where
    x̂ is dreamed under the true actions and x̂' under random ones. Nought: the actions do nothing.

    Random actions are uniform over the action space and new at every step. Both dreams of a clip have one seed, so
    chance is no difference between them. Intervals are paired over clips.
    Raises: ValueError when the episodes are too short for the context.
    """
    config = config or ControlConfig()
    if world.info.action_space is None:
        return Section(notes=["control: left out, as this world has no actions"])
    if isinstance(world.info.action_space, Discrete) and world.info.action_space.n < 2:
        return Section(notes=["control: left out, as this world has one action alone"])
    clips = clips_of(
        world,
        store,
        episodes,
        context=config.context,
        horizon=max(config.steps),
        clips=config.clips,
        seed=config.seed,
    )
    count, steps = clips.actions.shape[:2]
    drawn = random_actions(world.info.reachable, count, steps, config.seed)
    told, blind = (clips.dream(world, a, config.sampler, config.seed) for a in (clips.actions, drawn))
    section = _compared("control/delta_psnr", errors(told, clips.truth), errors(blind, clips.truth), config.steps)
    rows = [picture(video[0]) for video in (clips.truth, told, blind)]
    section.pictures["control/random_actions"] = _sheet(rows, ["real", "true actions", "random actions"])
    return section


def counterfactuals(
    world: WorldProtocol, make_env: Callable[[], gymnasium.Env], config: ControlConfig | None = None
) -> Section:
    """What the simulator does when, at one moment, another action is taken: does the dream know?

    From each moment two actions are held: the true frames under the other one are compared with the dream under the
    other one, and with the dream under the original. The gain, in dB, is what knowing the action is worth; the curve
    of the two truths, how far apart they are. Without an environment that repeats itself: a note alone.
    """
    config = config or ControlConfig()
    space = world.info.action_space
    if not isinstance(space, Discrete) or space.n < 2:
        return Section(notes=[f"counterfactuals: left out, as they need discrete actions; these are {space}"])
    env = make_env()
    try:
        found = moments(env, config.branches, max(config.walk, config.context), config.seed)
        if not found or not is_reproducible(env, found[0]):
            why = "its seed and actions do not lead to the same frames again" if found else "its episodes are too short"
            return Section(notes=[f"counterfactuals: left out of this environment: {why}"])
        return _judge(world, env, found, space, config)
    finally:
        env.close()


def _judge(
    world: WorldProtocol, env: gymnasium.Env, found: list[Moment], space: Discrete, config: ControlConfig
) -> Section:
    """Both futures of each moment, real and dreamed."""
    rng, stride = np.random.default_rng(config.seed), stride_of(world)
    horizon = -(-max(config.steps) // stride) * stride
    pairs = [_two_actions(space, rng, horizon) for _ in found]
    real = [[true_frames_after(env, moment, held) for held in pair] for moment, pair in zip(found, pairs, strict=True)]
    whole = [i for i, both in enumerate(real) if min(map(len, both)) == horizon]
    if not whole:
        return Section(notes=["counterfactuals: left out, as every episode ended on the way"])
    there, sampler = [found[i] for i in whole], config.sampler
    first, other = (
        dream_after(world, there, [pairs[i][k] for i in whole], config.context, sampler, config.seed) for k in (0, 1)
    )
    truths = [torch.from_numpy(np.stack([real[i][k] for i in whole])) for k in (0, 1)]
    told, blind = errors(other, truths[1]), errors(first, truths[1])
    section = _compared("control/counterfactual_gain", told, blind, config.steps)
    apart = errors(truths[0], truths[1])
    for step in config.steps:
        name = f"control/counterfactual_gain@{step}"
        if name in section.metrics and not apart[:, step - 1].any():
            section.metrics[name] = section.metrics[name].unless("both actions truly led to the same frame")
    section.curves["control/counterfactual_truths"] = curve(range(1, horizon + 1), decibels, apart)
    rows = [picture(video[0]) for video in (truths[0], truths[1], other, first)]
    section.pictures["control/counterfactual"] = _sheet(rows, ["real", "real, other", "dream, other", "dream"])
    return section


def _two_actions(space: Discrete, rng: np.random.Generator, steps: int) -> np.ndarray:
    """One action, and another one, each held: `2 t`."""
    one = rng.integers(space.n)
    both = np.array([one, (one + rng.integers(1, space.n)) % space.n])
    return np.repeat((space.start + both).astype(space.dtype)[:, None], steps, axis=1)


def _compared(name: str, better: np.ndarray, worse: np.ndarray, steps: Sequence[int]) -> Section:
    """By how much one dream is nearer to the truth than another, in dB, from squared errors `n t` of both."""
    reach = better.shape[1]
    section = Section(curves={name: curve(range(1, reach + 1), gain, worse, better)})
    for step in steps:
        if step <= reach:
            section.metrics[f"{name}@{step}"] = interval(gain, worse[:, step - 1], better[:, step - 1])
    for which, error in ((f"{name}/told", better), (f"{name}/blind", worse)):
        section.curves[which] = curve(range(1, reach + 1), decibels, error)
    return section


def _sheet(rows: list[np.ndarray], labels: list[str]) -> np.ndarray:
    """Videos below each other; above each column, how many frames ahead it is."""
    return contact_sheet(rows, labels, titles=[str(n + 1) for n in range(len(rows[0]))])

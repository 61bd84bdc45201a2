"""Whether dreams follow their actions: against random ones, and against the simulator under other
actions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Discrete

from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.evaluate.statistics.bootstrap import Resampler
from worldmodel.evaluate.statistics.results import Section
from worldmodel.evaluate.testbed.dream_clips import (
    DreamSettings,
    WorldProtocol,
    clips_of,
    decibels,
    errors,
    gain,
    random_actions,
    rgb_array,
)
from worldmodel.evaluate.testbed.simulator import (
    Moment,
    dream_after,
    is_reproducible,
    moments,
    true_frames_after,
)
from worldmodel.io.config import LARGEST, check_range
from worldmodel.io.video import contact_sheet


@dataclass
class ControlConfig:
    """How much is dreamed to measure control."""

    clips: int = 64
    """Held-out clips, each dreamed under true and under random actions."""
    steps: tuple[int, ...] = (1, 4, 10)
    """Frames ahead at which metrics are given (Genie uses 4)."""
    branches: int = 32
    """Moments of the simulator from which two futures are played."""
    walk: int = 20
    """Steps from the start of an episode to its moment."""

    def __post_init__(self) -> None:
        check_range(self, 1, LARGEST, "clips", "steps", "branches")
        check_range(self, 0, LARGEST, "walk")
        if not self.steps:
            raise ValueError("steps: expected at least one number of frames, got none")


def controllability(
    world: WorldProtocol,
    store: EpisodeStore,
    episodes: Sequence[int],
    config: ControlConfig | None = None,
    dreams: DreamSettings | None = None,
) -> Section:
    """ΔtPSNR of Genie (Bruce et al. 2024, arXiv 2402.15391, section 3): PSNR(x_t, x̂_t) − PSNR(x_t,
    x̂'_t) in dB.

    x̂ is dreamed under the true actions and x̂' under random ones, uniform over the action space
    and new at every step. 0 means that actions have no effect. Both dreams of a clip have the same
    seed, so they differ by their actions alone. Intervals draw episodes with all their clips.

    Raises: ValueError if the episodes are too short for the context.
    """
    config, dreams = config or ControlConfig(), dreams or DreamSettings()
    if world.info.action_space is None:
        return Section(notes=["control: left out, as this world has no actions"])
    if isinstance(world.info.action_space, Discrete) and world.info.action_space.n < 2:
        return Section(notes=["control: left out, as this world has only one action"])
    clips = clips_of(
        world,
        store,
        episodes,
        context=dreams.context,
        horizon=max(config.steps),
        clips=config.clips,
        seed=dreams.seed,
    )
    count, steps = clips.actions.shape[:2]
    drawn = random_actions(world.info.reachable, count, steps, dreams.seed)
    right, wrong = (clips.dream(world, a, dreams.sampler, dreams.seed) for a in (clips.actions, drawn))
    better, worse = errors(right, clips.truth), errors(wrong, clips.truth)
    section = _compared("control/delta_psnr", clips.resampler, better, worse, config.steps)
    rows = [rgb_array(video[0]) for video in (clips.truth, right, wrong)]
    section.images["control/random_actions"] = _sheet(rows, ["real", "true actions", "random actions"])
    return section


def counterfactuals(
    world: WorldProtocol,
    make_env: Callable[[], gymnasium.Env],
    config: ControlConfig | None = None,
    dreams: DreamSettings | None = None,
) -> Section:
    """Whether the dream shows what the simulator does if another action is taken at one moment.

    From each moment two actions are held. The true frames under the other action are compared with
    the dream under the other action, and with the dream under the original one. The gain, in dB, is
    the value of knowing the action; the curve of the two truths shows how far apart they are. Each
    moment is of an episode of its own, and intervals draw these. An environment that does not
    repeat itself gives only a note.
    """
    config, dreams = config or ControlConfig(), dreams or DreamSettings()
    space = world.info.action_space
    if not isinstance(space, Discrete) or space.n < 2:
        return Section(notes=[f"counterfactuals: left out, as they need discrete actions; these are {space}"])
    env = make_env()
    try:
        found = moments(env, config.branches, max(config.walk, dreams.context), dreams.seed)
        if not found or not is_reproducible(env, found[0]):
            reason = (
                "its seed and actions do not lead to the same frames again" if found else "its episodes are too short"
            )
            return Section(notes=[f"counterfactuals: left out of this environment: {reason}"])
        return _counterfactuals(world, env, found, space, config, dreams)
    finally:
        env.close()


def _counterfactuals(
    world: WorldProtocol,
    env: gymnasium.Env,
    found: list[Moment],
    space: Discrete,
    config: ControlConfig,
    dreams: DreamSettings,
) -> Section:
    """Both futures of each moment, real and dreamed."""
    rng, stride = np.random.default_rng(dreams.seed), world.frames_per_step
    horizon = -(-max(config.steps) // stride) * stride
    pairs = [_two_actions(space, rng, horizon) for _ in found]
    real = [[true_frames_after(env, moment, held) for held in pair] for moment, pair in zip(found, pairs, strict=True)]
    whole = [i for i, both in enumerate(real) if min(map(len, both)) == horizon]
    if not whole:
        return Section(notes=["counterfactuals: left out, as every episode ended before the horizon"])
    there, sampler = [found[i] for i in whole], dreams.sampler
    first, other = (
        dream_after(world, there, [pairs[i][k] for i in whole], dreams.context, sampler, dreams.seed) for k in (0, 1)
    )
    truths = [torch.from_numpy(np.stack([real[i][k] for i in whole])) for k in (0, 1)]
    return _compare_futures(truths, first, other, config.steps)


def _compare_futures(
    truths: list[torch.Tensor], first: torch.Tensor, other: torch.Tensor, steps: Sequence[int]
) -> Section:
    """Metrics of two true futures, and the dreams of both."""
    resampler, apart = Resampler.by_row(len(first), "moments of the simulator"), errors(*truths)
    better, worse = errors(other, truths[1]), errors(first, truths[1])
    section = _compared("control/counterfactual_gain", resampler, better, worse, steps)
    for step in steps:
        name = f"control/counterfactual_gain@{step}"
        if name in section.metrics and not apart[:, step - 1].any():
            section.metrics[name] = section.metrics[name].unless("both actions truly led to the same frame")
    steps_ahead = range(1, 1 + apart.shape[1])
    section.curves["control/counterfactual_truths"] = resampler.curve(steps_ahead, decibels, apart)
    rows = [rgb_array(video[0]) for video in (truths[0], truths[1], other, first)]
    section.images["control/counterfactual"] = _sheet(rows, ["real", "real, other", "dream, other", "dream"])
    return section


def _two_actions(space: Discrete, rng: np.random.Generator, steps: int) -> np.ndarray:
    """One action, and another one, each held: `2 t`."""
    one = rng.integers(space.n)
    both = np.array([one, (one + rng.integers(1, space.n)) % space.n])
    return np.repeat((space.start + both).astype(space.dtype)[:, None], steps, axis=1)


def _compared(name: str, resampler: Resampler, better: np.ndarray, worse: np.ndarray, steps: Sequence[int]) -> Section:
    """How much nearer to the truth one dream is than another, in dB, from the squared errors `n t`
    of both."""
    steps_ahead = range(1, 1 + better.shape[1])
    section = Section(curves={name: resampler.curve(steps_ahead, gain, worse, better)})
    section.metrics |= {f"{name}@{step}": section.curves[name].at(step) for step in steps if step in steps_ahead}
    for which, error in ((f"{name}/right_actions", better), (f"{name}/wrong_actions", worse)):
        section.curves[which] = resampler.curve(steps_ahead, decibels, error)
    return section


def _sheet(rows: list[np.ndarray], labels: list[str]) -> np.ndarray:
    """Videos below each other; the number of frames ahead stands above each column."""
    return contact_sheet(rows, labels, titles=[str(n + 1) for n in range(len(rows[0]))])

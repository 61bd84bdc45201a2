"""Planning in dreams: many futures are imagined from the present moment, and the best one is followed.

Random shooting samples action sequences once and takes the best one. The cross-entropy method (Rubinstein 1999; in
latent world models PlaNet, arXiv 1811.04551, algorithm 2) samples again near the best ones, several times.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from gymnasium import Space, spaces

from worldmodel.agents import ChunkedPolicy, Policy
from worldmodel.io.config import LARGEST, check_range
from worldmodel.nn.action_scale import clip_to_space
from worldmodel.prior import SamplerConfig
from worldmodel.world import DreamState, WorldModel

CONTEXT = 8  # latents encoded before each decision: the receptive field of six blocks
MIN_STD = 0.05  # least standard deviation of a Gaussian proposal, in half widths of the box
UNIFORM_MIX = 0.02  # share of the uniform distribution in a categorical proposal, so that no action dies out


@dataclass
class PlannerConfig:
    """How far a planner looks, and how many futures it compares."""

    kind: Literal["cem", "shooting"] = "cem"
    """cem, the cross-entropy method, or shooting, which has one iteration and one elite."""
    candidates: int = 64
    """Futures that are imagined at once."""
    horizon: int = 12
    """Latent steps of each future."""
    iterations: int = 3
    """Rounds of sampling and fitting (cem)."""
    elites: int = 8
    """Best futures to which the proposal is fitted (cem)."""
    discount: float = 0.99
    """Discount of a latent step."""

    def __post_init__(self) -> None:
        check_range(self, 1, LARGEST, "candidates", "horizon", "iterations")
        check_range(self, 1, self.candidates, "elites")
        check_range(self, 0, 1, "discount")


@runtime_checkable
class Proposal(Protocol):
    """A distribution over action sequences of n steps, independent between steps."""

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Samples, `count n *space`."""
        ...

    def fit(self, best: np.ndarray) -> None:
        """Fit the distribution to these sequences, `m n *space`."""
        ...

    def mode(self) -> np.ndarray:
        """The likeliest sequence, `n *space`."""
        ...

    def shift(self, steps: int) -> None:
        """Move on by some steps: the later steps move up, and the new ones at the end are as at first."""
        ...


class Categorical:
    """Discrete actions, one or several at once: probabilities for each step and axis."""

    def __init__(self, steps: int, options: np.ndarray, start: np.ndarray, shape: tuple[int, ...], dtype: Any):
        self.options, self.start, self.shape, self.dtype = options, start, shape, dtype
        inside = np.arange(options.max()) < options[:, None]
        self.uniform = inside / options[:, None]  # axes × choices
        self.table = np.repeat(self.uniform[None], steps, axis=0)

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        reached = self.table.cumsum(-1)
        drawn = (rng.random((count, *self.table.shape[:2], 1)) * reached[..., -1:] > reached).sum(-1)
        return self._actions(drawn)

    def fit(self, best: np.ndarray) -> None:
        choice = best.reshape(*best.shape[:2], -1) - self.start
        share = (choice[..., None] == np.arange(self.options.max())).mean(0)
        self.table = (1 - UNIFORM_MIX) * share + UNIFORM_MIX * self.uniform

    def mode(self) -> np.ndarray:
        return self._actions(self.table.argmax(-1))

    def shift(self, steps: int) -> None:
        self.table = np.concatenate([self.table[steps:], np.repeat(self.uniform[None], steps, axis=0)])

    def _actions(self, choice: np.ndarray) -> np.ndarray:
        return (choice + self.start).astype(self.dtype).reshape(*choice.shape[:-1], *self.shape)


class Gaussian:
    """Continuous actions: a mean and a standard deviation for each step and axis, clipped to the box."""

    def __init__(self, steps: int, space: spaces.Box):
        self.space = space
        finite = np.isfinite(space.low) & np.isfinite(space.high)
        low, high = (np.where(finite, x.astype(np.float64), y) for x, y in ((space.low, -1.0), (space.high, 1.0)))
        self.start, self.half = (low + high) / 2, (high - low) / 2
        self.mean = np.repeat(self.start[None], steps, axis=0)
        self.deviation = np.repeat(self.half[None], steps, axis=0)

    def sample(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return clip_to_space(self.mean + self.deviation * rng.standard_normal((count, *self.mean.shape)), self.space)

    def fit(self, best: np.ndarray) -> None:
        self.mean = best.mean(0, dtype=np.float64)
        self.deviation = np.maximum(best.std(0, dtype=np.float64), MIN_STD * self.half)

    def mode(self) -> np.ndarray:
        return clip_to_space(self.mean, self.space)

    def shift(self, steps: int) -> None:
        for name, new in (("mean", self.start), ("deviation", self.half)):
            setattr(self, name, np.concatenate([getattr(self, name)[steps:], np.repeat(new[None], steps, axis=0)]))


def proposal(space: Space, steps: int) -> Proposal:
    """The initial proposal: uniform over choices, or as wide as the box (±1 where the box has no bounds).

    Raises: TypeError for a space other than Discrete, MultiDiscrete, MultiBinary and Box.
    """
    if isinstance(space, spaces.Discrete):
        return Categorical(steps, np.array([space.n]), np.array([space.start]), (), space.dtype)
    if isinstance(space, spaces.MultiDiscrete):
        return Categorical(steps, space.nvec.reshape(-1), space.start.reshape(-1), space.shape, space.dtype)
    if isinstance(space, spaces.MultiBinary):
        count = int(np.prod(space.shape))
        return Categorical(steps, np.full(count, 2), np.zeros(count, int), space.shape, space.dtype)
    if isinstance(space, spaces.Box):
        return Gaussian(steps, space)
    raise TypeError(f"planner: expected Discrete, MultiDiscrete, MultiBinary or Box actions, got {space}")


class Planner:
    """Chooses actions by imagining futures; acts in any environment, real or dreamed.

    All candidates of an iteration are dreamed under the same noise (common random numbers), so they differ only in
    their actions. A reward counts with its mean, times the probability that the dream has not ended before.

    Raises: ValueError for a world without rewards or without actions.
    """

    def __init__(self, world: WorldModel, config: PlannerConfig | None = None, sampler: SamplerConfig | None = None):
        if not world.prior.rewards:
            raise ValueError("planner: this world has no rewards; train its prior with prior.outcome_width above 0")
        if world.info.action_space is None:
            raise ValueError("planner: this world has no actions to choose from")
        self.world, self.config, self.sampler = world, config or PlannerConfig(), sampler
        self.space: Space = world.info.action_space
        self.stride = world.tokenizer.time_stride

    def initial_proposal(self) -> Proposal:
        """The proposal before the first decision of an episode."""
        space = self.world.info.reachable
        assert space is not None
        return proposal(space, self.config.horizon * self.stride)

    def plan(self, state: DreamState, rng: np.random.Generator, known: Proposal | None = None) -> np.ndarray:
        """The next `time_stride` actions, `n *space`, for the only dream of `state`.

        `known` is what earlier decisions found (see `fresh`); it is brought up to date.
        """
        config, known = self.config, known or self.initial_proposal()
        rounds, elites = (1, 1) if config.kind == "shooting" else (config.iterations, config.elites)
        for _ in range(rounds):
            sequences = known.sample(rng, config.candidates)
            values = self.values(state, sequences, int(rng.integers(2**63)))
            known.fit(sequences[np.argsort(-values, kind="stable")[:elites]])
        actions = known.mode()[: self.stride]
        known.shift(self.stride)
        return actions

    @torch.no_grad()
    def values(self, state: DreamState, sequences: np.ndarray, dream: int) -> np.ndarray:
        """The discounted return `b` of each action sequence `b n *space`, from the only dream of `state`.

        `dream` is the key of the noise.
        """
        count = len(sequences)
        states = state.select(torch.zeros(count, dtype=torch.long, device=self.world.device))
        states = replace(states, dreams=torch.full_like(states.dreams, dream))
        value, going = torch.zeros(count, dtype=torch.float64), torch.ones(count, dtype=torch.float64)
        for i in range(0, sequences.shape[1], self.stride):
            states, step = self.world.step(states, sequences[:, i : i + self.stride], self.sampler)
            assert step.outcome is not None
            value += going * step.outcome.expected.cpu()
            going *= self.config.discount * (1 - step.outcome.end.cpu())
        return value.numpy()

    def episode(self, rng: np.random.Generator) -> Policy:
        """A policy for one episode, which encodes the last frames and plans from there."""
        return ChunkedPolicy(_PlanningPolicy(self, rng))


class _PlanningPolicy:
    """Keeps the last frames of an episode and the actions between them, and plans from there."""

    def __init__(self, planner: Planner, rng: np.random.Generator):
        self.planner, self.rng, self.known = planner, rng, planner.initial_proposal()
        self.frames: list[np.ndarray] = []
        self.actions: list[Any] = []

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        keep, space = 1 + (CONTEXT - 1) * self.planner.stride, self.planner.space
        self.frames = [*self.frames, *frames][-keep:]
        self.actions = self.actions[max(0, len(self.actions) - keep + 1) :]
        between = np.asarray(self.actions, space.dtype).reshape(1, len(self.actions), *(space.shape or ()))
        state = self.planner.world.start(torch.from_numpy(np.stack(self.frames))[None], between)
        actions = self.planner.plan(state, self.rng, self.known)
        self.actions.extend(actions)
        return actions

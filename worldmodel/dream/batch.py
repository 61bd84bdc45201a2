"""Many dreams in one batch: the simulator behind `DreamEnv` and `DreamVectorEnv`."""

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from jaxtyping import Bool, Float, Int
from torch import Tensor

from worldmodel.dream.arguments import (
    Horizon,
    sampler_config,
    start_number,
    step_limit,
    surprise_limit,
    whole_number,
)
from worldmodel.dream.spaces import Observation, action_space, as_array, observation_space
from worldmodel.prior import SamplerConfig
from worldmodel.world import DreamState, WorldModel

INFOS = ("surprise", "end_probability", "tokens", "horizon", "trust_horizon")
ALL = slice(None)

if hasattr(os, "register_at_fork"):  # torch's threads do not survive a fork: a child would wait for them forever
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


@dataclass(frozen=True)
class Snapshot:
    """All that decides how the dreams of an environment continue; `restore` takes it any number of times.

    generators and seeds: the random generator of each dream, and its seed, -1 if unknown.
    """

    state: DreamState
    elapsed: Int[np.ndarray, "b"]  # steps since reset
    over: Bool[np.ndarray, "b"]  # whether each dream has ended
    generators: tuple[np.random.Generator, ...]
    seeds: tuple[int, ...]


class DreamStep(NamedTuple):
    """What one step of m dreams gave; `surprise` in bits."""

    rewards: Float[np.ndarray, "m"]
    surprise: Float[np.ndarray, "m"]
    end_probability: Float[np.ndarray, "m"]
    terminated: Bool[np.ndarray, "m"]
    truncated: Bool[np.ndarray, "m"]


class DreamBatch:
    """`count` dreams that are stepped in one pass. Each one goes as it would alone, on a CPU to the last bit.

    `places` are indices of dreams. Arguments as in `DreamVectorEnv`.

    Raises: ValueError for a world that predicts no rewards, or a setting out of range; TypeError for a wrong type.
    """

    def __init__(
        self,
        count: int,
        *,
        world: str | Path | WorldModel,
        obs: Observation = "frames",
        starts: Literal["resets", "anywhere"] = "resets",
        horizon: Horizon | None = None,
        max_episode_steps: int | None = None,
        truncate_on_surprise: float | None = None,
        sampler: SamplerConfig | Mapping[str, Any] | None = None,
        tensors: bool = False,
        device: str = "cpu",
    ):
        self.world = world if isinstance(world, WorldModel) else WorldModel.load(world, device)
        if not self.world.prior.rewards:
            raise ValueError(
                "this world predicts no rewards and ends, so it cannot be an environment: train its prior again with "
                "prior.outcome_width above 0 (`worldmodel train-prior`); WorldModel.step dreams without them"
            )
        if starts not in ("resets", "anywhere"):
            raise ValueError(f"starts: expected resets or anywhere, got {starts!r}")
        if not isinstance(tensors, bool):
            raise TypeError(f"tensors: expected True or False, got {tensors!r}")
        self.count, self.obs, self.starts, self.tensors = whole_number("num_envs", count, least=1), obs, starts, tensors
        self.sampler, self.truncate_on_surprise = sampler_config(sampler), surprise_limit(truncate_on_surprise)
        self.limit, self.limit_source = step_limit(self.world.info, horizon, max_episode_steps)
        self.observation_space = observation_space(self.world.tokenizer, obs)
        self.action_space = action_space(self.world)
        pairs = [seeding.np_random() for _ in range(self.count)]
        self.generators, self.seeds = [generator for generator, _ in pairs], [seed for _, seed in pairs]
        self.started, self.over = np.zeros(self.count, bool), np.zeros(self.count, bool)
        self.elapsed = np.zeros(self.count, np.int64)
        self._contexts: dict[int, DreamState] = {}
        self._state: DreamState | None = None

    @property
    def places(self) -> range:
        """The indices of all dreams."""
        return range(self.count)

    def state(self, places: Sequence[int] | np.ndarray | None = None) -> DreamState:
        """The state of all dreams, not a copy; those at `places` (default: all) must have started.

        Raises: ResetNeeded if one of them has not.
        """
        if self._state is None or not self.started[self.places if places is None else places].all():
            raise ResetNeeded("the dream has not started: call reset() first")
        return self._state

    def seed(self, place: int, seed: int) -> None:
        """Give one dream a new random generator."""
        self.generators[place], self.seeds[place] = seeding.np_random(seed)

    def reset(self, places: Sequence[int] | np.ndarray, options: dict[str, Any]) -> None:
        """Start new dreams at these places. Each draws its key from its own generator.

        options: "frames" (uint8 `m t h w c`) and "actions" (`m t-1 *space`), or "start", the number of a start
        context; without either, each dream draws a start context.

        Raises: ValueError for another option, or frames and actions that do not fit the world.
        """
        places = np.asarray(places)
        if unknown := sorted(set(options) - {"frames", "actions", "start"}):
            raise ValueError(f"options: expected frames and actions, start, or reset_mask; got {unknown}")
        keys = [_key(self.generators[place]) for place in places]
        if "actions" in options and "frames" not in options:
            raise ValueError('options: "actions" need the "frames" that they lie between')
        if "frames" in options:
            new = self._from_frames(options, keys)
        else:
            pairs = zip(places, keys, strict=True)
            new = DreamState.join([self._from_context(int(place), key, options) for place, key in pairs])
        self._scatter(places, new)
        self.elapsed[places], self.over[places] = 0, False

    def step(self, places: np.ndarray, actions: np.ndarray) -> DreamStep:
        """Step these dreams, by `m *space` actions.

        Raises: ResetNeeded if one has not started; ValueError for actions outside the space.
        """
        state, stride = self.state(places), self.world.tokenizer.time_stride
        live = state if len(places) == self.count else state.select(self._index(places))
        live, step = self.world.step(live, actions, self.sampler)
        self._scatter(places, live)
        self.elapsed[places] += stride
        outcome = step.outcome
        assert outcome is not None
        values = (outcome.reward, step.bits.double(), outcome.end, outcome.ended)
        rewards, surprise, end, terminated = (each.cpu().numpy() for each in values)
        cut = (self.elapsed[places] >= self.limit) & ~terminated  # an end is no cut, also at the last step
        truncated = cut | (surprise > self.truncate_on_surprise)
        self.over[places] = terminated | truncated
        return DreamStep(rewards, surprise, end, terminated, truncated)

    def snapshot(self, places: Sequence[int]) -> Snapshot:
        """The present moment of these dreams. Raises: ResetNeeded if one has not started."""
        at, state = list(places), self.state(places)
        state = state if len(at) == self.count else state.select(self._index(at))
        generators = tuple(copy.deepcopy(self.generators[place]) for place in at)
        seeds = tuple(self.seeds[place] for place in at)
        return Snapshot(DreamState.join([state]), self.elapsed[at], self.over[at], generators, seeds)

    def restore(self, places: Sequence[int], snapshot: Snapshot, seed: int | None = None) -> None:
        """Continue these dreams from a snapshot; with a `seed`, towards another future.

        Raises: ValueError for a snapshot of another number of dreams.
        """
        at = list(places)
        if len(snapshot.elapsed) != len(at):
            raise ValueError(f"expected a snapshot of {len(at)} dreams, got one of {len(snapshot.elapsed)}")
        state = DreamState.join([snapshot.state])
        for i, place in enumerate(at):
            self.generators[place], self.seeds[place] = copy.deepcopy(snapshot.generators[i]), snapshot.seeds[i]
            if seed is not None:
                self.seed(place, seed + i)
        if seed is not None:
            keys = [_key(self.generators[place]) for place in at]
            state = replace(state, dreams=torch.tensor(keys, device=self.world.device))
        self._scatter(at, state)
        self.elapsed[at], self.over[at] = snapshot.elapsed, snapshot.over

    def observe(self, places: slice = ALL) -> Any:
        """The observations of these dreams, a copy."""
        state = self.state([])
        if self.obs == "frames":
            return self.output(state.frame[places])
        tokens = state.tokens[places]
        return self.output(tokens if self.obs == "tokens" else self.world.tokenizer.embed(tokens))

    def infos(self, surprise: np.ndarray, end: np.ndarray, places: slice = ALL) -> dict[str, Any]:
        """The infos of these dreams, `m` values each, as in `DreamVectorEnv`."""
        horizon = int(self.limit) if np.isfinite(self.limit) else 0
        trusted = -1 if self.world.info.trust_horizon is None else self.world.info.trust_horizon
        limits = (np.full(len(surprise), number) for number in (horizon, trusted))
        values = (surprise, end, self.state([]).tokens[places], *limits)
        return {name: self.output(x) for name, x in zip(INFOS, values, strict=True)}

    def frames(self, places: Sequence[int]) -> np.ndarray:
        """The newest frames, uint8 `m h w c`. Raises: ResetNeeded if one of the dreams has not started."""
        return self.state(places).frame.cpu().numpy()[list(places)]

    def output(self, values: np.ndarray | Tensor) -> Any:
        """A copy as the user wants it: an array, or a tensor on the device, with float32 instead of float64."""
        if not self.tensors:
            return as_array(values).copy()
        tensor = torch.as_tensor(values, device=self.world.device)
        return tensor.to(torch.float32 if tensor.dtype == torch.float64 else tensor.dtype, copy=True)

    def _scatter(self, places: Sequence[int] | np.ndarray, state: DreamState) -> None:
        """Replace the state of these dreams; the others keep theirs."""
        if len(places) < self.count:
            others = self._state or state.select(self._index([0] * self.count))  # the others have not started
            state = others.scatter(self._index(places), state)
        self._state = state
        self.started[places] = True

    def _index(self, places: Sequence[int] | np.ndarray) -> Tensor:
        return torch.as_tensor(places, device=self.world.device)

    def _from_frames(self, options: dict[str, Any], keys: list[int]) -> DreamState:
        frames = _frames(options["frames"], len(keys), self.world.info.frame_shape)
        if frames.shape[1] > 1 and "actions" not in options and self.world.encoder.width:
            raise ValueError(f'options: {frames.shape[1]} frames need the "actions" between them, b t-1 *space')
        none = np.zeros((len(frames), 0, *(getattr(self.world.info.action_space, "shape", None) or ())), np.int64)
        return self.world.start(frames, options.get("actions", none), 0, keys)

    def _from_context(self, place: int, key: int, options: dict[str, Any]) -> DreamState:
        """The state after a start context of the world; each context is encoded once and kept."""
        known = self.world.starts
        count = 0 if known is None else known.resets if self.starts == "resets" else len(known)
        drawn = options["start"] if "start" in options else self.generators[place].integers(max(count, 1))
        number = start_number(drawn)
        if number not in self._contexts:
            self._contexts[number] = self.world.start_from_context(number)
        return replace(self._contexts[number], dreams=torch.tensor([key], device=self.world.device))


def _frames(values: Any, count: int, frame_shape: tuple[int, int, int]) -> Tensor:
    """The frames of a reset's options. Raises: ValueError if they are not uint8 `count t h w c`."""
    try:
        frames = torch.as_tensor(values)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"options: expected frames as an array, got {type(values).__name__}") from error
    if frames.ndim != 5 or frames.dtype != torch.uint8 or len(frames) != count:
        height, width, channels = frame_shape
        shape = f"({count}, t, {height}, {width}, {channels})"
        raise ValueError(f"options: expected frames uint8 of shape {shape}, got {frames.dtype} {tuple(frames.shape)}")
    return frames


def _key(generator: np.random.Generator) -> int:
    """The key of a dream, on which all its noise depends."""
    return int(generator.integers(2**63))

"""Dreams as Gymnasium environments: `DreamVectorEnv` steps many in one pass, `DreamEnv` is one alone.

`import worldmodel` registers both as `worldmodel/Dream-v0`, for `gymnasium.make` and `gymnasium.make_vec`.
"""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from worldmodel.prior import SamplerConfig
from worldmodel.tokenizer import VQVAE
from worldmodel.world import DreamState, Step, WorldModel

Observation = Literal["frames", "tokens", "latent"]
RENDER_FPS = 15

if hasattr(os, "register_at_fork"):  # torch's threads do not survive a fork: without this, the child waits for them
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


@dataclass(frozen=True)
class Snapshot:
    """Everything that decides how the dreams of an environment go on: a value, good for any number of `restore`s."""

    state: DreamState
    elapsed: np.ndarray  # steps since reset, `b`
    over: np.ndarray  # whether each has ended, `b`
    generators: tuple[np.random.Generator, ...]


def observation_space(tokenizer: VQVAE, obs: Observation) -> spaces.Box:
    """frames: uint8 `h w c`, the real environment's. tokens: int64 `y x`. latent: their code vectors,
    standardised, float32 `y x d`.

    Raises: ValueError for another word.
    """
    grid, codes = tokenizer.grid, tokenizer.config.quantizer
    if obs == "frames":
        return spaces.Box(0, 255, tokenizer.frame_shape, np.uint8)
    if obs == "tokens":
        return spaces.Box(0, codes.codes - 1, grid, np.int64)
    if obs == "latent":
        return spaces.Box(-np.inf, np.inf, (*grid, codes.code_width), np.float32)
    raise ValueError(f"obs: expected frames, tokens or latent, got {obs!r}")


def action_space(world: WorldModel) -> spaces.Space:
    """The real environment's; `time_stride` of its actions at once where several frames share a latent.

    A world without actions takes the one action 0, which changes nothing.
    """
    space, stride = world.info.action_space or spaces.Discrete(1), world.tokenizer.config.time_stride
    return copy.deepcopy(space) if stride == 1 else batch_space(space, stride)


class DreamVectorEnv(VectorEnv):
    """N dreams in one pass: each goes as it would alone, whatever is dreamed beside it (on a CPU to the last bit).

    Args: num_envs: how many. world: a folder, a name, or a world in memory. obs: as in `observation_space`.
    starts: "resets" begins where episodes of the data began, "anywhere" in their midst as well. horizon: steps after
    which a dream is truncated (0: never); by default the world's trust horizon, or else its longest episode.
    max_episode_steps: the same, as `gymnasium.make_vec` names it: the shorter of both counts.
    truncate_on_surprise: bits of a step above which a dream is truncated. autoreset_mode: as Gymnasium has them.
    sampler: how tokens are drawn (None: as the world says). tensors: observations, rewards, flags and infos stay
    tensors on the device.

    With a world of time_stride k, an action is a chunk of k (the space says so), a step counts as k, its reward is
    their sum, and the observation is the last frame.

    `reset(seed=s)` seeds dream i with s + i, and `reset(seed=[...])` each by itself. `options` may have "frames"
    (uint8 `b t h w c`) and "actions" (`b t-1 *space`) to begin from, or "start", the number of one of the contexts
    that came with the world; and "reset_mask" (bool `b`) to reset some alone.

    Infos, `b` each: "surprise", bits of the step (exact, −log2 p of its tokens), "end_probability", "tokens".

    Raises: ValueError for a world that tells no rewards and ends, or settings that are none.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        world: str | Path | WorldModel,
        obs: Observation = "frames",
        starts: Literal["resets", "anywhere"] = "resets",
        horizon: int | None = None,
        max_episode_steps: int | None = None,
        truncate_on_surprise: float | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        sampler: SamplerConfig | None = None,
        render_mode: str | None = None,
        tensors: bool = False,
        device: str = "cpu",
    ):
        self.world = world if isinstance(world, WorldModel) else WorldModel.load(world, device)
        if self.world.prior.outcome is None:
            raise ValueError(
                "this world tells no rewards and ends, so it makes no environment: train its prior again with "
                "prior.outcome_width above 0 (scripts/train_prior.py); WorldModel.step dreams without them"
            )
        if num_envs < 1:
            raise ValueError(f"num_envs: expected 1 or more, got {num_envs}")
        if starts not in ("resets", "anywhere"):
            raise ValueError(f"starts: expected resets or anywhere, got {starts!r}")
        self.num_envs, self.obs, self.starts = num_envs, obs, starts
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": RENDER_FPS, "autoreset_mode": self.autoreset_mode}
        self.render_mode, self.sampler, self.tensors = render_mode, sampler, tensors
        self.truncate_on_surprise = np.inf if truncate_on_surprise is None else truncate_on_surprise
        self.limit = _limit(self.world, horizon, max_episode_steps)
        self.single_observation_space = observation_space(self.world.tokenizer, obs)
        self.single_action_space = action_space(self.world)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._generators = [seeding.np_random()[0] for _ in range(num_envs)]
        self._beginnings: dict[int, DreamState] = {}
        self._state: DreamState | None = None
        self._elapsed, self._over = np.zeros(num_envs, np.int64), np.zeros(num_envs, bool)

    @property
    def state(self) -> DreamState:
        """Where the dreams stand: what a planner branches from.

        Raises: ResetNeeded before the first reset.
        """
        if self._state is None:
            raise ResetNeeded("the dream has not begun: call reset() first")
        return self._state

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin all dreams anew, or those that `options["reset_mask"]` names.

        Raises: ValueError for seeds, frames, actions or a mask that do not fit, or when there is nothing to begin from.
        """
        options = dict(options or {})
        places = _masked(options.pop("reset_mask", None), self.num_envs)
        if strange := sorted(set(options) - {"frames", "actions", "start"}):
            raise ValueError(f"options: expected frames and actions, start, or reset_mask; got {strange}")
        if len(places) < self.num_envs and self._state is None:
            raise ResetNeeded("reset_mask: some dreams have never begun: reset them all first")
        for place, own in zip(range(self.num_envs), _seeds(seed, self.num_envs), strict=True):
            if own is not None and place in places:
                self._generators[place] = seeding.np_random(own)[0]
        self._begin(places, options)
        nothing, told = np.zeros(self.num_envs), np.isin(np.arange(self.num_envs), places)
        infos = self._infos(nothing, nothing, told)
        return self._given(self._observe()), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One action (or chunk of actions) for each dream, `b *space`.

        Raises: ResetNeeded before the first reset, or (autoreset off) when a dream is over; ValueError for actions
        outside the space.
        """
        self.state  # noqa: B018  (begun?)
        fresh = self._over.copy()  # next-step mode: these only begin anew
        if self.autoreset_mode == AutoresetMode.DISABLED and fresh.any():
            over = np.flatnonzero(fresh).tolist()
            raise ResetNeeded(f'dreams {over} are over: reset them first, by options={{"reset_mask": ...}}')
        rewards, surprise, end = (np.zeros(self.num_envs) for _ in range(3))
        terminated = np.zeros(self.num_envs, bool)
        if len(live := np.flatnonzero(~fresh)):
            step = self._advance(live, _array(actions))
            assert step.outcome is not None
            for into, values in ((rewards, step.outcome.reward), (surprise, step.bits), (end, step.outcome.end)):
                into[live] = values.cpu().numpy()
            terminated[live] = step.outcome.ended.cpu().numpy()
        truncated = ~fresh & ((self._elapsed >= self.limit) | (surprise > self.truncate_on_surprise))
        self._over = terminated | truncated
        if self.autoreset_mode == AutoresetMode.NEXT_STEP and fresh.any():
            self._begin(np.flatnonzero(fresh), {})
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self._over.any():
            infos = self._renew(surprise, end)
        else:
            infos = self._infos(surprise, end, np.ones(self.num_envs, bool))
        flags = (self._given(each) for each in (rewards, terminated, truncated))
        return self._given(self._observe()), *flags, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The newest frame of each dream, where `render_mode` is "rgb_array"."""
        return tuple(self.state.frame.cpu().numpy().copy()) if self.render_mode == "rgb_array" else None

    def snapshot(self) -> Snapshot:
        """This moment of all dreams, to come back to; chance to come is part of it."""
        generators = tuple(copy.deepcopy(each) for each in self._generators)
        return Snapshot(self.state, self._elapsed.copy(), self._over.copy(), generators)

    def restore(self, snapshot: Snapshot, seed: int | None = None) -> None:
        """Go on from that moment: to the same future under the same actions or, with a `seed`, to another one.

        Raises: ValueError for a snapshot of another number of dreams.
        """
        if len(snapshot.elapsed) != self.num_envs:
            raise ValueError(f"expected a snapshot of {self.num_envs} dreams, got one of {len(snapshot.elapsed)}")
        self._state = snapshot.state
        self._elapsed, self._over = snapshot.elapsed.copy(), snapshot.over.copy()
        self._generators = [copy.deepcopy(each) for each in snapshot.generators]
        if seed is not None:
            self._generators = [seeding.np_random(seed + i)[0] for i in range(self.num_envs)]
            keys = torch.tensor([_key(each) for each in self._generators], device=self.world.device)
            self._state = replace(snapshot.state, dreams=keys)

    @property
    def np_random(self) -> tuple[np.random.Generator, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The generators of all dreams, as `SyncVectorEnv` has them."""
        return tuple(self._generators)

    def _advance(self, live: np.ndarray, actions: np.ndarray) -> Step:
        """Step these dreams; the others stay where they are."""
        if actions.shape[:1] != (self.num_envs,):
            raise ValueError(f"expected one action for each of {self.num_envs} dreams, got shape {actions.shape}")
        whole, stride = len(live) == self.num_envs, self.world.tokenizer.config.time_stride
        index = torch.from_numpy(live).to(self.world.device)
        state, step = self.world.step(self.state if whole else self.state.rows(index), actions[live], self.sampler)
        self._state = state if whole else self.state.put(index, state)
        self._elapsed[live] += stride
        return step

    def _renew(self, surprise: np.ndarray, end: np.ndarray) -> dict[str, Any]:
        """Same-step mode: what is over begins anew at once; its last observation and infos are handed over."""
        over, last = self._over.copy(), self._observe()
        final: np.ndarray = np.full(self.num_envs, None, dtype=object)
        for place in np.flatnonzero(over):
            final[place] = last[place].copy() if isinstance(last, np.ndarray) else last[place].clone()
        final_info = self._infos(surprise, end, over)
        self._begin(np.flatnonzero(over), {})
        infos = self._infos(np.where(over, 0.0, surprise), np.where(over, 0.0, end), np.ones(self.num_envs, bool))
        masks = {"_final_obs": over.copy(), "_final_info": over.copy()}
        return infos | {"final_obs": final, "final_info": final_info, **masks}

    def _begin(self, places: np.ndarray, options: dict[str, Any]) -> None:
        """Put new beginnings at these places."""
        keys = [_key(self._generators[place]) for place in places]
        if "frames" in options:
            fresh = self._from_frames(options, keys)
        else:
            fresh = DreamState.join([self._from_start(int(p), k, options) for p, k in zip(places, keys, strict=True)])
        whole = len(places) == self.num_envs
        self._state = fresh if whole else self.state.put(torch.from_numpy(places).to(self.world.device), fresh)
        self._elapsed[places], self._over[places] = 0, False

    def _from_frames(self, options: dict[str, Any], keys: list[int]) -> DreamState:
        frames = torch.as_tensor(options["frames"])
        if frames.ndim != 5 or frames.dtype != torch.uint8 or len(frames) != len(keys):
            height, width, colours = self.world.info.frame_shape
            shape = f"({len(keys)}, t, {height}, {width}, {colours})"
            raise ValueError(
                f"options: expected frames uint8 of shape {shape}, got {frames.dtype} {tuple(frames.shape)}"
            )
        if frames.shape[1] > 1 and "actions" not in options and self.world.encoder.width:
            raise ValueError(f'options: {frames.shape[1]} frames need the "actions" between them, b t-1 *space')
        none = np.zeros((len(frames), 0, *(getattr(self.world.info.action_space, "shape", None) or ())), np.int64)
        return self.world.start(frames, options.get("actions", none), 0, keys)

    def _from_start(self, place: int, key: int, options: dict[str, Any]) -> DreamState:
        """One of the contexts that came with the world; each is looked at once and kept."""
        starts = self.world.starts
        count = 0 if starts is None else starts.resets if self.starts == "resets" else len(starts)
        start = int(options["start"]) if "start" in options else int(self._generators[place].integers(max(count, 1)))
        if start not in self._beginnings:
            self._beginnings[start] = self.world.begin(start)
        return replace(self._beginnings[start], dreams=torch.tensor([key], device=self.world.device))

    def _observe(self) -> np.ndarray | Tensor:
        """What is to be seen, a copy."""
        state = self.state
        if self.obs == "frames":
            seen = state.frame
        else:
            seen = state.tokens if self.obs == "tokens" else self.world.tokenizer.quantizer.standard(state.tokens)
        return seen.clone() if self.tensors else seen.cpu().numpy().copy()

    def _infos(self, surprise: np.ndarray, end: np.ndarray, told: np.ndarray) -> dict[str, Any]:
        """Of the dreams that are `told` of, as Gymnasium masks them."""
        tokens = self.state.tokens.clone() if self.tensors else self.state.tokens.cpu().numpy().copy()
        found = {"surprise": self._given(surprise.copy()), "end_probability": self._given(end.copy()), "tokens": tokens}
        return found | {f"_{name}": told.copy() for name in found}

    def _given(self, values: Any) -> Any:
        """As the user wants it: an array, or a tensor on the device."""
        return torch.as_tensor(values, device=self.world.device) if self.tensors else values


class DreamEnv(gymnasium.Env):
    """One dream, with the spaces of the real environment. Arguments, options and infos: see `DreamVectorEnv`.

    `options["frames"]` is `t h w c` here. `gymnasium.make(max_episode_steps=...)` may shorten dreams further.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": RENDER_FPS}  # noqa: RUF012

    def __init__(self, *, render_mode: str | None = None, **settings: Any):
        self.dreams = DreamVectorEnv(1, autoreset_mode=AutoresetMode.DISABLED, render_mode=render_mode, **settings)
        self.render_mode = render_mode
        self.observation_space = self.dreams.single_observation_space
        self.action_space = self.dreams.single_action_space
        self.action_names = self.dreams.world.info.action_names

    @property
    def state(self) -> DreamState:
        """Where the dream stands: what a planner branches from."""
        return self.dreams.state

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a dream that `seed` determines; without a seed, one more dream."""
        super().reset(seed=seed)
        options = dict(options or {})
        for name in ("frames", "actions"):
            if name in options:
                options[name] = _array(options[name])[None]
        self.dreams._generators = [self.np_random]
        seen, infos = self.dreams.reset(options=options)
        return seen[0], _single(infos)

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """What `action` leads to, as `gymnasium.Env.step` has it."""
        seen, rewards, terminated, truncated, infos = self.dreams.step(_array(action)[None])
        reward, ended, cut = rewards[0], terminated[0], truncated[0]
        if not self.dreams.tensors:
            reward, ended, cut = float(reward), bool(ended), bool(cut)
        return seen[0], reward, ended, cut, _single(infos)

    def render(self) -> np.ndarray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The newest frame, where `render_mode` is "rgb_array"."""
        frames = self.dreams.render()
        return None if frames is None else frames[0]

    def snapshot(self) -> Snapshot:
        """This moment, to come back to."""
        return self.dreams.snapshot()

    def restore(self, snapshot: Snapshot, seed: int | None = None) -> None:
        """Go on from that moment: to the same future under the same actions or, with a `seed`, to another one."""
        self.dreams.restore(snapshot, seed)
        self.np_random = self.dreams._generators[0]


def _limit(world: WorldModel, horizon: int | None, max_episode_steps: int | None) -> float:
    """Steps after which dreams are truncated."""
    if horizon is None:
        trusted = world.info.trust_horizon
        horizon = (world.info.longest or 0) if trusted is None else max(trusted, 1)  # 0 would mean: never
    if horizon < 0 or (max_episode_steps is not None and max_episode_steps < 1):
        raise ValueError(f"expected horizon >= 0 and max_episode_steps >= 1, got {horizon} and {max_episode_steps}")
    return min(horizon or np.inf, max_episode_steps or np.inf)


def _masked(mask: Any, count: int) -> np.ndarray:
    """The places that a mask names; all without one."""
    if mask is None:
        return np.arange(count)
    mask = _array(mask)
    if mask.dtype != np.bool_ or mask.shape != (count,) or not mask.any():
        raise ValueError(f"reset_mask: expected {count} booleans, one of them true, got {mask.dtype} {mask.shape}")
    return np.flatnonzero(mask)


def _seeds(seed: int | Sequence[int | None] | None, count: int) -> list[int | None]:
    if seed is None:
        return [None] * count
    seeds: list[int | None] = list(seed) if isinstance(seed, Sequence) else [int(seed) + i for i in range(count)]
    if len(seeds) != count:
        raise ValueError(f"seed: expected a number or {count} of them, got {len(seeds)}")
    return seeds


def _key(generator: np.random.Generator) -> int:
    """The number of a dream, from which all its chance follows."""
    return int(generator.integers(2**63))


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _single(infos: dict[str, Any]) -> dict[str, Any]:
    """The infos of the only dream."""
    single = {name: value[0] for name, value in infos.items() if not name.startswith("_")}
    return {name: float(x) if isinstance(x, np.floating) else x for name, x in single.items()}

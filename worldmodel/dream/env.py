"""Dreams as Gymnasium environments: `DreamVectorEnv` steps many in one pass, `DreamEnv` is one alone.

`import worldmodel` registers both as `worldmodel/Dream-v0`, for `gymnasium.make` and `gymnasium.make_vec`.
"""

import copy
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from worldmodel.interfaces import Tokenizer
from worldmodel.io.config import from_mapping
from worldmodel.prior import SamplerConfig
from worldmodel.world import DreamState, WorldModel

Observation = Literal["frames", "tokens", "latent"]
Seeds = int | np.integer | Sequence[int | None] | np.ndarray  # one, which counts up from dream to dream, or one each
RENDER_FPS = 15
INFOS = ("surprise", "end_probability", "tokens")

if hasattr(os, "register_at_fork"):  # torch's threads do not survive a fork: without this, the child waits for them
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


@dataclass(frozen=True)
class Snapshot:
    """Everything that decides how the dreams of an environment go on: a value, good for any number of `restore`s."""

    state: DreamState
    elapsed: np.ndarray  # steps since reset, `b`
    over: np.ndarray  # whether each has ended, `b`
    generators: tuple[np.random.Generator, ...]
    seeds: tuple[int, ...]  # of the generators, -1 where it is not known


def observation_space(tokenizer: Tokenizer, obs: Observation) -> spaces.Box:
    """frames: uint8 `h w c`, the real environment's. tokens: int64 `y x`. latent: their code vectors,
    standardised, float32 `y x d`.

    Raises: ValueError for another word.
    """
    if obs == "frames":
        return spaces.Box(0, 255, tokenizer.frame_shape, np.uint8)
    if obs == "tokens":
        return spaces.Box(0, tokenizer.codes - 1, tokenizer.grid, np.int64)
    if obs == "latent":
        nothing = torch.zeros(tokenizer.grid, dtype=torch.long, device=tokenizer.device)
        return spaces.Box(-np.inf, np.inf, tuple(tokenizer.embed(nothing).shape), np.float32)
    raise ValueError(f"obs: expected frames, tokens or latent, got {obs!r}")


def action_space(world: WorldModel) -> spaces.Space:
    """The real environment's; `time_stride` of its actions at once where several frames share a latent.

    A world without actions takes the one action 0, which changes nothing.
    """
    space, stride = world.info.action_space, world.tokenizer.time_stride
    space = spaces.Discrete(1) if space is None else space  # never by its truth: that is the length of some
    return copy.deepcopy(space) if stride == 1 else batch_space(space, stride)


class DreamVectorEnv(VectorEnv):
    """N dreams in one pass: each goes as it would alone, whatever is dreamed beside it (on a CPU to the last bit).

    Args: num_envs: how many. world: a folder, a name, or a world in memory. obs: as in `observation_space`.
    starts: "resets" begins where episodes of the data began, "anywhere" in their midst as well. horizon: steps after
    which a dream is truncated (0: never); by default the world's trust horizon, or else its longest episode.
    max_episode_steps: the same, as `gymnasium.make_vec` names it: the shorter of both counts.
    truncate_on_surprise: bits of a step above which a dream is truncated. autoreset_mode: as Gymnasium has them.
    sampler: how tokens are drawn (None: as the world says). tensors: observations, rewards, flags and infos stay
    tensors on the device, numbers as float32 (arrays: as float64, like `SyncVectorEnv`).

    With a world of time_stride k, an action is a chunk of k (the space says so), a step counts as k, its reward is
    their sum, and the observation is the last frame.

    `reset(seed=s)` seeds dream i with s + i, and `reset(seed=[...])` each by itself. `options` may have "frames"
    (uint8 `b t h w c`) and "actions" (`b t-1 *space`) to begin from, or "start", the number of one of the contexts
    that came with the world; and "reset_mask" (bool `b`) to reset some alone.

    Infos, `b` each: "surprise", bits of the step (exact, −log2 p of its tokens), "end_probability", "tokens".

    Raises: ValueError for a world that tells no rewards and ends, or settings that are none.
    """

    _spec: EnvSpec | None = None

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
        sampler: SamplerConfig | Mapping[str, Any] | None = None,
        render_mode: str | None = None,
        tensors: bool = False,
        device: str = "cpu",
    ):
        self.world = world if isinstance(world, WorldModel) else WorldModel.load(world, device)
        if not self.world.prior.rewards:
            raise ValueError(
                "this world tells no rewards and ends, so it makes no environment: train its prior again with "
                "prior.outcome_width above 0 (scripts/train_prior.py); WorldModel.step dreams without them"
            )
        num_envs = _whole("num_envs", num_envs, least=1)
        if starts not in ("resets", "anywhere"):
            raise ValueError(f"starts: expected resets or anywhere, got {starts!r}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode: expected None or rgb_array, got {render_mode!r}")
        real = isinstance(truncate_on_surprise, float | int | np.number) and not isinstance(truncate_on_surprise, bool)
        if truncate_on_surprise is not None and not (real and truncate_on_surprise >= 0):
            raise ValueError(f"truncate_on_surprise: expected 0 bits or more, or None, got {truncate_on_surprise!r}")
        if not isinstance(tensors, bool):
            raise TypeError(f"tensors: expected True or False, got {tensors!r}")
        self.num_envs, self.obs, self.starts = num_envs, obs, starts
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": RENDER_FPS, "autoreset_mode": self.autoreset_mode}
        self.render_mode, self.tensors = render_mode, tensors
        self.sampler = from_mapping(SamplerConfig, sampler, "sampler") if isinstance(sampler, Mapping) else sampler
        if not isinstance(self.sampler, SamplerConfig | None):
            raise TypeError(f"sampler: expected a SamplerConfig, a mapping of its settings, or None, got {sampler!r}")
        self.truncate_on_surprise = np.inf if truncate_on_surprise is None else truncate_on_surprise
        self.limit = _step_limit(self.world, horizon, max_episode_steps)
        self.single_observation_space = observation_space(self.world.tokenizer, obs)
        self.single_action_space = action_space(self.world)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        chances = [seeding.np_random() for _ in range(num_envs)]
        self._generators = [generator for generator, _ in chances]
        self._seeds = [own for _, own in chances]
        self._beginnings: dict[int, DreamState] = {}
        self._state: DreamState | None = None
        self._started, self._done = np.zeros(num_envs, bool), np.zeros(num_envs, bool)
        self._elapsed = np.zeros(num_envs, np.int64)

    @property
    def state(self) -> DreamState:
        """Where the dreams stand, a copy: what a planner branches from.

        Raises: ResetNeeded before the first reset.
        """
        return DreamState.join([self._now(range(self.num_envs))])

    def _now(self, places: Sequence[int]) -> DreamState:
        """Where the dreams stand, where those at these places have begun."""
        if self._state is None or not self._started[places].all():
            raise ResetNeeded("the dream has not begun: call reset() first")
        return self._state

    @property
    def spec(self) -> EnvSpec | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How `gymnasium.make_vec` made it."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._spec = _plain(spec)

    def reset(self, *, seed: Seeds | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin all dreams anew, or those that `options["reset_mask"]` names.

        Raises: ValueError for seeds, frames, actions or a mask that do not fit, or when there is nothing to begin from.
        """
        options = _options(options)
        places = _masked(options.pop("reset_mask", None), self.num_envs)
        reset_now = np.isin(np.arange(self.num_envs), places)
        if not (reset_now | self._started).all():
            raise ResetNeeded("reset_mask: some dreams have never begun: reset them all first")
        for place, own in zip(range(self.num_envs), _seeds(seed, self.num_envs), strict=True):
            if own is not None and place in places:
                self._generators[place], self._seeds[place] = seeding.np_random(own)
        self._reset_slots(places, options)
        nothing = np.zeros(self.num_envs)
        infos = self._infos(nothing, nothing, reset_now)
        return self._observe(), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One action (or chunk of actions) for each dream, `b *space`.

        Raises: ResetNeeded before the first reset, or (autoreset off) when a dream is over; ValueError for actions
        outside the space.
        """
        self._now(range(self.num_envs))
        if (actions := as_array(actions)).shape[:1] != (self.num_envs,):
            raise ValueError(f"expected one action for each of {self.num_envs} dreams, got shape {actions.shape}")
        fresh = self._done.copy()  # next-step mode: these only begin anew
        if self.autoreset_mode != AutoresetMode.NEXT_STEP and fresh.any():
            over = np.flatnonzero(fresh).tolist()
            raise ResetNeeded(f'dreams {over} are over: reset them first, by options={{"reset_mask": ...}}')
        rewards, surprise, end = (np.zeros(self.num_envs) for _ in range(3))
        terminated, truncated = (np.zeros(self.num_envs, bool) for _ in range(2))
        if len(live := np.flatnonzero(~fresh)):
            columns = (rewards, surprise, end, terminated, truncated)
            for column, values in zip(columns, self._step_live(live, actions[live]), strict=True):
                column[live] = values
        if fresh.any():
            self._reset_slots(np.flatnonzero(fresh), {})
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self._done.any():
            infos = self._autoreset_same_step(surprise, end)
        else:
            infos = self._infos(surprise, end, np.ones(self.num_envs, bool))
        flags = (self._to_output(each) for each in (rewards, terminated, truncated))
        return self._observe(), *flags, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The newest frame of each dream, where `render_mode` is "rgb_array"."""
        if self.render_mode is None:
            return None
        return tuple(self._now(range(self.num_envs)).frame.cpu().numpy().copy())

    def snapshot(self) -> Snapshot:
        """This moment of all dreams, to come back to; chance to come is part of it."""
        return self._snapshot(range(self.num_envs))

    def restore(self, snapshot: Snapshot, seed: int | None = None) -> None:
        """Go on from that moment: to the same future under the same actions or, with a `seed`, to another one.

        Raises: ValueError for a snapshot of another number of dreams.
        """
        self._restore(range(self.num_envs), snapshot, seed)

    @property
    def np_random(self) -> tuple[np.random.Generator, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The generators of all dreams, as `SyncVectorEnv` has them; one generator that is set here makes them all."""
        return tuple(self._generators)

    @np_random.setter
    def np_random(self, value: np.random.Generator | Sequence[np.random.Generator]) -> None:
        found = value.spawn(self.num_envs) if isinstance(value, np.random.Generator) else list(value)
        if len(found) != self.num_envs:
            raise ValueError(f"np_random: expected {self.num_envs} generators, got {len(found)}")
        self._generators, self._seeds = found, [-1] * self.num_envs

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The seeds of the generators, -1 where it is not known."""
        return tuple(self._seeds)

    def _snapshot(self, places: Sequence[int]) -> Snapshot:
        at, state = list(places), self._now(places)
        state = state if len(at) == self.num_envs else state.select(self._index(at))
        generators = tuple(copy.deepcopy(self._generators[place]) for place in at)
        seeds = tuple(self._seeds[place] for place in at)
        return Snapshot(DreamState.join([state]), self._elapsed[at], self._done[at], generators, seeds)

    def _restore(self, places: Sequence[int], snapshot: Snapshot, seed: int | None) -> None:
        if len(snapshot.elapsed) != len(places):
            raise ValueError(f"expected a snapshot of {len(places)} dreams, got one of {len(snapshot.elapsed)}")
        state = DreamState.join([snapshot.state])
        for i, place in enumerate(places):
            self._generators[place], self._seeds[place] = copy.deepcopy(snapshot.generators[i]), snapshot.seeds[i]
            if seed is not None:
                self._generators[place], self._seeds[place] = seeding.np_random(seed + i)
        if seed is not None:
            keys = [_key(self._generators[place]) for place in places]
            state = replace(state, dreams=torch.tensor(keys, device=self.world.device))
        self._put(list(places), state)
        self._elapsed[list(places)], self._done[list(places)] = snapshot.elapsed, snapshot.over

    def _step_live(self, live: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        """Step these dreams, `m`: rewards, bits, chances of the end, and whether each terminated or was truncated."""
        whole, stride = len(live) == self.num_envs, self.world.tokenizer.time_stride
        state = self._now(live.tolist())
        state, step = self.world.step(state if whole else state.select(self._index(live)), actions, self.sampler)
        self._put(live, state)
        self._elapsed[live] += stride
        outcome = step.outcome
        assert outcome is not None
        values = (outcome.reward, step.bits.double(), outcome.end, outcome.ended)
        rewards, surprise, end, terminated = (each.cpu().numpy() for each in values)
        truncated = (self._elapsed[live] >= self.limit) | (surprise > self.truncate_on_surprise)
        self._done[live] = terminated | truncated
        return rewards, surprise, end, terminated, truncated

    def _put(self, places: Sequence[int] | np.ndarray, state: DreamState) -> None:
        """These dreams go on from here; the others stay where they are."""
        if len(places) < self.num_envs:
            others = self._state or state.select(self._index([0] * self.num_envs))  # those have not begun
            state = others.scatter(self._index(places), state)
        self._state = state
        self._started[places] = True

    def _index(self, places: Sequence[int] | np.ndarray) -> Tensor:
        return torch.as_tensor(places, device=self.world.device)

    def _autoreset_same_step(self, surprise: np.ndarray, end: np.ndarray) -> dict[str, Any]:
        """Same-step mode: what is over begins anew at once; its last observation and infos are handed over."""
        over, last = self._done.copy(), self._observe()
        final: np.ndarray = np.full(self.num_envs, None, dtype=object)
        for place in np.flatnonzero(over):
            final[place] = last[place].copy() if isinstance(last, np.ndarray) else last[place].clone()
        final_info = self._infos(surprise, end, over)
        self._reset_slots(np.flatnonzero(over), {})
        infos = self._infos(np.where(over, 0.0, surprise), np.where(over, 0.0, end), np.ones(self.num_envs, bool))
        masks = {"_final_obs": over.copy(), "_final_info": over.copy()}
        return infos | {"final_obs": final, "final_info": final_info, **masks}

    def _reset_slots(self, places: np.ndarray, options: dict[str, Any]) -> None:
        """Put new beginnings at these places."""
        if strange := sorted(set(options) - {"frames", "actions", "start"}):
            raise ValueError(f"options: expected frames and actions, start, or reset_mask; got {strange}")
        keys = [_key(self._generators[place]) for place in places]
        if "actions" in options and "frames" not in options:
            raise ValueError('options: "actions" need the "frames" that they lie between')
        if "frames" in options:
            fresh = self._from_frames(options, keys)
        else:
            fresh = DreamState.join([self._from_start(int(p), k, options) for p, k in zip(places, keys, strict=True)])
        self._put(places, fresh)
        self._elapsed[places], self._done[places] = 0, False

    def _from_frames(self, options: dict[str, Any], keys: list[int]) -> DreamState:
        try:
            frames = torch.as_tensor(options["frames"])
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"options: expected frames as an array, got {type(options['frames']).__name__}") from error
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
        start = (
            _start_number(options["start"]) if "start" in options else self._generators[place].integers(max(count, 1))
        )
        start = int(start)
        if start not in self._beginnings:
            self._beginnings[start] = self.world.start_from_context(start)
        return replace(self._beginnings[start], dreams=torch.tensor([key], device=self.world.device))

    def _observe(self, places: slice = slice(None)) -> Any:
        """What is to be seen of these dreams, a copy."""
        state = self._state
        assert state is not None
        if self.obs == "frames":
            return self._to_output(state.frame[places])
        tokens = state.tokens[places]
        return self._to_output(tokens if self.obs == "tokens" else self.world.tokenizer.embed(tokens))

    def _info_values(self, surprise: np.ndarray, end: np.ndarray, places: slice = slice(None)) -> dict[str, Any]:
        """The infos of these dreams, without masks."""
        state = self._state
        assert state is not None
        tokens = state.tokens[places]
        return {name: self._to_output(x) for name, x in zip(INFOS, (surprise, end, tokens), strict=True)}

    def _infos(self, surprise: np.ndarray, end: np.ndarray, reset_now: np.ndarray) -> dict[str, Any]:
        """Of the dreams that are `told` of, as Gymnasium masks them."""
        found = self._info_values(surprise, end)
        return found | {f"_{name}": reset_now.copy() for name in found}

    def _to_output(self, values: np.ndarray | Tensor) -> Any:
        """A copy as the user wants it: an array, or a tensor on the device, whose numbers are float32."""
        if not self.tensors:
            return as_array(values).copy()
        tensor = torch.as_tensor(values, device=self.world.device)
        return tensor.to(torch.float32 if tensor.dtype == torch.float64 else tensor.dtype, copy=True)


class DreamEnv(gymnasium.Env):
    """One dream, with the spaces of the real environment. Arguments, options and infos: see `DreamVectorEnv`.

    `options["frames"]` is `t h w c` here. `gymnasium.make(max_episode_steps=...)` may shorten dreams further.

    Raises: ValueError as `DreamVectorEnv`, or for an `autoreset_mode`: a single dream is reset by its user.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": RENDER_FPS}  # noqa: RUF012
    _spec: EnvSpec | None = None

    def __init__(self, *, render_mode: str | None = None, **settings: Any):
        mode = AutoresetMode(settings.pop("autoreset_mode", AutoresetMode.DISABLED))
        if mode != AutoresetMode.DISABLED:
            raise ValueError(f"autoreset_mode: a single dream is reset by its user, got {mode.value}; use make_vec")
        self._be(DreamVectorEnv(1, autoreset_mode=mode, render_mode=render_mode, **settings), 0)

    @classmethod
    def among(cls, dreams: DreamVectorEnv, place: int) -> "DreamEnv":
        """One of many dreams, as it would be alone: what is done to it is done to that one."""
        env = cls.__new__(cls)
        env._be(dreams, place)
        return env

    def _be(self, dreams: DreamVectorEnv, place: int) -> None:
        self.dreams, self.place, self.render_mode = dreams, place, dreams.render_mode
        self.observation_space = dreams.single_observation_space
        self.action_space = dreams.single_action_space
        self.action_names = dreams.world.info.action_names

    @property
    def spec(self) -> EnvSpec | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How `gymnasium.make` made it."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._spec = _plain(spec)

    @property
    def _np_random(self) -> np.random.Generator:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.dreams._generators[self.place]

    @_np_random.setter
    def _np_random(self, value: np.random.Generator) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.dreams._generators[self.place] = value

    @property
    def _np_random_seed(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.dreams._seeds[self.place]

    @_np_random_seed.setter
    def _np_random_seed(self, value: int) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.dreams._seeds[self.place] = value

    @property
    def state(self) -> DreamState:
        """Where the dream stands, a copy: what a planner branches from."""
        return self.snapshot().state

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a dream that `seed` determines; without a seed, one more dream."""
        super().reset(seed=seed)
        options = _options(options)
        for name in ("frames", "actions"):
            if name in options:
                options[name] = as_array(options[name])[None]
        self.dreams._reset_slots(np.array([self.place]), options)
        return self._seen(), self._infos(np.zeros(1), np.zeros(1))

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """What `action` leads to, as `gymnasium.Env.step` has it."""
        self.dreams._now([self.place])
        if self.dreams._done[self.place]:
            raise ResetNeeded("the dream is over: call reset() first")
        live = np.array([self.place])
        reward, surprise, end, *flags = self.dreams._step_live(live, as_array(action)[None])
        outcome = (self.dreams._to_output(each)[0] for each in (reward, *flags))
        if not self.dreams.tensors:
            outcome = (each.item() for each in outcome)
        return self._seen(), *outcome, self._infos(surprise, end)  # pyright: ignore[reportReturnType]

    def render(self) -> np.ndarray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The newest frame, where `render_mode` is "rgb_array"."""
        if self.render_mode is None:
            return None
        return self.dreams._now([self.place]).frame[self.place].cpu().numpy().copy()

    def snapshot(self) -> Snapshot:
        """This moment, to come back to."""
        return self.dreams._snapshot([self.place])

    def restore(self, snapshot: Snapshot, seed: int | None = None) -> None:
        """Go on from that moment: to the same future under the same actions or, with a `seed`, to another one."""
        self.dreams._restore([self.place], snapshot, seed)

    def _seen(self) -> Any:
        return self.dreams._observe(slice(self.place, self.place + 1))[0]

    def _infos(self, surprise: np.ndarray, end: np.ndarray) -> dict[str, Any]:
        return single(self.dreams._info_values(surprise, end, slice(self.place, self.place + 1)), 0)


def single(infos: dict[str, Any], place: int) -> dict[str, Any]:
    """The infos of one of many dreams, as `DreamEnv` gives them."""
    found = {name: values[place] for name, values in infos.items() if not name.startswith(("_", "final_"))}
    return {name: float(x) if isinstance(x, np.floating) else x for name, x in found.items()}


def _plain(spec: EnvSpec | None) -> EnvSpec | None:
    """The same with settings that JSON can hold: a folder by its name, a mode by its word."""
    if spec is None:
        return None
    words = {name: str(x) if isinstance(x, Path) else x for name, x in spec.kwargs.items()}
    spec = copy.copy(spec)
    spec.kwargs = {name: x.value if isinstance(x, AutoresetMode) else x for name, x in words.items()}
    return spec


def _step_limit(world: WorldModel, horizon: int | None, max_episode_steps: int | None) -> float:
    """Steps after which dreams are truncated."""
    if horizon is None:
        trusted = world.info.trust_horizon
        horizon = (world.info.longest or 0) if trusted is None else max(trusted, 1)  # 0 would mean: never
    horizon = _whole("horizon", horizon, least=0)
    longest = np.inf if max_episode_steps is None else _whole("max_episode_steps", max_episode_steps, least=1)
    return min(horizon or np.inf, longest)


def _whole(name: str, value: Any, least: int) -> int:
    """A setting as a whole number.

    Raises: TypeError for another type; ValueError for a smaller number. Both name the setting.
    """
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{name}: expected a whole number, got {value!r}")
    if number < least:
        raise ValueError(f"{name}: expected {least} or more, got {number}")
    return number


def _options(options: Any) -> dict[str, Any]:
    """A copy of the options of a reset."""
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"options: expected a mapping, got {options!r}")
    return dict(options or {})


def _masked(mask: Any, count: int) -> np.ndarray:
    """The places that a mask names; all without one."""
    if mask is None:
        return np.arange(count)
    mask = as_array(mask)
    if mask.dtype != np.bool_ or mask.shape != (count,) or not mask.any():
        raise ValueError(f"reset_mask: expected {count} booleans, one of them true, got {mask.dtype} {mask.shape}")
    return np.flatnonzero(mask)


def _seeds(seed: Seeds | None, count: int) -> list[int | None]:
    if seed is None:
        return [None] * count
    seeds: list[int | None] = np.asarray(seed, object).tolist() if np.ndim(seed) else []  # pyright: ignore
    if isinstance(seed, int | np.integer):
        seeds = [int(seed) + i for i in range(count)]
    if len(seeds) != count:
        raise ValueError(f"seed: expected a number or {count} of them, got {len(seeds)}")
    return seeds


def _start_number(value: Any) -> int:
    """The number of a start context."""
    try:
        return _whole("options: start", value, least=0)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _key(generator: np.random.Generator) -> int:
    """The number of a dream, from which all its chance follows."""
    return int(generator.integers(2**63))


def as_array(values: Any) -> np.ndarray:
    """The values of a tensor, an array (masked ones stay masked) or a list."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asanyarray(values)

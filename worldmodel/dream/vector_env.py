"""Many dreams as a Gymnasium vector environment."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from worldmodel.dream.arguments import (
    Horizon,
    JsonSpec,
    Seeds,
    check_render_mode,
    masked_places,
    reset_options,
    seed_of_each,
)
from worldmodel.dream.batch import DreamBatch, Snapshot
from worldmodel.dream.spaces import Observation, as_array
from worldmodel.prior import SamplerConfig
from worldmodel.world import DreamState, WorldModel

RENDER_FPS = 15


class DreamVectorEnv(JsonSpec, VectorEnv):  # pyright: ignore[reportIncompatibleVariableOverride]
    """N dreams that are stepped in one pass. Each one goes as it would alone, on a CPU to the last bit.

    With a world of time stride k, an action is a chunk of k actions (see `action_space`), a step counts as k, its
    reward is their sum, and the observation is the last frame.

    Infos, `b` values each: "surprise", bits of the step (exact, −log2 p of its tokens), "end_probability", the
    probability that the step ends the episode, and "tokens", int64 `b y x`. In each info, that of a reset too, are
    "horizon", the steps after which the dream is truncated (0: never), and "trust_horizon", the steps up to which
    dreams of this world were measured to hold (-1: not measured). `limit_source` says where the first comes from.

    A dream that ends at its last step is terminated and not truncated.

    Args:
        num_envs: how many dreams.
        world: a folder, a name, or a world in memory.
        obs: what is observed, see `observation_space`.
        starts: "resets" starts where episodes of the data start, "anywhere" also within them.
        horizon: steps after which a dream is truncated (0: never), or "trust" for the world's trust horizon (at least
            one step). By default as many as the real environment has (`max_steps` in the world's info); where none are
            known, as many as the longest episode of the data; where no data are known either, never.
        max_episode_steps: the same, under the name that `gymnasium.make_vec` uses; the shorter one counts.
        truncate_on_surprise: a dream is truncated at a step that carries more bits than this, also if it ends there.
        autoreset_mode: one of Gymnasium's three modes.
        sampler: how tokens are drawn (None: as the world's own settings say).
        tensors: whether observations, rewards, flags and infos stay tensors on the device, with numbers as float32.
            Otherwise they are arrays, with numbers as float64, like those of `SyncVectorEnv`.

    Raises:
        ValueError: the world predicts no rewards, or a setting is out of range.
        TypeError: a setting has the wrong type.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        world: str | Path | WorldModel,
        obs: Observation = "frames",
        starts: Literal["resets", "anywhere"] = "resets",
        horizon: Horizon | None = None,
        max_episode_steps: int | None = None,
        truncate_on_surprise: float | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        sampler: SamplerConfig | Mapping[str, Any] | None = None,
        render_mode: str | None = None,
        tensors: bool = False,
        device: str = "cpu",
    ):
        check_render_mode(render_mode)
        self.autoreset_mode, self.render_mode = AutoresetMode(autoreset_mode), render_mode
        self.batch = DreamBatch(
            num_envs,
            world=world,
            obs=obs,
            starts=starts,
            horizon=horizon,
            max_episode_steps=max_episode_steps,
            truncate_on_surprise=truncate_on_surprise,
            sampler=sampler,
            tensors=tensors,
            device=device,
        )
        self.num_envs, self.world = self.batch.count, self.batch.world
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": RENDER_FPS, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = self.batch.observation_space
        self.single_action_space = self.batch.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    @property
    def limit(self) -> float:
        """Steps after which dreams are truncated; infinity if they never are."""
        return self.batch.limit

    @property
    def limit_source(self) -> str:
        """What says so: "horizon", "max_episode_steps", "trust", "environment", "longest episode" (of the data), or
        "none"."""
        return self.batch.limit_source

    @property
    def state(self) -> DreamState:
        """The states of all dreams, a copy, from which a planner may branch.

        Raises: ResetNeeded before the first reset.
        """
        return DreamState.join([self.batch.state()])

    def reset(self, *, seed: Seeds | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start new dreams, all of them or those that a mask selects.

        Args:
            seed: dream i gets seed + i; a list has one seed (or None) for each.
            options: "frames" (uint8 `b t h w c`) and "actions" (`b t-1 *space`) to start from, or "start", the
                number of a start context of the world; and "reset_mask" (bool `b`).

        Raises:
            ValueError: seeds, frames, actions or the mask do not fit, or there is nothing to start from.
            ResetNeeded: the mask leaves out dreams that have never started.
        """
        options = reset_options(options)
        places = masked_places(options.pop("reset_mask", None), self.num_envs)
        reset_now = np.isin(np.arange(self.num_envs), places)
        if not (reset_now | self.batch.started).all():
            raise ResetNeeded("reset_mask: some dreams have never started: reset them all first")
        for place, own in enumerate(seed_of_each(seed, self.num_envs)):
            if own is not None and place in places:
                self.batch.seed(place, own)
        self.batch.reset(places, options)
        nothing = np.zeros(self.num_envs)
        infos = self._masked_infos(nothing, nothing, reset_now)
        return self.batch.observe(), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One action (or chunk of actions) for each dream, `b *space`.

        Raises:
            ResetNeeded: before the first reset, or if a dream is over and the autoreset mode does not reset it.
            ValueError: actions are outside the space.
        """
        self.batch.state()
        if (actions := as_array(actions)).shape[:1] != (self.num_envs,):
            raise ValueError(f"expected one action for each of {self.num_envs} dreams, got shape {actions.shape}")
        ended = self.batch.over.copy()
        if self.autoreset_mode != AutoresetMode.NEXT_STEP and ended.any():
            over = np.flatnonzero(ended).tolist()
            raise ResetNeeded(f'dreams {over} are over: reset them first, by options={{"reset_mask": ...}}')
        rewards, surprise, end, terminated, truncated = self._step_live(~ended, actions)
        if ended.any():  # next-step mode: this step only restarts them
            self.batch.reset(np.flatnonzero(ended), {})
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self.batch.over.any():
            infos = self._autoreset_same_step(surprise, end)
        else:
            infos = self._masked_infos(surprise, end, np.ones(self.num_envs, bool))
        flags = (self.batch.output(each) for each in (rewards, terminated, truncated))
        return self.batch.observe(), *flags, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The newest frame of each dream if `render_mode` is "rgb_array", uint8 `h w c`; otherwise None."""
        return None if self.render_mode is None else tuple(self.batch.frames(self.batch.places))

    def snapshot(self) -> Snapshot:
        """The present moment of all dreams, random generators included. Raises: ResetNeeded before the first reset."""
        return self.batch.snapshot(self.batch.places)

    def restore(self, snapshot: Snapshot, seed: int | None = None) -> None:
        """Continue from a snapshot: to the same future under the same actions or, with a `seed`, to another one.

        Raises: ValueError for a snapshot of another number of dreams.
        """
        self.batch.restore(self.batch.places, snapshot, seed)

    @property
    def np_random(self) -> tuple[np.random.Generator, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The generator of each dream, as in `SyncVectorEnv`; a single one that is set spawns all of them."""
        return tuple(self.batch.generators)

    @np_random.setter
    def np_random(self, value: np.random.Generator | Sequence[np.random.Generator]) -> None:
        generators = value.spawn(self.num_envs) if isinstance(value, np.random.Generator) else list(value)
        if len(generators) != self.num_envs:
            raise ValueError(f"np_random: expected {self.num_envs} generators, got {len(generators)}")
        self.batch.generators, self.batch.seeds = generators, [-1] * self.num_envs

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The seed of each generator, -1 if unknown."""
        return tuple(self.batch.seeds)

    def _step_live(self, live: np.ndarray, actions: np.ndarray) -> list[np.ndarray]:
        """Step the dreams that `live` selects; five columns `b`, with zeros for the others."""
        columns = [np.zeros(self.num_envs) for _ in range(3)] + [np.zeros(self.num_envs, bool) for _ in range(2)]
        if live.any():
            for column, values in zip(columns, self.batch.step(np.flatnonzero(live), actions[live]), strict=True):
                column[live] = values
        return columns

    def _autoreset_same_step(self, surprise: np.ndarray, end: np.ndarray) -> dict[str, Any]:
        """Restart the dreams that are over; the infos hold their last observations and infos."""
        over, last = self.batch.over.copy(), self.batch.observe()
        final: np.ndarray = np.full(self.num_envs, None, dtype=object)
        for place in np.flatnonzero(over):
            final[place] = last[place].copy() if isinstance(last, np.ndarray) else last[place].clone()
        final_info = self._masked_infos(surprise, end, over)
        self.batch.reset(np.flatnonzero(over), {})
        every = np.ones(self.num_envs, bool)
        infos = self._masked_infos(np.where(over, 0.0, surprise), np.where(over, 0.0, end), every)
        masks = {"_final_obs": over.copy(), "_final_info": over.copy()}
        return infos | {"final_obs": final, "final_info": final_info, **masks}

    def _masked_infos(self, surprise: np.ndarray, end: np.ndarray, valid: np.ndarray) -> dict[str, Any]:
        """The info dict; `valid` says for which dreams the values hold (Gymnasium's `_key` convention)."""
        infos = self.batch.infos(surprise, end)
        return infos | {f"_{name}": valid.copy() for name in infos}


def single(infos: dict[str, Any], place: int) -> dict[str, Any]:
    """The infos of one dream of many, as `DreamEnv` gives them."""
    own = {name: values[place] for name, values in infos.items() if not name.startswith(("_", "final_"))}
    return {name: x.item() if isinstance(x, np.floating | np.integer) else x for name, x in own.items()}

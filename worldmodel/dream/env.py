"""One dream as a Gymnasium environment."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

from worldmodel.dream.arguments import JsonSpec, check_render_mode, reset_options
from worldmodel.dream.batch import DreamBatch, Snapshot
from worldmodel.dream.spaces import as_array
from worldmodel.dream.vector_env import RENDER_FPS, single
from worldmodel.world import DreamState


class DreamEnv(JsonSpec, gymnasium.Env):  # pyright: ignore[reportIncompatibleVariableOverride]
    """One dream, with the spaces of the real environment. Arguments and infos: see `DreamVectorEnv`.

    `gymnasium.make(max_episode_steps=...)` may shorten dreams further.

    Raises: ValueError and TypeError as `DreamVectorEnv`; ValueError for an `autoreset_mode`, as a single dream is reset
    by its user.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": RENDER_FPS}  # noqa: RUF012

    def __init__(self, *, render_mode: str | None = None, **settings: Any):
        mode = AutoresetMode(settings.pop("autoreset_mode", AutoresetMode.DISABLED))
        if mode != AutoresetMode.DISABLED:
            raise ValueError(f"autoreset_mode: a single dream is reset by its user, got {mode.value}; use make_vec")
        check_render_mode(render_mode)
        self._attach(DreamBatch(1, **settings), 0, render_mode)

    @classmethod
    def among(cls, batch: DreamBatch, place: int, render_mode: str | None = None) -> "DreamEnv":
        """The environment of one dream in a batch: its steps and resets act on that dream alone."""
        env = cls.__new__(cls)
        env._attach(batch, place, render_mode)
        return env

    def _attach(self, batch: DreamBatch, place: int, render_mode: str | None) -> None:
        self.batch, self.place, self.render_mode = batch, place, render_mode
        self.observation_space, self.action_space = batch.observation_space, batch.action_space
        self.action_names = batch.world.info.action_names

    # gymnasium.Env keeps its generator in `_np_random` and `_np_random_seed`; here the batch holds both.
    @property
    def _np_random(self) -> np.random.Generator:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.batch.generators[self.place]

    @_np_random.setter
    def _np_random(self, value: np.random.Generator) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.batch.generators[self.place] = value

    @property
    def _np_random_seed(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.batch.seeds[self.place]

    @_np_random_seed.setter
    def _np_random_seed(self, value: int) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.batch.seeds[self.place] = value

    @property
    def limit_source(self) -> str:
        """What says after how many steps the dream is truncated, see `DreamVectorEnv`."""
        return self.batch.limit_source

    @property
    def state(self) -> DreamState:
        """The state of the dream, a copy, from which a planner may branch. Raises: ResetNeeded before a reset."""
        return self.snapshot().state

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start a dream that `seed` determines; without a seed, the next one of its generator.

        options: "frames" (uint8 `t h w c`) and "actions" (`t-1 *space`) to start from, or "start", the number of a
        start context of the world.

        Raises: ValueError for frames, actions or a number that do not fit, or if there is nothing to start from.
        """
        super().reset(seed=seed)
        options = reset_options(options)
        for name in ("frames", "actions"):
            if name in options:
                options[name] = as_array(options[name])[None]
        self.batch.reset([self.place], options)
        return self._observe(), self._infos(np.zeros(1), np.zeros(1))

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Observation, reward, terminated, truncated and info, as in `gymnasium.Env.step`.

        Raises: ResetNeeded before a reset and after the end; ValueError for an action outside the space.
        """
        self.batch.state([self.place])
        if self.batch.over[self.place]:
            raise ResetNeeded("the dream is over: call reset() first")
        step = self.batch.step(np.array([self.place]), as_array(action)[None])
        outcome = (self.batch.output(each)[0] for each in (step.rewards, step.terminated, step.truncated))
        if not self.batch.tensors:
            outcome = (each.item() for each in outcome)
        infos = self._infos(step.surprise, step.end_probability)
        return self._observe(), *outcome, infos  # pyright: ignore[reportReturnType]

    def render(self) -> np.ndarray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The newest frame if `render_mode` is "rgb_array", uint8 `h w c`; otherwise None."""
        return None if self.render_mode is None else self.batch.frames([self.place])[0]

    def snapshot(self) -> Snapshot:
        """The present moment, random generator included. Raises: ResetNeeded before a reset."""
        return self.batch.snapshot([self.place])

    def restore(self, snapshot: Snapshot, seed: int | None = None) -> None:
        """Continue from a snapshot: to the same future under the same actions or, with a `seed`, to another one.

        Raises: ValueError for a snapshot of several dreams.
        """
        self.batch.restore([self.place], snapshot, seed)

    def _observe(self) -> Any:
        return self.batch.observe(slice(self.place, self.place + 1))[0]

    def _infos(self, surprise: np.ndarray, end: np.ndarray) -> dict[str, Any]:
        return single(self.batch.infos(surprise, end, slice(self.place, self.place + 1)), 0)

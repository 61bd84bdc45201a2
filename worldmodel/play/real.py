"""The real environment of a session: stepped beside the dream, and brought back to moments by playing them again."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import gymnasium
import numpy as np
from jaxtyping import UInt8

from worldmodel.data.collect.engine import EngineError, Step, checked_reset, checked_step, engine_errors
from worldmodel.info import WorldInfo


@dataclass(frozen=True)
class Track:
    """How the environment got to a moment: the seed of its reset, and the actions since."""

    seed: int
    actions: tuple[np.ndarray, ...]


class RealPlayer:
    """One environment, made when it is first reset. `keep` is the number of newest frames to remember.

    Raises: EngineError from `reset` and `step` if the environment fails; the next reset makes a new one.
    """

    def __init__(self, make_env: Callable[[], gymnasium.Env], info: WorldInfo, keep: int):
        self.make_env, self.info, self.keep = make_env, info, keep
        self.env: gymnasium.Env | None = None
        self.frames: list[UInt8[np.ndarray, "h w c"]] = []
        self.actions: list[np.ndarray] = []
        self.seed, self.over = 0, True

    def reset(self, seed: int) -> UInt8[np.ndarray, "h w c"]:
        """Start the episode that the seed determines; returns its first frame."""
        with self._closed_on_failure():
            self.env = self.env or self._make()
            frame = checked_reset(self.env, seed, self.info.frame_shape)[1]
        self.frames, self.actions, self.seed, self.over = [frame], [], seed, False
        return frame

    def step(self, action: np.ndarray) -> Step:
        """One step of the environment."""
        if self.env is None:
            raise EngineError("the real environment has failed: start again")
        with self._closed_on_failure():
            taken = action.item() if action.ndim == 0 else action.copy()
            step = checked_step(self.env, taken, len(self.actions), self.info.frame_shape)
        self.frames = [*self.frames, step.frame][-self.keep :]
        self.actions.append(action)
        self.over = step.terminated or step.truncated
        return step

    def track(self) -> Track:
        """How the environment got here."""
        return Track(self.seed, tuple(self.actions))

    def go_to(self, track: Track) -> None:
        """Bring the environment back to a moment: reset it with the seed, and take the same actions again."""
        if self.env is not None and self._is_at(track):
            return
        self.reset(track.seed)
        for action in track.actions:
            self.step(action)

    def recent(self) -> tuple[UInt8[np.ndarray, "t h w c"], np.ndarray]:
        """The newest frames, and the actions between them (`t-1 *space`)."""
        between = self.actions[len(self.actions) - len(self.frames) + 1 :]
        space = self.info.action_space
        none = np.zeros((0, *(getattr(space, "shape", None) or ())), getattr(space, "dtype", None))
        return np.stack(self.frames), np.stack(between) if between else none

    def close(self) -> None:
        """Close the environment, if there is one."""
        env, self.env, self.over = self.env, None, True
        if env is not None:
            with contextlib.suppress(EngineError), engine_errors("close"):
                env.close()

    def _is_at(self, track: Track) -> bool:
        """Whether the environment is at this moment already."""
        if (self.seed, len(self.actions)) != (track.seed, len(track.actions)):
            return False
        return all(mine is other for mine, other in zip(self.actions, track.actions, strict=True))

    def _make(self) -> gymnasium.Env:
        env = self.make_env()
        spaces = env.action_space, self.info.action_space
        if spaces[1] is not None and spaces[0] != spaces[1]:
            env.close()
            raise EngineError(f"the real environment has the actions {spaces[0]}, this world has {spaces[1]}")
        return env

    @contextlib.contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except EngineError:
            self.close()
            raise


def end_of(step: Step) -> Literal["", "terminated", "truncated"]:
    """How the episode ended with a step; "" if it goes on."""
    return "terminated" if step.terminated else "truncated" if step.truncated else ""

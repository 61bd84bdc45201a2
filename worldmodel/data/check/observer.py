"""Watches an environment while a few episodes are played: its pictures before they become frames."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import UInt8

from worldmodel.data.collect.engine import engine_errors

MOST_SHOTS = 16  # that are kept of all steps
ATTRIBUTES = {"frames_from": "frames_from", "unused": "unused_observations", "passed_over": "passed_over"}


@dataclass(frozen=True)
class Shot:
    """One moment: the picture of the environment, and the frame that the world gets. Episodes count from 0.

    action, reward: of the step that led here; None for the first frame of an episode.
    """

    episode: int
    step: int
    picture: UInt8[np.ndarray, "H W _"]
    frame: UInt8[np.ndarray, "h w _"]
    action: Any = None
    reward: float | None = None


@dataclass
class Seen:
    """What an environment showed.

    shots: some moments, evenly spread over all steps. values: which of the 256 values their pictures have, alpha aside.
    sizes: shapes of their pictures, (h, w, c). fourth: whether a fourth channel of theirs is anything but 255.
    unused, passed_over: entries of the observation that no frame shows, and those of them that look like pictures:
    what each is, and what would make it a picture.
    """

    frames_from: str = "the observation"
    unused: tuple[str, ...] = ()
    passed_over: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    shots: list[Shot] = field(default_factory=list)
    values: np.ndarray = field(default_factory=lambda: np.zeros(256, bool))
    sizes: set[tuple[int, ...]] = field(default_factory=set)
    fourth: bool = False

    def add(self, shot: Shot) -> None:
        """Keep a moment and take note of its picture."""
        picture = shot.picture
        self.shots.append(shot)
        self.values |= np.bincount(picture[..., :3].ravel(), minlength=256) > 0
        self.sizes.add(picture.shape)
        self.fourth |= picture.shape[2] == 4 and not (picture[..., 3] == 255).all()


class Observer(gymnasium.Wrapper):
    """Passes everything on and remembers what it saw; ends an episode after `steps` steps, or when time is up.

    stopped: whether it ended the last episode.
    """

    def __init__(self, env: gymnasium.Env, steps: float, deadline: float):
        super().__init__(env)
        self.steps, self.deadline, self.stopped = steps, deadline, False
        self._episode, self._step = -1, 0
        self._count, self._stride = 0, 1
        with engine_errors("frames_from"):
            found = {name: attribute for name, attribute in ATTRIBUTES.items() if env.has_wrapper_attr(attribute)}
            self.seen = Seen(**{name: env.get_wrapper_attr(attribute) for name, attribute in found.items()})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        returned = self.env.reset(seed=seed, options=options)
        self.stopped, self._episode, self._step = False, self._episode + 1, 0
        if isinstance(returned, tuple | list) and returned:
            self._remember(returned[0], None, None)
        return returned

    def step(self, action: Any) -> Any:
        returned = self.env.step(action)
        if not isinstance(returned, tuple | list) or len(returned) != 5:
            return returned  # the caller refuses it
        observation, reward, terminated, truncated, info = returned
        self._step += 1
        self._remember(observation, action, reward)
        self.stopped = not (terminated or truncated) and (self._step >= self.steps or time.monotonic() > self.deadline)
        return observation, reward, terminated, truncated or self.stopped, info

    def _remember(self, observation: Any, action: Any, reward: Any) -> None:
        picture = frame = np.asarray(observation)
        if self.env.has_wrapper_attr("last_image"):
            picture = np.asarray(self.env.get_wrapper_attr("last_image"))
        picture = picture[..., None] if picture.ndim == 2 else picture
        if picture.dtype != np.uint8 or picture.ndim != 3 or not picture.size:
            return  # the caller refuses it
        if self._count % self._stride == 0:
            self._keep(Shot(self._episode, self._step, picture.copy(), frame.copy(), action, reward))
        self._count += 1

    def _keep(self, shot: Shot) -> None:
        """Keep a moment, and every second one alone when they are too many."""
        self.seen.add(shot)
        if len(self.seen.shots) > MOST_SHOTS:
            self.seen.shots, self._stride = self.seen.shots[::2], 2 * self._stride

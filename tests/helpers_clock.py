"""An environment whose rewards and end are known: a clock that strikes each hour and stops after the third."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from tests.helpers_env import register

SIDE = 32  # pixels of a frame
HOUR, HOURS = 8, 3  # steps of an hour; hours of an episode
LAST = HOUR * HOURS  # the step that ends the episode
PLACES = 7  # where the marker below the clock may stand
HAND, MARKER, LAMP = (30, 30, 30), (200, 40, 40), (40, 120, 60)


class ClockEnv(gymnasium.Env):
    """The hand moves by itself, an eighth of a turn a step; the actions move a marker below it.

    Each hour, at steps 8, 16 and 24, gives a reward of 1 and lights a lamp. The episode ends with the third.
    """

    action_names = ("left", "right")
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None):
        self.observation_space = Box(0, 255, (SIDE, SIDE, 3), np.uint8)
        self.action_space, self.render_mode = Discrete(2), render_mode
        self.now, self.place = 0, PLACES // 2

    def reset(self, *, seed=None, options=None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.now, self.place = 0, int(self.np_random.integers(PLACES))
        return self.render(), {}

    def step(self, action) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.now += 1
        self.place = int(np.clip(self.place + 2 * int(action) - 1, 0, PLACES - 1))
        return self.render(), float(self.now % HOUR == 0), self.now == LAST, False, {}

    def render(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        frame = np.full((SIDE, SIDE, 3), 225, np.uint8)
        for i in range(HOURS):
            frame[1:5, 3 + 10 * i : 9 + 10 * i] = LAMP if i < self.now // HOUR else (190, 190, 190)
        angle = 2 * np.pi * self.now / HOUR
        for length in np.linspace(0, 9, 40):
            y, x = 16 - length * np.cos(angle), 15.5 + length * np.sin(angle)
            frame[int(y) : int(y) + 2, int(x) : int(x) + 2] = HAND
        frame[28:31, 2 + 4 * self.place : 6 + 4 * self.place] = MARKER
        return frame


register("Clock-v0", ClockEnv)

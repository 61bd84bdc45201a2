"""An environment whose every frame says which seed, which step and which last action made it."""

import os
import signal
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvCreator
from gymnasium.spaces import Box, Discrete

from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.nn.actions import space_from_json

FRAME_SHAPE = (6, 5, 3)  # not square, on purpose
NO_ACTION = 255


class CounterEnv(gymnasium.Env):
    """Pixel (0, 0) holds seed % 251, the step and the last action; the rest is noise drawn from the seed.

    The reward of a step is the number of the frame that it leads to; the seed decides the episode's length.
    """

    action_names = ("left", "right", "jump")

    def __init__(self, shortest: int = 20, longest: int = 60):
        self.observation_space = Box(0, 255, FRAME_SHAPE, np.uint8)
        self.action_space = Discrete(3)
        self.shortest, self.longest = shortest, longest
        self.frame = np.zeros(FRAME_SHAPE, np.uint8)  # painted over at every step, as real envs do

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        assert seed is not None
        self.seed, self.now = seed, 0
        self.length = int(self.np_random.integers(self.shortest, self.longest + 1))
        return self._show(NO_ACTION), {"now": 0}

    def step(self, action) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.now += 1
        return self._show(int(action)), float(self.now), self.now == self.length, False, {"now": self.now}

    def _show(self, action):
        self.frame[:] = self.np_random.integers(0, 256, FRAME_SHAPE, dtype=np.uint8)
        self.frame[0, 0] = (self.seed % 251, self.now % 256, action)
        return self.frame


class SpacedEnv(CounterEnv):
    """Takes actions of this space, given as JSON, and no others, not even of another type."""

    def __init__(self, space: Mapping[str, Any], steps: int = 6):
        super().__init__(steps, steps)
        self.action_space = space_from_json(space)

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=0 if seed is None else seed)

    def step(self, action):
        if not self.action_space.contains(action):
            raise ValueError(f"expected an action of {self.action_space}, got {action!r}")
        return super().step(0)


class DeadlyEnv(CounterEnv):
    """Kills its own process in the first episode that any process starts; afterwards it is a CounterEnv."""

    def __init__(self, flag: Path):
        super().__init__()
        self.flag = flag

    def step(self, action):
        if self.now == 5 and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


class FaultyEnv(CounterEnv):
    """Crashes ("crash"), hangs ("hang") or raises ("raise") at step 5 of the episodes that have one of these seeds."""

    def __init__(self, fault: str, seeds: Collection[int]):
        super().__init__()
        self.fault, self.seeds = fault, seeds

    def step(self, action):
        if self.now == 5 and self.seed in self.seeds:
            FAULTS[self.fault]()
        return super().step(action)


def _raise() -> None:
    raise KeyError("engine")


FAULTS = {
    "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "hang": lambda: time.sleep(3600),
    "raise": _raise,
}


def register(name: str, make: Callable[..., gymnasium.Env]) -> None:
    """Register an environment whose parameters have names, which the type of `gymnasium.register` does not allow."""
    gymnasium.register(name, cast(EnvCreator, make))


register("Faulty-v0", FaultyEnv)
register("Spaced-v0", SpacedEnv)


class BrokenEnv(CounterEnv):
    """Raises the errors in `faults`: place ("make", "space", "reset", "step", "close") to error."""

    faults: ClassVar[dict[str, BaseException]] = {}

    def __init__(self):
        self.fail("make")
        super().__init__()

    def fail(self, place: str) -> None:
        if place in self.faults:
            raise self.faults[place].with_traceback(None)

    @property
    def observation_space(self):
        self.fail("space")
        return self._space

    @observation_space.setter
    def observation_space(self, space):
        self._space = space

    def reset(self, *, seed=None, options=None):
        self.fail("reset")
        return super().reset(seed=seed, options=options)

    def step(self, action):
        self.fail("step")
        return super().step(action)

    def close(self):
        self.fail("close")


register("Broken-v0", BrokenEnv)


def counter_info(**settings) -> DatasetInfo:
    """The DatasetInfo of CounterEnv episodes."""
    values: dict[str, Any] = {"seed": 0, "info_keys": ("now",), "action_names": CounterEnv.action_names, **settings}
    return DatasetInfo(Discrete(3), FRAME_SHAPE, **values)


def jump_on_even_steps(observation, rng, action_space):
    """A policy for tests: looks at the step in the frame."""
    return 2 if observation[0, 0, 1] % 2 == 0 else int(rng.integers(2))


class OddEnv(gymnasium.Env):
    """Environments as strangers have them; `odd` says which fault this one has."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, odd: str = "", render_mode: str | None = None):
        image, state = Box(0, 255, (8, 8, 3), np.uint8), Box(-1, 1, (2,), np.float32)
        self.observation_space = gymnasium.spaces.Dict(image=image, state=state)
        actions = gymnasium.spaces.Dict(a=Discrete(2)) if odd == "dict actions" else Discrete(2)
        self.action_space, self.odd, self.render_mode = actions, odd, render_mode
        if odd == "constructor":
            raise KeyError("assets")
        if odd == "exit":
            os._exit(7)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.odd == "reset":
            raise RuntimeError("no display")
        return self.observation_space.sample(), {}

    def step(self, action):
        reward = float("nan") if self.odd == "reward" else 0.0
        return self.observation_space.sample(), reward, False, False, {}

    def close(self):
        if self.odd == "close":
            raise KeyError("shut already")


register("Odd-v0", OddEnv)

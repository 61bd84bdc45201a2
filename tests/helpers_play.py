"""A small world that is played, and a real environment of its shape."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete

from tests.helpers_models import small_world
from worldmodel.play.server import Server, bind, make_app, url
from worldmodel.play.session import Session

FRAME = (16, 24, 3)
LENGTH = 40  # steps of an episode, unless another number is asked for


class Echo(gymnasium.Env):
    """Each frame is a function of the seed and of all actions so far; the reward of a step is its number."""

    def __init__(self, length: int = LENGTH, truncates: bool = False, space: Space | None = None):
        self.observation_space, self.action_space = Box(0, 255, FRAME, np.uint8), space or Discrete(4)
        self.length, self.truncates, self.closed = length, truncates, False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.history = [float(seed or 0)]
        return self._show(), {}

    def step(self, action) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.history.append(float(np.sum(action)) + 2)
        over = len(self.history) > self.length
        return self._show(), float(len(self.history) - 1), over and not self.truncates, over and self.truncates, {}

    def close(self) -> None:
        self.closed = True

    def _show(self) -> np.ndarray:
        key = [int(1000 * each) for each in self.history]
        return np.random.default_rng(np.abs(key)).integers(0, 256, FRAME, dtype=np.uint8)


def endless(world):
    """The world, in which no dream ends by itself."""
    head = world.prior.outcome
    head.out_proj.bias.data[len(world.prior.rewards) :] -= 100.0
    return world


def small_session(out: Path, make_env: Any = Echo, seed: int = 3, world=None, **settings) -> Session:
    """A session of a small world whose dreams do not end."""
    return Session(world or endless(small_world(**settings)), make_env, name="small", seed=seed, out=out)


def play(session: Session, values) -> list[np.ndarray]:
    """Take these actions; the frames of the first side after each."""
    frames = []
    for value in values:
        session.step(value)
        frames.append(next(iter(session.now.sides.values())).frame)
    return frames


@contextlib.contextmanager
def served(session: Session) -> Iterator[str]:
    """The address of a server of the session, which ends with the block."""
    listening = bind("127.0.0.1", 0)
    server = Server(make_app(session))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield url(listening)
    finally:
        server.should_exit = True
        thread.join()

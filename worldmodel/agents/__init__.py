"""Agents: whoever acts in an environment, real or dreamed, from its frames.

An agent has `episode(rng)`, which gives a fresh policy for one episode: a function from each frame to an action, all
of whose chance comes from `rng`.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium import Space

from worldmodel.data.collect.policies import make_policy

Policy = Callable[[np.ndarray], Any]  # frame, uint8 `h w c` → action


@runtime_checkable
class Agent(Protocol):
    """Whoever can play episodes."""

    def episode(self, rng: np.random.Generator) -> Policy: ...


class RandomAgent:
    """A policy by name, as episodes are collected with: "random", "sticky", or one's own."""

    def __init__(self, action_space: Space, name: str = "random", hold: float = 8.0):
        self.action_space, self.name, self.hold = action_space, name, hold

    def episode(self, rng: np.random.Generator) -> Policy:
        return make_policy(self.name, self.action_space, rng, self.hold)


class ChunkedPolicy:
    """A policy that decides whenever its frames fill a latent.

    `decide` gets the frames since it was last asked, `t h w c` (the first of an episode alone, then `time_stride` of
    them), and gives as many actions as lead to the next time.
    """

    def __init__(self, decide: Callable[[np.ndarray], Iterable[Any]]):
        self.decide = decide
        self.frames: list[np.ndarray] = []
        self.ahead: list[Any] = []

    def __call__(self, frame: np.ndarray) -> Any:
        self.frames.append(np.array(frame))  # a copy: envs may paint the next frame over this one
        if not self.ahead:
            self.ahead = list(self.decide(np.stack(self.frames)))
            self.frames = []
        return self.ahead.pop(0)


__all__ = ["Agent", "ChunkedPolicy", "Policy", "RandomAgent"]

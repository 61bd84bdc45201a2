"""Agents act in an environment, real or dreamed, from its frames.

An agent has `episode(rng)`, which returns a new policy for one episode: a function from each frame to an action. All
randomness comes from `rng`.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium import Space

from worldmodel.data.collect.policies import make_policy

Policy = Callable[[np.ndarray], Any]  # frame, uint8 `h w c` → action


@runtime_checkable
class Agent(Protocol):
    """Anything that can play episodes."""

    def episode(self, rng: np.random.Generator) -> Policy: ...


class RandomAgent:
    """A policy of `make_policy` by name: "random", "sticky", or module:function."""

    def __init__(self, action_space: Space, name: str = "random", hold: float = 8.0):
        self.action_space, self.name, self.hold = action_space, name, hold

    def episode(self, rng: np.random.Generator) -> Policy:
        return make_policy(self.name, self.action_space, rng, self.hold)


class ChunkedPolicy:
    """A policy that decides whenever its frames fill a latent.

    `decide` gets the frames since the last decision, `t h w c`: the first frame of an episode alone, then
    `time_stride` frames. It returns the actions until the next decision.
    """

    def __init__(self, decide: Callable[[np.ndarray], Iterable[Any]]):
        self.decide = decide
        self.frames: list[np.ndarray] = []
        self.pending: list[Any] = []

    def __call__(self, frame: np.ndarray) -> Any:
        self.frames.append(np.array(frame))  # a copy, as environments may reuse the array
        if not self.pending:
            self.pending = list(self.decide(np.stack(self.frames)))
            self.frames = []
        return self.pending.pop(0)


__all__ = ["Agent", "ChunkedPolicy", "Policy", "RandomAgent"]

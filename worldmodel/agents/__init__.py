"""Agents: whoever acts in an environment, real or dreamed, from its frames.

An agent has `episode(rng)`, which gives a fresh policy for one episode: a function from each frame to an action, all
of whose chance comes from `rng`.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium import Space

from worldmodel.data.policies import make_policy

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


__all__ = ["Agent", "Policy", "RandomAgent"]

"""Policies of the collection: "random", "sticky", or your own: "module:function", "module:maker:text"."""

import copy
import importlib
import inspect
import math
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box

Policy = Callable[[Any], Any]  # observation -> action
NAMES = ("random", "sticky")
FUNCTION, MAKER = ("observation", "rng", "action_space"), ("text", "rng")  # parameters of one's own
UNBOUNDED = 1e9  # a bound this far from 0 counts as no bound
UNBOUNDED_INTEGER_RANGE = 2  # integers without a bound are sampled this far from the one nearest to 0


def make_policy(name: str, action_space: Space, rng: np.random.Generator, hold: float = 8.0) -> Policy:
    """A new policy for one episode; all its randomness comes from `rng`.

    - "random": a new action at every step.
    - "sticky": each random action is repeated for a geometric number of steps, `hold` on average. Explores further.
    - "module:function": `function(observation, rng, action_space) -> action`, importable where Python runs.
      It must keep no state between calls, or episodes depend on the process that collected them. Modules are also
      looked for in the working directory.
    - "module:maker:text": `maker(text, rng)` makes the policy of one episode, `observation -> action`, which may
      keep state: an agent from a folder is "worldmodel.agents.sb3:load_policy:FOLDER".

    Raises:
        ValueError: no such policy, one with other parameters, or `hold` below 1.
    """
    if not 1 <= hold < math.inf:
        raise ValueError(f"hold: expected at least 1 step, got {hold}")
    if name not in NAMES:
        module, _, rest = name.partition(":")
        attribute, maker, text = rest.partition(":")
        function = _import_function(f"{module}:{attribute}" if rest else name)
        _check_parameters(name, function, MAKER if maker else FUNCTION)
        if maker:
            return function(text, rng)
        return lambda observation: function(observation, rng, action_space)
    space = _sampling_space(action_space)
    space.seed(int(rng.integers(2**31)))
    if name == "sticky":
        return _Sticky(space, rng, hold)
    return lambda observation: space.sample()


def _sampling_space(space: Space) -> Space:
    """A copy of the space to sample from, in which far bounds of a Box (beyond `UNBOUNDED`) are removed.

    Numbers of about size 1 are sampled there. Gymnasium would sample from the whole range: floats that overflow, and
    always the smallest 64-bit integer.
    """
    if not isinstance(space, Box) or space.dtype.kind == "b":
        return copy.deepcopy(space)  # seeding the env's own would reach into its randomness
    low, high = space.low, space.high
    far = UNBOUNDED if space.dtype.kind in "iu" else min(UNBOUNDED, float(np.finfo(space.dtype).max))
    no_low, no_high = (low <= -far) & (high > -far), (high >= far) & (low < far)
    if not (no_low | no_high).any():
        return copy.deepcopy(space)
    if space.dtype.kind == "f":
        return Box(np.where(no_low, -np.inf, low), np.where(no_high, np.inf, high), space.shape, space.dtype.type)
    near = np.clip(np.zeros_like(low), low, high)
    low = np.where(no_low, np.maximum(low, near - UNBOUNDED_INTEGER_RANGE), low)
    high = np.where(no_high, np.minimum(high, near + UNBOUNDED_INTEGER_RANGE), high)
    return Box(low, high, space.shape, space.dtype.type)


class _Sticky:
    """Repeats each random action for a geometric number of steps."""

    def __init__(self, space: Space, rng: np.random.Generator, hold: float):
        self.space, self.rng, self.hold = space, rng, hold
        self.left, self.action = 0, None

    def __call__(self, observation: Any) -> Any:
        if self.left == 0:
            self.left, self.action = int(self.rng.geometric(1 / self.hold)), self.space.sample()
        self.left -= 1
        return self.action


def _import_function(name: str) -> Callable[..., Any]:
    module, colon, function = name.partition(":")
    wanted = f'policy: expected one of {", ".join(NAMES)}, "module:function" or "module:maker:text", got {name!r}'
    if not colon:
        raise ValueError(wanted)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last, so that no package is hidden
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError, TypeError, SyntaxError) as error:
        hint = "; put its folder on PYTHONPATH" if isinstance(error, ModuleNotFoundError) else ""
        raise ValueError(f"{wanted}: {error}{hint}") from error
    if not callable(found):
        raise ValueError(f"{wanted}: {found!r} cannot be called")
    return found


def _check_parameters(name: str, function: Callable[..., Any], expected: tuple[str, ...]) -> None:
    """Check that a function can be called with these positional parameters.

    Raises:
        ValueError: it cannot; the message shows both signatures.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # functions in C may have none
        return
    try:
        signature.bind(*expected)
    except TypeError as error:
        called = getattr(function, "__name__", name)
        result = "policy, which maps an observation to an action" if expected == MAKER else "action"
        raise ValueError(
            f"policy {name!r}: expected {called}({', '.join(expected)}) -> {result}, got {called}{signature}: {error}"
        ) from error

"""Any registered Gymnasium environment as frames: its image observation, or its rendering."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from worldmodel.envs.errors import check_at_least, check_one_of
from worldmodel.envs.frames import FrameEnv
from worldmodel.envs.pictures import Source, find_picture
from worldmodel.envs.registered import make_registered, own_limit

PART = {spaces.Discrete: "choice", spaces.MultiDiscrete: "number", spaces.MultiBinary: "button", spaces.Box: "number"}
ACTION_SPACES = tuple(PART)


@dataclass
class GenericConfig:
    """Which environment, and where its frames come from."""

    name: str = "gymnasium"
    id: str = "CartPole-v1"
    """Any registered id; package.module:Id-v0 imports the module first."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of gymnasium.make, such as {is_slippery: false}."""
    frames: Literal["auto", "observation", "render"] = "auto"
    """Where frames come from: the observation, render(), or (auto) the observation if it is a picture. A code of
    symbols, such as MiniGrid's, is none."""
    key: str = ""
    """Entry of a dict observation that is the image (empty: the only one that is)."""
    height: int = 64
    """Height of a frame in pixels; larger images are averaged down."""
    width: int = 64
    """Width of a frame in pixels."""
    frame_skip: int = 1
    """Steps of the environment per action; their rewards add up."""
    action_names: tuple[str, ...] = ()
    """Names of the actions, one for each choice, button or axis, such as [left,right] ([]: those that the environment
    gives, or numbers)."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "height", "width", "frame_skip")
        check_one_of(self, "frames", ("auto", "observation", "render"))
        if len({*self.action_names}) < len(self.action_names):
            raise ValueError(f"action_names: expected different names, got {', '.join(self.action_names)}")


class GenericEnv(FrameEnv):
    """Any environment with a plain action space as frames: a registered one, or what `make` returns.

    make: makes an environment; None: the one that the config names. One that is rendered has render mode rgb_array.

    Raises:
        ValueError: the id is unknown, the environment cannot give frames in the way the config asks for, or the
            number of names is not that of the actions.
        TypeError: its action space is not Discrete, MultiDiscrete, MultiBinary or Box, or its image observation is
            not uint8.
        ImportError: it needs a package that is not installed.
    """

    def __init__(self, config: GenericConfig, make: Callable[[], gymnasium.Env] | None = None) -> None:
        inner = make_registered(config.id, config.kwargs) if make is None else make()
        self._make = make
        try:
            _check_actions(inner.action_space, config)
            source = find_picture(inner, config.id, config.frames, config.key)
            if source.key is None and (make is None or inner.render_mode != "rgb_array"):
                inner = _remake_for_rendering(inner, config, source, made=make is not None)
            super().__init__(inner, config, config.action_names or _own_names(inner))
        except BaseException:
            inner.close()
            raise
        self._key, self._started = source.key, False
        self.unused_observations, self.passed_over, self.frames_from = source.unused, source.passed_over, source.words
        limit = own_limit(inner)
        self.max_episode_steps = None if limit is None else math.ceil(limit / config.frame_skip)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.config, self._make), {"_frame": self._frame}

    def image(self, observation: Any) -> np.ndarray | None:
        """The image in the observation, or the rendering."""
        if self._key is None:
            return np.asarray(self.inner.render())
        return observation[self._key] if self._key else observation

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """As in `FrameEnv`."""
        self._started = True
        return super().reset(seed=seed, options=options)

    def step(self, action: Any):
        """As in `FrameEnv`, `frame_skip` times: rewards add up, and an end stops the repetition."""
        self._refuse_closed()
        if not self._started:  # the search for a picture may have reset the engine already
            raise gymnasium.error.ResetNeeded("step before the first reset: call reset(seed=...)")
        observation, total, terminated, truncated, info = self._step(action)
        for _ in range(self.config.frame_skip - 1):
            if terminated or truncated:
                break
            observation, reward, terminated, truncated, info = self._step(action)
            total = total + reward
        return self._to_frame(observation), total, terminated, truncated, info


def _remake_for_rendering(inner: gymnasium.Env, config: GenericConfig, source: Source, *, made: bool) -> gymnasium.Env:
    """Make the environment again with a render mode that returns frames."""
    inner.close()
    modes = list(inner.metadata.get("render_modes") or ())
    if "rgb_array" not in modes:
        found = source.passed_over.items()
        reasons = [f"{name or 'the observation'} is {what}: {remedy}" for name, (what, remedy) in found]
        raise ValueError(
            f"{config.id}: no frames: expected render mode rgb_array among {modes}"
            + ("" if reasons else "; choose another env.id, or give it one")
            + "".join(f"; {reason}" for reason in reasons)
        )
    if made:
        raise ValueError("the environment is rendered, so make it with render_mode='rgb_array'")
    return make_registered(config.id, config.kwargs, render_mode="rgb_array")


def _check_actions(space: spaces.Space, config: GenericConfig) -> None:
    if not isinstance(space, ACTION_SPACES):
        expected = ", ".join(cls.__name__ for cls in ACTION_SPACES)
        raise TypeError(f"{config.id}: expected an action space of {expected}, got {space}")
    given, count = config.action_names, named_parts(space)
    if given and len(given) != count:
        raise ValueError(
            f"env.action_names: expected {count} names, one for each {PART[type(space)]} of {space}, "
            f"got {len(given)}: {', '.join(given)}"
        )


def named_parts(space: spaces.Space) -> int:
    """How many names the actions of a space have: one for each choice, or for each number of an action."""
    return int(space.n) if isinstance(space, spaces.Discrete) else math.prod(space.shape or ())


def _own_names(env: gymnasium.Env) -> tuple[str, ...]:
    """Names that an environment gives its discrete actions: `action_names`, ALE's meanings, or MiniGrid's Enum."""
    space, inner = env.action_space, env.unwrapped
    if not isinstance(space, spaces.Discrete):
        return ()
    names: Any = getattr(inner, "action_names", ())
    actions = getattr(inner, "actions", None)
    if not names and isinstance(actions, type) and issubclass(actions, Enum):
        names = actions.__members__
    elif not names and hasattr(inner, "get_action_meanings"):
        names = inner.get_action_meanings()  # pyright: ignore[reportAttributeAccessIssue]
    names = tuple(str(name).lower() for name in names)
    return names if len({*names}) == len(names) == space.n else ()

"""Any registered Gymnasium environment as frames: its image observation, or its rendering."""

import os
from dataclasses import dataclass, field
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from worldmodel.envs.errors import check_at_least, check_one_of, unknown_name
from worldmodel.envs.frames import FrameEnv

ACTION_SPACES = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Box)


@dataclass
class GenericConfig:
    """Which environment, and where its frames come from."""

    name: str = "gymnasium"
    id: str = "CartPole-v1"
    """Any registered id; package.module:Id-v0 imports the module first."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of gymnasium.make, such as {is_slippery: false}."""
    frames: Literal["auto", "observation", "render"] = "auto"
    """Where frames come from: the observation, render(), or (auto) the observation if it is an image."""
    key: str = ""
    """Entry of a dict observation that is the image (empty: the only one that is)."""
    height: int = 64
    """Height of a frame in pixels; larger images are averaged down."""
    width: int = 64
    """Width of a frame in pixels."""
    frame_skip: int = 1
    """Steps of the environment per action; their rewards add up."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "height", "width", "frame_skip")
        check_one_of(self, "frames", ("auto", "observation", "render"))


class GenericEnv(FrameEnv):
    """Any environment with a plain action space as frames; its actions have no names.

    Raises:
        ValueError: the id is unknown, or the environment cannot give frames in the way the config asks for.
        TypeError: its action space is not Discrete, MultiDiscrete, MultiBinary or Box, or its image observation is
            not uint8.
        ImportError: it needs a package that is not installed.
    """

    def __init__(self, config: GenericConfig) -> None:
        inner = _make(config)
        try:
            self._key, self.unused_observations = _find_image(inner, config)
            if self._key is None:
                inner = _remake_for_rendering(inner, config)
        except BaseException:
            inner.close()
            raise
        super().__init__(inner, config)

    def image(self, observation: Any) -> np.ndarray | None:
        """The image in the observation, or the rendering."""
        if self._key is None:
            return np.asarray(self.inner.render())
        return observation[self._key] if self._key else observation

    def step(self, action: Any):
        """As in `FrameEnv`, `frame_skip` times: rewards add up, and an end stops the repetition."""
        self._refuse_closed()
        observation, total, terminated, truncated, info = self._step(action)
        for _ in range(self.config.frame_skip - 1):
            if terminated or truncated:
                break
            observation, reward, terminated, truncated, info = self._step(action)
            total = total + reward
        return self._to_frame(observation), total, terminated, truncated, info


def _make(config: GenericConfig, **more: Any) -> gymnasium.Env:
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame renders without a screen, too
    try:
        return gymnasium.make(config.id, disable_env_checker=True, **{**config.kwargs, **more})
    except gymnasium.error.DependencyNotInstalled as error:
        raise ImportError(f"{config.id}: {error}") from error
    except ModuleNotFoundError as error:
        raise ImportError(f"{config.id}: {error}; install it, or put its folder on PYTHONPATH") from error
    except gymnasium.error.Error as error:  # unregistered, malformed, or too old
        name = config.id.rpartition(":")[2]  # without the module that was imported first
        raise unknown_name("Gymnasium id", name, gymnasium.registry, setting="env.id") from error
    except Exception as error:  # any exception of the environment's constructor
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"{config.id}: making it raised {message}; check env.kwargs") from error


def _find_image(inner: gymnasium.Env, config: GenericConfig) -> tuple[str | None, tuple[str, ...]]:
    """The key of the image (see `_image_key`), and the entries of a dict observation that frames do not show."""
    if not isinstance(inner.action_space, ACTION_SPACES):
        expected = ", ".join(cls.__name__ for cls in ACTION_SPACES)
        raise TypeError(f"{config.id}: expected an action space of {expected}, got {inner.action_space}")
    space = inner.observation_space
    key = _image_key(space, config)
    if isinstance(space, spaces.Dict):
        return key, tuple(name for name in space.spaces if name != key)
    several = isinstance(space, spaces.Tuple | spaces.Sequence | spaces.Graph | spaces.OneOf)
    return key, (f"all of its {type(space).__name__}, since frames are what it renders",) if several else ()


def _remake_for_rendering(inner: gymnasium.Env, config: GenericConfig) -> gymnasium.Env:
    """Make the environment again with a render mode that returns frames."""
    inner.close()
    modes = list(inner.metadata.get("render_modes") or ())
    if "rgb_array" not in modes:
        raise ValueError(f"{config.id}: no frames: expected render mode rgb_array among {modes}; choose another env.id")
    return _make(config, render_mode="rgb_array")


def _image_key(space: spaces.Space, config: GenericConfig) -> str | None:
    """The key of the image in a dict observation; "" for the observation itself, None for the rendering."""
    if config.frames == "render":
        return None
    entries = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
    if config.key and config.key not in entries:
        raise unknown_name("key of the observation", config.key, entries, setting="env.key")
    images = [key for key, entry in entries.items() if _is_image(entry) and config.key in ("", key)]
    if len(images) == 1:
        return images[0]
    if len(images) > 1:
        raise ValueError(f"{config.id}: several images in the observation: {', '.join(images)}; choose by env.key")
    if config.frames == "observation" or config.key:
        raise _no_image(config, entries.get(config.key, space))
    return None


def _is_image(space: spaces.Space) -> bool:
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8:
        return False
    return len(space.shape) == 2 or (len(space.shape) == 3 and space.shape[2] in (1, 3, 4))


def _no_image(config: GenericConfig, space: spaces.Space) -> Exception:
    if isinstance(space, spaces.Box) and len(space.shape) in (2, 3) and space.dtype != np.uint8:
        return TypeError(
            f"{config.id}: expected an image observation of uint8 in 0…255, got {space.dtype}; "
            "convert it in the environment, or set env.frames=render"
        )
    return ValueError(
        f"{config.id}: expected an image observation [h, w], [h, w, 1] or [h, w, 3], got {space}; "
        "set env.frames=render to use its rendering"
    )

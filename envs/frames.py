"""Turns images of engines into frames, uint8 [h, w, 3]: area resize, and the base class of wrapped engines."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from worldmodel.envs.errors import OLD_GYM, check_returned, to_python

STEP = ("observation", "reward", "terminated", "truncated", "info")


def to_rgb(image: Any) -> UInt8[np.ndarray, "h w 3"]:
    """An image as three channels: grey ([h, w] or [h, w, 1]) is repeated, alpha is dropped.

    Raises:
        TypeError: the pixels are not uint8.
        ValueError: the shape is not that of an image.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise TypeError(f"frames: expected uint8 pixels in 0…255, got {image.dtype}; convert them in the environment")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.size:
        raise ValueError(f"frames: expected shape [h, w], [h, w, 1], [h, w, 3] or [h, w, 4], got {list(image.shape)}")
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]


def area_resize(image: UInt8[np.ndarray, "H W 3"], height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """Resize by averaging over the area of each new pixel; an enlarged image repeats its pixels.

    With area averaging, moving edges do not flicker, so the tokens of a still scene do not change.
    """
    if image.shape[:2] == (height, width):
        return np.array(image)
    return np.array(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BOX))


def frame_space(height: int, width: int) -> gymnasium.spaces.Box:
    """The space of frames, uint8 [height, width, 3]."""
    return gymnasium.spaces.Box(0, 255, (height, width, 3), np.uint8)


def _as_float(value: Any) -> Any:
    """A number as a float; anything else unchanged, for the caller to check."""
    return float(value) if isinstance(value, int | float) else value


def _as_flag(value: Any) -> Any:
    """0 and 1 as False and True; anything else unchanged."""
    return bool(value) if isinstance(value, int) and value in (0, 1) else value


class FrameEnv(gymnasium.Env):
    """Turns an environment with any observation into one whose observation is only a frame.

    The method `image` of a subclass extracts the image from the observation. This is not a `gymnasium.Wrapper`, because
    `unwrapped` should return frames too. `inner` is the engine's own environment.

    A copy (by pickle or `copy.deepcopy`) starts a new engine from the config: it has the same last frame, and must be
    reset before its first step. After `close`, `reset` and `step` raise RuntimeError.

    `last_image` is the engine's image behind the last frame, of any size; the engine may paint it over. `frames_from`
    says in words where it is from, and `max_episode_steps` after how many steps the engine cuts an episode.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012
    render_mode = "rgb_array"
    frames_from = "the engine's screen"
    max_episode_steps: int | None = None

    def __init__(self, inner: gymnasium.Env, config: Any, action_names: Sequence[str] = ()) -> None:
        self.inner, self.config = inner, config
        self._closed = False
        self.height, self.width = height, width = config.height, config.width
        self.action_names = tuple(action_names)
        self.action_space = inner.action_space
        self.observation_space = frame_space(height, width)
        self._frame = np.zeros((height, width, 3), np.uint8)
        self.last_image: np.ndarray = self._frame

    def image(self, observation: Any) -> np.ndarray | None:
        """The engine's image, of any size; None if it has none, as after the end: then the last frame is repeated."""
        return observation

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[UInt8[np.ndarray, "h w 3"], dict[str, Any]]:
        """The first frame of an episode that `seed` determines; without a seed, of the next episode."""
        self._refuse_closed()
        super().reset(seed=seed)
        try:
            returned = self.inner.reset(seed=seed, options=options)
        except TypeError as error:
            if "reset() got an unexpected keyword argument" not in str(error):
                raise
            raise TypeError(f"reset: {error}; {OLD_GYM}") from error
        observation, info = check_returned("reset", returned, "observation", "info")
        return self._to_frame(observation), info

    def step(self, action: Any) -> tuple[UInt8[np.ndarray, "h w 3"], float, bool, bool, dict[str, Any]]:
        """The frame that `action` leads to, its reward, and whether the episode ended or was cut."""
        self._refuse_closed()
        observation, reward, terminated, truncated, info = self._step(action)
        return self._to_frame(observation), reward, terminated, truncated, info

    def render(self) -> UInt8[np.ndarray, "h w 3"]:
        """The last frame again."""
        return self._frame.copy()

    def close(self) -> None:
        """End the engine. Closing twice is allowed."""
        if not self._closed:
            self._closed = True
            self._end()

    def _end(self) -> None:
        self.inner.close()

    def _step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One step of the engine, with NumPy scalars converted to Python numbers."""
        observation, reward, terminated, truncated, info = check_returned("step", self.inner.step(action), *STEP)
        flags = _as_flag(to_python(terminated)), _as_flag(to_python(truncated))
        return observation, _as_float(to_python(reward)), *flags, info

    def _refuse_closed(self) -> None:
        if self._closed:
            raise RuntimeError("this environment is closed: make another one")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.config,), {"_frame": self._frame}

    def _to_frame(self, observation: Any) -> UInt8[np.ndarray, "h w 3"]:
        image = self.image(observation)
        if image is not None:
            self.last_image = np.asarray(image)
            self._frame = area_resize(to_rgb(image), self.height, self.width)
        return self._frame.copy()

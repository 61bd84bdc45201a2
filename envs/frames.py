"""From whatever an engine draws to frames, uint8 [h, w, 3]: area resize, and the base class of wrapped engines."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import UInt8
from PIL import Image


def to_rgb(image: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """A picture as three channels: grey ([h, w] or [h, w, 1]) is repeated, alpha is dropped.

    Raises:
        TypeError: the pixels are not uint8.
        ValueError: the shape is no picture's.
    """
    if image.dtype != np.uint8:
        raise TypeError(f"frames: expected uint8 pixels in 0…255, got {image.dtype}; convert them in the environment")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        raise ValueError(f"frames: expected shape [h, w], [h, w, 1], [h, w, 3] or [h, w, 4], got {list(image.shape)}")
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]


def area_resize(image: UInt8[np.ndarray, "H W 3"], height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """Average over the area that each new pixel covers; a picture made larger repeats its pixels.

    Area averaging is what keeps a moving edge from flickering, and so keeps the tokens of a still scene still.
    """
    if image.shape[:2] == (height, width):
        return np.array(image)
    return np.array(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.BOX))


def frame_space(height: int, width: int) -> gymnasium.spaces.Box:
    """The space of frames, uint8 [height, width, 3]."""
    return gymnasium.spaces.Box(0, 255, (height, width, 3), np.uint8)


class FrameEnv(gymnasium.Env):
    """Turns an environment with any observation into one whose observation is a frame, and nothing but.

    A subclass says by `picture` where the frame is in the observation. This is no `gymnasium.Wrapper`, because
    what it changes is what the environment is: `unwrapped` should give frames too. `inner` is the engine's own.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, inner: gymnasium.Env, height: int, width: int, action_names: Sequence[str] = ()) -> None:
        self.inner = inner
        self.height, self.width = height, width
        self.action_names = tuple(action_names)
        self.action_space = inner.action_space
        self.observation_space = frame_space(height, width)
        self._frame = np.zeros((height, width, 3), np.uint8)

    def picture(self, observation: Any) -> np.ndarray | None:
        """The engine's picture, any size; None where it has none, as after the end: then the last frame stands."""
        return observation

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[UInt8[np.ndarray, "h w 3"], dict[str, Any]]:
        """The first frame of an episode that `seed` determines; without a seed, of one more episode."""
        super().reset(seed=seed)
        observation, info = self.inner.reset(seed=seed, options=options)
        return self._keep(observation), info

    def step(self, action: Any) -> tuple[UInt8[np.ndarray, "h w 3"], float, bool, bool, dict[str, Any]]:
        """The frame that `action` leads to, its reward, and whether the episode ended or was cut."""
        observation, reward, terminated, truncated, info = self.inner.step(action)
        return self._keep(observation), float(reward), bool(terminated), bool(truncated), info

    def render(self) -> UInt8[np.ndarray, "h w 3"]:
        """The last frame again."""
        return self._frame.copy()

    def close(self) -> None:
        self.inner.close()

    def _keep(self, observation: Any) -> UInt8[np.ndarray, "h w 3"]:
        picture = self.picture(observation)
        if picture is not None:
            self._frame = area_resize(to_rgb(picture), self.height, self.width)
        return self._frame.copy()

"""Images of imported episodes as frames: three channels, all of one size."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

HINT = "size=[height,width] gives all frames one size"


class FrameConverter:
    """Converts images to frames of `shape` (h, w, 3).

    With `resize`, images of other sizes are resized; without, they are refused, and the message names `first`,
    the episode that the size comes from. `channels` is the number of channels of the last image.
    """

    def __init__(self, shape: tuple[int, int, int], first: str, resize: bool):
        self.shape, self.first, self.resize = shape, first, resize
        self.channels = 3

    def __call__(self, image: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
        image = channels_last(image)
        height, width, self.channels = image.shape
        if not self.resize and (height, width) != self.shape[:2]:
            raise ValueError(
                f"expected (height, width) {self.shape[:2]} as in {self.first}, got {(height, width)}; {HINT}"
            )
        return _to_rgb(image, self.shape)


def channels_last(image: np.ndarray) -> UInt8[np.ndarray, "H W c"]:
    """An image (h, w, c), (h, w) or (c, h, w) as (h, w, c), of 1 to 4 channels.

    Raises:
        ValueError: another type or shape. Four channels in front are refused: they are stacked grey frames.
    """
    kind, shape = image.dtype, image.shape
    if kind != np.uint8 or image.ndim not in (2, 3) or not image.size:
        raise ValueError(f"expected uint8 images (h, w, c) or (h, w) with at least one pixel, got {kind} {shape}")
    if image.ndim == 2:
        return image[..., None]
    if shape[2] in (1, 2, 3, 4):
        return image
    if shape[0] in (1, 3):
        return image.transpose(1, 2, 0)
    raise ValueError(
        f"expected images of 1 to 4 channels (h, w, c), or of 1 or 3 (c, h, w), got {shape}; "
        "if frames are stacked, keep the newest one"
    )


def _to_rgb(image: UInt8[np.ndarray, "H W c"], shape: tuple[int, int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """An image in three channels and of this size; each new pixel is the mean of the area that it covers."""
    height, width, _ = shape
    plain = np.ascontiguousarray(image[..., 0] if image.shape[2] == 1 else image)
    rgb = Image.fromarray(plain).convert("RGB")
    return np.asarray(rgb if rgb.size == (width, height) else rgb.resize((width, height), Image.Resampling.BOX))

"""Whether small objects on a still background are kept: a hand of a clock, a ball, a marker."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

DIFFERENT = 40  # grey levels, in any color, by which a pixel of an object differs from the background
LARGEST = 0.1  # share of the frame that small objects cover at most; with more, the background itself moves


def background(frames: UInt8[Tensor, "n t h w c"]) -> UInt8[Tensor, "n h w c"]:
    """The median of each pixel of each clip: what shows most of the time."""
    return frames.median(1).values


def object_area(frames: UInt8[Tensor, "n t h w c"], still: UInt8[Tensor, "n h w c"]) -> Float[np.ndarray, "n t"]:
    """The share of each frame whose pixels differ from the background of its clip."""
    clips = zip(frames, still, strict=True)  # one by one, as their differences are large
    areas = [((clip.int() - back.int()).abs().amax(-1) > DIFFERENT).double().mean((-2, -1)) for clip, back in clips]
    return torch.stack(areas).numpy()


def kept(
    video: UInt8[Tensor, "n t h w c"], truth: UInt8[Tensor, "n t h w c"], still: UInt8[Tensor, "n h w c"]
) -> tuple[Float[np.ndarray, "n t"], Float[np.ndarray, "n t"]]:
    """The area of the objects in a video, at most the true one, and the true area. Their ratio is the share that is
    kept, wherever the objects are."""
    true = object_area(truth, still)
    return np.minimum(object_area(video, still), true), true


def are_small(area: Float[np.ndarray, "n t"]) -> bool:
    """Whether there are objects at all, and small ones."""
    return 0 < float(area.mean()) <= LARGEST

"""Measures of single frames: how sharp they are, and how near to the most similar of many real
ones."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

THUMBNAIL = 8  # pixels a side of the thumbnails by which the nearest frames are found
CANDIDATES = 16  # frames with the nearest thumbnails that are compared in full


def sharpness(frames: UInt8[Tensor, "b h w c"]) -> Float[np.ndarray, "b"]:
    """Mean absolute difference of neighboring pixels of the grey image, across and down: grey
    levels per pixel.

    It is linear in contrast. A few hard edges and speckle dominate the variance of the Laplacian,
    the other usual one.
    """
    grey = frames.float().mean(-1)
    across, down = grey.diff(dim=2).abs().mean((1, 2)), grey.diff(dim=1).abs().mean((1, 2))
    return ((across + down) / 2).double().cpu().numpy()


def nearest(frames: UInt8[Tensor, "n h w c"], gallery: UInt8[Tensor, "m h w c"]) -> Float[np.ndarray, "n"]:
    """Mean squared error of each frame to the nearest of the gallery, among those with the nearest
    thumbnails."""
    distance = torch.cdist(_thumbnails(frames), _thumbnails(gallery))
    closest = distance.topk(min(CANDIDATES, len(gallery)), largest=False).indices
    error = [
        (gallery[c].float() - frame.float()).square().mean((1, 2, 3)).min()
        for frame, c in zip(frames, closest, strict=True)
    ]
    return torch.stack(error).double().numpy()


def _thumbnails(frames: UInt8[Tensor, "n h w c"]) -> Float[Tensor, "n p"]:
    return F.adaptive_avg_pool2d(frames.float().movedim(-1, 1), THUMBNAIL).flatten(1)

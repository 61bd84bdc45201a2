"""Causal convolution over video that carries its own past, so that a video can be processed chunk by chunk.

Layers map `(x, past) -> (y, past)` with x of shape `b c t h w`. `past` is a value: None at the start of a video, and
whatever the layer returned before at each later chunk. Chunked and whole processing agree.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

Past = Any  # None, a tensor `b …` of earlier inputs, or a tuple of such, nested as the layers are


def map_past(function: Callable[[Tensor], Tensor], past: Past) -> Past:
    """The same past with every tensor put through `function` (to pick rows, or move to another device)."""
    if isinstance(past, tuple):
        return tuple(map_past(function, part) for part in past)
    return None if past is None else function(past)


def join_pasts(pasts: Sequence[Past]) -> Past:
    """The past of all of these videos side by side: a copy, channels last.

    Of one video too: what a layer hands over may be a view that keeps all its frames in memory.
    """
    if isinstance(pasts[0], tuple):
        return tuple(join_pasts(parts) for parts in zip(*pasts, strict=True))
    if pasts[0] is None or pasts[0].ndim == 1:
        return None if pasts[0] is None else torch.cat(list(pasts))
    return torch.cat([past.movedim(1, -1) for past in pasts]).movedim(-1, 1)


class CausalConv3d(nn.Module):
    """3-D convolution that sees the present and earlier frames, and "same" zero padding in space.

    Before the first frame stands the first frame repeated (as in MAGVIT-v2, arXiv 2310.05737, section 3.2 for the
    causal design): zeros there would make the first frames of each clip differ from all others.
    With a time stride, output s sits at input frame `stride * s`.
    """

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int] = (1, 3), stride: tuple[int, int] = (1, 1)):
        super().__init__()
        (time, space), (time_stride, space_stride) = kernel, stride
        assert time >= time_stride, f"a time kernel of {time} would skip frames at stride {time_stride}"
        pad = (space - space_stride + 1) // 2
        self.conv = nn.Conv3d(
            inputs,
            outputs,
            (time, space, space),
            stride=(time_stride, space_stride, space_stride),
            padding=(0, pad, pad),
        )
        self.conv.to(memory_format=torch.channels_last_3d)  # pyright: ignore  # 1.1 to 1.3 times the speed on CPUs
        self.first = time - 1  # frames to invent before the very first one
        self.keep = time - time_stride  # frames to carry over to the next chunk

    def forward(self, x: Float[Tensor, "b c t h w"], past: Past = None) -> tuple[Float[Tensor, "b o s y x"], Past]:
        if self.first:
            before = x[:, :, :1].expand(-1, -1, self.first, -1, -1) if past is None else past
            x = torch.cat([before, x], dim=2)
        past = x[:, :, x.shape[2] - self.keep :] if self.keep else None
        return self.conv(x.contiguous(memory_format=torch.channels_last_3d)), past

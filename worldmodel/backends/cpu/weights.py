"""The weights of core and outcome head for the kernels: padded, contiguous, halves of gates side by side."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from worldmodel.kernels import compiled as kernels
from worldmodel.kernels.arrays import affine, bias_of, pack, padded
from worldmodel.prior.core import SpatialCore
from worldmodel.prior.layers import GatedLayer
from worldmodel.prior.outcome import OutcomeHead


@torch.no_grad()
def pack_core(core: SpatialCore) -> kernels.Core:
    """Weights with every width padded, each half of a gate padded by itself, and biases of one sum added together."""
    layers = [layer for layer in core.layers if isinstance(layer, GatedLayer)]
    width, w = layers[0].width, padded(layers[0].width)

    def halves(weight: Tensor, rows: int = 0) -> np.ndarray:
        """Both halves of the last axis, padded each."""
        return np.concatenate([pack(half, rows) for half in weight.chunk(2, dim=-1)], axis=-1)

    def quarters(weight: Tensor) -> np.ndarray:
        """The gates of both stacks of each layer, `l*4w` in the last axis."""
        return np.concatenate([halves(part) for part in weight.chunk(2 * len(layers), dim=-1)], axis=-1)

    def taps(weight: Float[Tensor, "o i y x"]) -> Float[Tensor, "y x i o"]:
        return weight.permute(2, 3, 1, 0)

    def stack(parts: list[np.ndarray]) -> np.ndarray:
        return np.ascontiguousarray(np.stack(parts))

    both = [F.pad(layer.down.weight[:, :, 0, 0].T.unflatten(0, (2, width)), (0, 0, 0, w - width)) for layer in layers]
    biases = [torch.cat([bias_of(layer.vertical), bias_of(layer.horizontal) + bias_of(layer.down)]) for layer in layers]
    ends = [layer.vertical_out for layer in layers]
    none = np.zeros((w, w), np.float32)
    embedding = core.embedding.weight
    head_bias = pack(core.bias)
    head_bias[len(core.bias) :] = -np.inf
    entered = affine(embedding, core.in_proj.weight[:, :, 0, 0], bias_of(core.in_proj))
    return kernels.Core(
        table=halves(F.pad(entered, (0, 0, 0, 1))),
        condition=quarters(core.condition.weight[:, :, 0, 0].T),
        condition_bias=quarters(bias_of(core.condition) + core.action.bias + torch.cat(biases)),
        action=quarters(core.action.weight.T),
        vertical=stack([halves(taps(each.vertical.weight), w).reshape(each.ROWS, 3 * w, 2 * w) for each in layers]),
        down=stack([halves(each.flatten(0, 1)) for each in both]),
        vertical_out=stack([none if end is None else pack(end.weight[:, :, 0, 0].T, w) for end in ends]),
        vertical_bias=stack([none[0] if end is None else pack(bias_of(end)) for end in ends]),
        horizontal=stack([halves(taps(each.horizontal.weight)[0], w).reshape(-1, 2 * w) for each in layers]),
        horizontal_out=stack([pack(each.horizontal_out.weight[:, :, 0, 0].T, w) for each in layers]),
        horizontal_bias=stack([pack(bias_of(each.horizontal_out)) for each in layers]),
        shortcut=pack(core.shortcut.weight[:, :, 0, 0].T),
        shortcut_bias=pack(bias_of(core.shortcut) + bias_of(core.out_proj)),
        out_proj=pack(core.out_proj.weight[:, :, 0, 0].T, w),
        head=pack(embedding.T, padded(embedding.shape[1])),
        head_bias=head_bias,
    )


@torch.no_grad()
def pack_head(head: OutcomeHead) -> kernels.Head:
    """Weights with every width padded; padding adds nothing, because its output weights are zero."""
    hidden = padded(head.out_proj.in_features)
    mean, largest = head.inner.weight.T.chunk(2)
    place = head.position.flatten(1).T + bias_of(head.context)
    return kernels.Head(
        context=pack(head.context.weight[:, :, 0, 0].T),
        place=pack(place),
        inner=np.concatenate([pack(mean, hidden), pack(largest, hidden)]),
        inner_bias=pack(head.inner.bias),
        out_proj=pack(head.out_proj.weight.T, hidden),
        out_proj_bias=pack(head.out_proj.bias),
    )

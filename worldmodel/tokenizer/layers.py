"""The layers of the tokenizer beside the causal convolution, in its calling form: `(x, past) -> (y, past)`.

All layers return channels-last tensors: a change of the layout between layers would take a fifth of the training.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.nn.causal_conv import CausalConv3d, Past

SILU_GAIN = 1.68  # 1 / the root mean square of silu(x), x standard normal


def init_he_silu(layer: CausalConv3d, gain: float = SILU_GAIN) -> CausalConv3d:
    """Set initial weights for which a convolution after SiLU keeps the variance of its input (He et al. 2015, arXiv
    1502.01852). PyTorch's defaults shrink it about tenfold per layer: without norms, hardly any signal would reach the
    output, and training would spend its first thousand steps on this."""
    nn.init.normal_(layer.conv.weight, std=gain * layer.conv.weight[0].numel() ** -0.5)
    nn.init.zeros_(cast(Tensor, layer.conv.bias))
    return layer


class Residual(nn.Module):
    """Two convolutions beside an identity; starts as the identity (Fixup, arXiv 1901.09321), so it needs no norm."""

    def __init__(self, width: int, time: int = 1):
        super().__init__()
        self.inner = CausalConv3d(width, width, (time, 3))
        self.outer = CausalConv3d(width, width)
        init_he_silu(self.inner)
        nn.init.zeros_(self.outer.conv.weight)

    def forward(self, x: Float[Tensor, "b c t h w"], past: Past = None) -> tuple[Float[Tensor, "b c t h w"], Past]:
        y, past = self.inner(F.silu(x), past)
        y, _ = self.outer(F.silu(y))
        return x + y, past


class SpaceToDepth(nn.Module):
    """Folds each patch of `size * size` pixels into channels."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: Float[Tensor, "b c t h w"], past: Past = None) -> tuple[Float[Tensor, "b o t y x"], Past]:
        b, c, t, h, w = x.shape
        p = self.size
        x = x.reshape(b, c, t, h // p, p, w // p, p).permute(0, 2, 3, 5, 1, 4, 6)
        return x.reshape(b, t, h // p, w // p, c * p * p).movedim(-1, 1), past


class DepthToSpace(nn.Module):
    """Unfolds channels into patches of `size * size` pixels: the inverse of `SpaceToDepth`."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: Float[Tensor, "b o t y x"], past: Past = None) -> tuple[Float[Tensor, "b c t h w"], Past]:
        b, o, t, y, w = x.shape
        p = self.size
        x = x.reshape(b, o // p**2, p, p, t, y, w).permute(0, 4, 5, 2, 6, 3, 1)
        return x.reshape(b, t, y * p, w * p, o // p**2).movedim(-1, 1), past


class LinearPatches(nn.Module):
    """A linear map between patches of pixels and vectors: all that the tokenizer can do before its training.

    `init_from_data` sets it to the principal components of real patches (Pearson 1901), the best linear code of that
    width; the convolutions learn the rest. The mean squared error of a vector equals that of its pixels, so
    commitment loss and reconstruction loss have the same unit.
    """

    def __init__(self, size: int, colors: int, width: int):
        super().__init__()
        self.fold, self.unfold = SpaceToDepth(size), DepthToSpace(size)
        self.in_proj = nn.Linear(colors * size**2, width)
        self.out_proj = nn.Linear(width, colors * size**2)
        self._set(nn.init.orthogonal_(torch.empty_like(self.in_proj.weight)), torch.zeros(colors * size**2))

    def encode(self, x: Float[Tensor, "b c s h w"]) -> Float[Tensor, "b d s y x"]:
        """Vectors of frames."""
        return self.in_proj(self.fold(x)[0].movedim(1, -1)).movedim(-1, 1)

    def decode(self, z: Float[Tensor, "b d s y x"]) -> Float[Tensor, "b c s h w"]:
        """Frames of vectors."""
        return self.unfold(self.out_proj(z.movedim(1, -1)).movedim(-1, 1))[0]

    @torch.no_grad()
    def init_from_data(self, x: Float[Tensor, "b c s h w"]) -> None:
        """Take the principal components of these frames' patches, the strongest first."""
        patches = self.fold(x)[0].movedim(1, -1).flatten(0, -2)
        axes = torch.linalg.eigh(patches.T.cov())[1].flip(1)  # columns, by falling variance
        basis = torch.zeros_like(self.in_proj.weight)  # entries beyond the width of a patch stay 0
        basis[: axes.shape[1]] = axes.T[: len(basis)]
        self._set(basis, patches.mean(0))

    @torch.no_grad()
    def _set(self, basis: Float[Tensor, "d p"], mean: Float[Tensor, "p"]) -> None:
        """Vectors become coordinates in the orthonormal rows of `basis`, relative to `mean`, in the unit of pixels."""
        scale = (len(basis) / len(mean)) ** 0.5
        self.in_proj.weight.copy_(scale * basis)
        self.in_proj.bias.copy_(-scale * basis @ mean)
        self.out_proj.weight.copy_(basis.T / scale)
        self.out_proj.bias.copy_(mean)


class DepthToTime(nn.Module):
    """Unfolds channels into `stride` frames per latent; the first latent of a video gives one frame only."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Float[Tensor, "b o s y x"], past: Past = None) -> tuple[Float[Tensor, "b c t y x"], Past]:
        b, o, s, y, w = x.shape
        frames = x.reshape(b, self.stride, o // self.stride, s, y, w).permute(0, 3, 1, 4, 5, 2)
        frames = frames.reshape(b, s * self.stride, y, w, o // self.stride).movedim(-1, 1)
        started = x.new_ones(b) if past is None else past
        return (frames[:, :, self.stride - 1 :] if past is None else frames), started


class Activation(nn.Module):
    """SiLU in the layers' calling form."""

    def forward(self, x: Float[Tensor, "b c t h w"], past: Past = None) -> tuple[Float[Tensor, "b c t h w"], Past]:
        return F.silu(x), past


class StreamingSequential(nn.Module):
    """Layers in sequence. The last convolution starts at zero, because the output is added to that of a linear map.
    The past is the tuple of the layers' pasts."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        convolutions = [i for i, layer in enumerate(layers) if isinstance(layer, CausalConv3d)]
        for i in convolutions:
            init_he_silu(cast(CausalConv3d, layers[i]), SILU_GAIN if isinstance(layers[i - 1], Activation) else 1.0)
        nn.init.zeros_(cast(CausalConv3d, layers[convolutions[-1]]).conv.weight)

    def forward(self, x: Float[Tensor, "b c t h w"], past: Past = None) -> tuple[Float[Tensor, "b o s y x"], Past]:
        pasts = []
        for layer, own in zip(self.layers, past or [None] * len(self.layers), strict=True):
            x, own = layer(x, own)
            pasts.append(own)
        return x, tuple(pasts)

"""The layers of the tokenizer beside the causal convolution, in its calling form: `(x, past) -> (y, past)`.

All hand on channels last: a layout that changes between layers would cost a fifth of the training.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.causal import CausalConv3d, Past


class Residual(nn.Module):
    """Two convolutions beside an identity; starts as the identity (Fixup, arXiv 1901.09321), so it needs no norm."""

    def __init__(self, width: int, time: int = 1):
        super().__init__()
        self.inner = CausalConv3d(width, width, (time, 3))
        self.outer = CausalConv3d(width, width)
        nn.init.zeros_(self.outer.conv.weight)

    def forward(self, x: Float[Tensor, "b c t h w"], past: Past = None) -> tuple[Float[Tensor, "b c t h w"], Past]:
        y, past = self.inner(F.silu(x), past)
        y, _ = self.outer(F.silu(y))
        return x + y, past


class PatchIn(nn.Module):
    """Folds each patch of `size * size` pixels into channels."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: Float[Tensor, "b c t h w"], past: Past = None) -> tuple[Float[Tensor, "b o t y x"], Past]:
        b, c, t, h, w = x.shape
        p = self.size
        x = x.reshape(b, c, t, h // p, p, w // p, p).permute(0, 2, 3, 5, 1, 4, 6)
        return x.reshape(b, t, h // p, w // p, c * p * p).movedim(-1, 1), past


class PatchOut(nn.Module):
    """Unfolds channels into patches of `size * size` pixels: the inverse of `PatchIn`."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: Float[Tensor, "b o t y x"], past: Past = None) -> tuple[Float[Tensor, "b c t h w"], Past]:
        b, o, t, y, w = x.shape
        p = self.size
        x = x.reshape(b, o // p**2, p, p, t, y, w).permute(0, 4, 5, 2, 6, 3, 1)
        return x.reshape(b, t, y * p, w * p, o // p**2).movedim(-1, 1), past


class TimeOut(nn.Module):
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


class Chain(nn.Module):
    """Layers one after the other; the past of the chain is the tuple of theirs."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Float[Tensor, "b c t h w"], past: Past = None) -> tuple[Float[Tensor, "b o s y x"], Past]:
        pasts = []
        for layer, own in zip(self.layers, past or [None] * len(self.layers), strict=True):
            x, own = layer(x, own)
            pasts.append(own)
        return x, tuple(pasts)

"""Layers of the prior: action-conditioned temporal blocks, and the gated PixelCNN layer within a frame."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.nn.causal_conv import CausalConv3d, Past

SPANS = (1, 6)  # memories last 2 to 64 latents before they are trained: log2, after arXiv 1804.11188


class ActionLinear(nn.Module):
    """A linear map of the action with a bias; with no actions (width 0) the bias alone."""

    def __init__(self, actions: int, outputs: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.weight = nn.Parameter(torch.randn(outputs, actions) * 0.1)

    def forward(self, actions: Float[Tensor, "*n a"]) -> Float[Tensor, "*n o"]:
        return F.linear(actions, self.weight, self.bias)


class ContextBlock(nn.Module):
    """Residual causal 3-D convolution over past latents, scaled and shifted by the action (FiLM, arXiv 1709.07871).

    First over space, then over time: as good as one kernel over both (docs/experiments.md) at two
    thirds of the arithmetic.
    """

    def __init__(self, width: int, actions: int, time_kernel: int):
        super().__init__()
        self.inner = CausalConv3d(width, width, (1, 3))
        self.film = ActionLinear(actions, 2 * width)
        self.outer = CausalConv3d(width, width, (time_kernel, 1))
        nn.init.zeros_(self.outer.conv.weight)

    def forward(
        self, x: Float[Tensor, "b c s y x"], actions: Float[Tensor, "b s a"], past: Past = None
    ) -> tuple[Float[Tensor, "b c s y x"], Past]:
        hidden, _ = self.inner(F.silu(x))
        scale, shift = self.film(actions).movedim(-1, 1)[..., None, None].chunk(2, dim=1)
        hidden, past = self.outer(F.silu(hidden * (1 + scale) + shift), past)
        return x + hidden, past


class Memory(nn.Module):
    """A residual gated linear recurrence at each site: it remembers beyond any window, at a constant cost per latent.

    h[s] = h[s−1] + z[s] · (c[s] − h[s−1]) from h = 0 on; gate z and candidate c depend on the present latent
    alone (minGRU, arXiv 2410.01201). So h is a sum of candidates whose weights add up to at most one: it stays
    bounded however long the dream is.
    """

    def __init__(self, width: int, channels: int):
        super().__init__()
        self.in_proj = CausalConv3d(width, 2 * channels, (1, 1))
        self.out_proj = CausalConv3d(channels, width, (1, 1))
        nn.init.zeros_(self.out_proj.conv.weight)
        self._init_spans(torch.logspace(*SPANS, channels, base=2))

    @torch.no_grad()
    def _init_spans(self, spans: Float[Tensor, "m"]) -> None:
        """Open the gates by 1 / span, and scale candidates up by as much as the mean over a span shrinks them. Without
        this, the input of a single latent is lost, and the gates never learn to keep it (docs/experiments.md)."""
        weight, bias = self.in_proj.conv.weight, self.in_proj.conv.bias
        assert bias is not None, "a convolution without a bias"
        bias[: len(spans)] = -(spans - 1).log()
        size = 4 * ((2 * spans - 1) / weight.shape[1]).sqrt()
        weight[len(spans) :] = torch.randn_like(weight[len(spans) :]) * size.view(-1, 1, 1, 1, 1)

    def forward(
        self, x: Float[Tensor, "b c s y x"], actions: Float[Tensor, "b s a"], past: Past = None
    ) -> tuple[Float[Tensor, "b c s y x"], Past]:
        opening, candidate = self.in_proj(F.silu(x))[0].float().chunk(2, dim=1)
        kept = recall(opening.sigmoid(), candidate, torch.zeros_like(candidate[:, :, :1]) if past is None else past)
        return x + self.out_proj(kept.to(x.dtype))[0], kept[:, :, -1:]


def recall(
    z: Float[Tensor, "b m s y x"], candidates: Float[Tensor, "b m s y x"], h: Float[Tensor, "b m 1 y x"]
) -> Float[Tensor, "b m s y x"]:
    """The memory at each latent, after `h`.

    One latent at a time: at the lengths of clips this is faster on a CPU than a parallel scan
    (docs/experiments.md), and more exact.
    """
    kept, h = [], h[:, :, 0]
    for opening, candidate in zip(z.unbind(2), candidates.unbind(2), strict=True):
        h = torch.lerp(h, candidate, opening)
        kept.append(h)
    return torch.stack(kept, dim=2)


def gate(x: Float[Tensor, "n c2 *rest"]) -> Float[Tensor, "n c *rest"]:
    """The gated activation of arXiv 1606.05328, equation 2, on dimension 1."""
    a, b = x.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


class GatedLayer(nn.Module):
    """One layer of the two stacks of the gated PixelCNN (arXiv 1606.05328, figure 2), both residual.

    Inputs are already shifted: `v` at row y holds rows < y, `h` at column x holds columns < x of the row, so every
    kernel here may include its own place. `condition` holds the gate inputs of both stacks that come from context
    and action, `4 w` channels. Nothing reads the vertical stack after the `last` layer, which leaves it as it is.
    """

    ROWS, COLUMNS = 2, 2  # reach upwards of the vertical stack, leftwards of the horizontal stack

    def __init__(self, width: int, last: bool = False):
        super().__init__()
        self.width = width
        self.vertical = nn.Conv2d(width, 2 * width, (self.ROWS, 3))
        self.horizontal = nn.Conv2d(width, 2 * width, (1, self.COLUMNS))
        self.down = nn.Conv2d(2 * width, 2 * width, 1)  # vertical gate inputs → horizontal gate inputs
        self.vertical_out = None if last else nn.Conv2d(width, width, 1)
        self.horizontal_out = nn.Conv2d(width, width, 1)

    def forward(
        self,
        v: Float[Tensor, "n w y x"],
        h: Float[Tensor, "n w y x"],
        condition: Float[Tensor, "n w4 y x"],
    ) -> tuple[Float[Tensor, "n w y x"], Float[Tensor, "n w y x"]]:
        to_v, to_h = condition.chunk(2, dim=1)
        above = self.vertical(F.pad(v, (1, 1, self.ROWS - 1, 0))) + to_v
        left = self.horizontal(F.pad(h, (self.COLUMNS - 1, 0))) + self.down(above) + to_h
        return self.next_v(v, above), h + self.horizontal_out(gate(left))

    def next_v(self, v: Float[Tensor, "n w y x"], above: Float[Tensor, "n w2 y x"]) -> Float[Tensor, "n w y x"]:
        """The vertical stack after this layer."""
        return v if self.vertical_out is None else v + self.vertical_out(gate(above))


def shift_down(x: Float[Tensor, "n w y x"]) -> Float[Tensor, "n w y x"]:
    """Each row receives the row above it; the first receives zeros."""
    return F.pad(x, (0, 0, 1, 0))[:, :, :-1]


def shift_right(x: Float[Tensor, "n w y x"]) -> Float[Tensor, "n w y x"]:
    """Each column receives the one to its left; the first receives zeros."""
    return F.pad(x, (1, 0))[..., :-1]

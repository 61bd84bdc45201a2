"""Finite scalar quantization: a few numbers, each rounded to a few levels (Mentzer et al. 2023, arXiv 2309.15505).

There is no codebook to learn and none that could collapse. The codes are the corners of a fixed grid.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from worldmodel.tokenizer.bottlenecks.bottleneck import Bottleneck, Quantized, QuantizerConfig, standardize

# Levels of each number, by the number of codes (table 1 of the paper, and smaller ones by the same rule).
LEVELS = {
    16: (4, 4),
    64: (4, 4, 4),
    256: (8, 6, 5),
    512: (8, 8, 8),
    1024: (8, 5, 5, 5),
    4096: (7, 5, 5, 5, 5),
    16384: (8, 8, 8, 6, 5),
    65536: (8, 8, 8, 5, 5, 5),
}
MARGIN = 1e-3  # the bound lies this share beyond the outer levels, so that rounding reaches them
SPREAD = 1.0  # standard deviation of the numbers before they are bounded, at the start


def levels_for(codes: int) -> tuple[int, ...]:
    """The levels for about this number of codes: the table's next lower entry, or its first one."""
    return LEVELS[max((size for size in LEVELS if size <= codes), default=min(LEVELS))]


class FiniteScalarQuantizer(Bottleneck):
    """Encoder outputs → a point of the grid. Its width comes from a linear map on either side."""

    levels: Tensor
    strides: Tensor

    def __init__(self, config: QuantizerConfig):
        super().__init__()
        self.config = config
        levels = levels_for(config.codes)
        self.codes = math.prod(levels)
        self.in_proj = nn.Linear(config.code_width, len(levels))
        self.out_proj = nn.Linear(len(levels), config.code_width)
        self.register_buffer("levels", torch.tensor(levels))
        self.register_buffer("strides", torch.tensor([math.prod(levels[:i]) for i in range(len(levels))]))

    def forward(self, z: Float[Tensor, "*n x d"]) -> Quantized:
        with torch.autocast(z.device.type, enabled=False):
            bounded = self._bound(self.in_proj(z.float()))
            rounded = bounded + (bounded.round() - bounded).detach()
            vectors = self.out_proj(self._normalize(rounded))
            return Quantized(self._tokens(bounded), vectors, vectors.new_zeros(()))

    @torch.no_grad()
    def quantize(self, z: Float[Tensor, "*n x d"]) -> Int[Tensor, "*n x2"]:
        return self._tokens(self._bound(self.in_proj(z.float())))

    def vectors(self, tokens: Int[Tensor, "*n x2"]) -> Float[Tensor, "*n x d"]:
        return self.out_proj(self._points(tokens))

    @torch.no_grad()
    def embed(self, tokens: Int[Tensor, "*n x2"]) -> Float[Tensor, "*n x2 e"]:
        points = self._points(torch.arange(self.codes, device=tokens.device))
        return nn.functional.embedding(tokens, standardize(points))

    @torch.no_grad()
    def init_from_data(self, z: Float[Tensor, "n d"]) -> None:
        """Take the first entries of the vectors, which are their strongest components, and decode them linearly."""
        count = min(len(self.levels), z.shape[1])
        deviation = z[:, :count].std(0).clamp_min(1e-6)
        self.in_proj.weight.zero_()
        self.in_proj.weight[:count, :count] = torch.diag(SPREAD / deviation)
        self.in_proj.bias.zero_()
        self.in_proj.bias[:count] = -SPREAD * z[:, :count].mean(0) / deviation
        points = self._points(self.quantize(z))
        ones = points.new_ones(len(points), 1)
        found = torch.linalg.lstsq(torch.cat([points, ones], dim=1), z).solution
        self.out_proj.weight.copy_(found[:-1].T)
        self.out_proj.bias.copy_(found[-1])

    def _bound(self, x: Float[Tensor, "*n l"]) -> Float[Tensor, "*n l"]:
        """Numbers whose rounded values are the levels: from −⌊L/2⌋ on, L of them."""
        half = (self.levels - 1) * (1 + MARGIN) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        shift = (offset / half).atanh()
        return (x + shift).tanh() * half - offset

    def _normalize(self, rounded: Float[Tensor, "*n l"]) -> Float[Tensor, "*n l"]:
        """Levels as numbers in [−1, 1]."""
        return rounded / (self.levels // 2)

    def _tokens(self, bounded: Float[Tensor, "*n l"]) -> Int[Tensor, "*n"]:
        digits = bounded.detach().round().long() + self.levels // 2
        return (digits * self.strides).sum(-1)

    def _points(self, tokens: Int[Tensor, "*n"]) -> Float[Tensor, "*n l"]:
        """The normalized levels of each token."""
        digits = tokens[..., None] // self.strides % self.levels
        return self._normalize((digits - self.levels // 2).float())

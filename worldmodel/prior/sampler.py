"""Exact ancestral sampling of one frame's tokens, naive or cached, from counter-based noise.

Both samplers draw the same tokens from the same noise; `naive` recomputes the whole core at every token and is kept
as the plain statement of what `cached` computes (after Ramachandran et al. 2017, arXiv 1704.06001: the context once
per frame, the vertical stack once per row, the horizontal stack once per token).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from worldmodel.prior.layers import GatedLayer, gate
from worldmodel.prior.pixelcnn import SpatialCore


@dataclass
class SamplerConfig:
    """How tokens are drawn.

    kind: which sampler. temperature: 1 draws from the model itself, 0 takes the likeliest token. top_k: only the k
    likeliest (0: all). top_p: only the likeliest that together hold this much probability (1: all).
    """

    kind: Literal["cached", "naive"] = "cached"
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature: expected 0 or more, got {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k: expected 0 (all) or more, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: expected a share in (0, 1], got {self.top_p}")


@dataclass
class Draw:
    """Tokens of one frame, and −log p of each under the model itself (temperature 1, nothing cut)."""

    tokens: Int[Tensor, "b y x"]
    nats: Float[Tensor, "b y x"]


def choose(logits: Float[Tensor, "b k"], uniform: Float[Tensor, "b"], config: SamplerConfig) -> Int[Tensor, "b"]:
    """The code at which the cumulative probability passes the uniform number (inverse of the distribution)."""
    if config.temperature == 0:
        return logits.argmax(-1)
    share = cut((logits.double() / config.temperature).softmax(-1), config)
    reached = share.cumsum(-1)
    return torch.searchsorted(reached, (uniform * reached[:, -1])[:, None], right=True)[:, 0].clamp_max(
        logits.shape[-1] - 1
    )


def cut(share: Float[Tensor, "b k"], config: SamplerConfig) -> Float[Tensor, "b k"]:
    """Probabilities with what top-k and top-p leave out set to zero; ties fall to the lower code."""
    if not config.top_k and config.top_p == 1:
        return share
    ranked, order = share.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(share.shape[-1], device=share.device)
    keep = ranked.cumsum(-1) - ranked < config.top_p
    keep &= rank < (config.top_k or len(rank))
    return torch.zeros_like(share).scatter(-1, order, ranked * keep)


@torch.no_grad()
def sample(
    core: SpatialCore,
    context: Float[Tensor, "b c y x"],
    actions: Float[Tensor, "b a"],
    noise: Float[Tensor, "b n"],
    config: SamplerConfig,
) -> Draw:
    """Draw the tokens of one frame, in raster order, from one uniform number per site."""
    b, _, rows, columns = context.shape
    score = SAMPLERS[config.kind](core, context, actions)
    tokens = torch.zeros(b, rows, columns, dtype=torch.long, device=context.device)
    nats = torch.zeros(b, rows, columns, device=context.device)
    for y in range(rows):
        for x in range(columns):
            logits = score(tokens, y, x).float()
            tokens[:, y, x] = choose(logits, noise[:, y * columns + x], config)
            nats[:, y, x] = F.cross_entropy(logits, tokens[:, y, x], reduction="none")
    return Draw(tokens, nats)


Score = Callable[[Int[Tensor, "b y x"], int, int], Float[Tensor, "b k"]]  # of the token at (y, x), given those before


def naive(core: SpatialCore, context: Tensor, actions: Tensor) -> Score:
    """One full pass of the core per token."""
    return lambda tokens, y, x: core(tokens, context, actions)[:, y, x]


class Cached:
    """Each activation once: per layer, the last rows of the vertical stack and the last columns of the horizontal
    stack of the present row are kept."""

    def __init__(self, core: SpatialCore, context: Tensor, actions: Tensor):
        self.core = core
        self.layers = [layer for layer in core.layers if isinstance(layer, GatedLayer)]
        self.kernels = [layer.horizontal.weight[:, :, 0].transpose(1, 2).flatten(1) for layer in self.layers]
        self.conditions = core.conditions(context, actions)
        self.shortcut = core.shortcut(context)
        b, _, _, columns = context.shape
        self.zero = context.new_zeros(b, self.layers[0].width)
        self.zero_row = self.zero[:, :, None, None].expand(-1, -1, 1, columns)
        self.rows = [[self.zero_row] * (layer.ROWS - 1) for layer in self.layers]
        self.columns: list[list[Tensor]] = []
        self.to_h: list[Tensor] = []

    def __call__(self, tokens: Int[Tensor, "b y x"], y: int, x: int) -> Float[Tensor, "b k"]:
        """Scores of the token at (y, x); to be asked for in raster order."""
        if x == 0:
            self._begin_row(tokens, y)
        h = self._enter(tokens[:, y, x - 1 : x])[1][:, :, 0, 0] if x else self.zero
        for layer, kernel, earlier, to_h in zip(self.layers, self.kernels, self.columns, self.to_h, strict=True):
            seen = [*earlier, h]
            gates = F.linear(torch.cat(seen, dim=1), kernel, layer.horizontal.bias) + to_h[x]
            earlier[:] = seen[1:]
            out = layer.horizontal_out
            h = h + F.linear(gate(gates), out.weight[:, :, 0, 0], out.bias)
        leave = self.core.leave
        return self.core.logits(F.linear(h, leave.weight[:, :, 0, 0], leave.bias) + self.row_shortcut[x])

    def _begin_row(self, tokens: Int[Tensor, "b y x"], y: int) -> None:
        """Run the vertical stack for row y, and lay out what it gives the horizontal stack."""
        v = self._enter(tokens[:, y - 1])[0] if y else self.zero_row
        self.to_h = []
        for layer, earlier, condition in zip(self.layers, self.rows, self.conditions, strict=True):
            to_v, to_h = condition[:, :, y : y + 1].chunk(2, dim=1)
            seen = [*earlier, v]
            gates = layer.vertical(F.pad(torch.cat(seen, dim=2), (1, 1))) + to_v
            self.to_h.append((layer.down(gates) + to_h)[:, :, 0].permute(2, 0, 1).contiguous())
            earlier[:] = seen[1:]
            v = layer.next_v(v, gates)
        self.columns = [[self.zero] * (layer.COLUMNS - 1) for layer in self.layers]
        self.row_shortcut = self.shortcut[:, :, y].permute(2, 0, 1).contiguous()

    def _enter(self, tokens: Int[Tensor, "b x"]) -> tuple[Tensor, ...]:
        """The two stacks' inputs `b w 1 x` at known tokens."""
        return self.core.enter(self.core.embedding(tokens).movedim(-1, 1)[:, :, None]).chunk(2, dim=1)


SAMPLERS: dict[str, Callable[[SpatialCore, Tensor, Tensor], Score]] = {"naive": naive, "cached": Cached}

"""Exact ancestral sampling of a frame's tokens from counter-based noise, in plain PyTorch: three ways, one result.

- `naive`: the whole core at every token. The reference for the others.
- `cached`: computes each activation once (after Ramachandran et al. 2017, arXiv 1704.06001): the context once per
  frame, the vertical stack once per row, the horizontal stack once per token.
- `predictive`: guess the frame, draw all its tokens in one parallel pass, and take these as the next guess, until
  nothing changes (fixed-point iteration on shared noise, Wiggers & Hoogeboom 2020, arXiv 2002.09928). A GPU needs
  5 to 8 passes of few large kernels; `cached` launches small ones for each token (counted, not timed:
  docs/concepts/design.md).

The CPU back end compiles `cached` (`worldmodel.backends.cpu.prior`).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from worldmodel.prior.categorical import FrameInputs, SampledTokens, SamplerConfig, sample_categorical
from worldmodel.prior.core import SpatialCore
from worldmodel.prior.layers import GatedLayer, gate

Score = Callable[[Int[Tensor, "n y x"], int, int], Float[Tensor, "n k"]]  # of the token at (y, x), given those before


@torch.no_grad()
def sample(core: SpatialCore, inputs: FrameInputs, config: SamplerConfig) -> SampledTokens:
    """Draw the tokens of one frame, in raster order, from one uniform number per site."""
    default = "predictive" if inputs.context.is_cuda else "cached"
    return SAMPLERS.get(config.kind, SAMPLERS[default])(core, inputs, config)


def naive(core: SpatialCore, inputs: FrameInputs, config: SamplerConfig) -> SampledTokens:
    """One full pass of the core per token."""
    score = lambda tokens, y, x: core(tokens, inputs.context, inputs.action)[:, y, x]  # noqa: E731
    return _raster(score, inputs, config, passes=inputs.guess[0].numel())


def cached(core: SpatialCore, inputs: FrameInputs, config: SamplerConfig) -> SampledTokens:
    """Computes each activation once."""
    return _raster(_Cache(core, inputs.context, inputs.action), inputs, config, passes=1)


def predictive(core: SpatialCore, inputs: FrameInputs, config: SamplerConfig) -> SampledTokens:
    """All sites at once, repeatedly: after n passes at least the first n tokens are final.

    A frame that a pass does not change equals the result of raster order, because its noise then
    selects each token given the tokens before it. Finished dreams are left out of later passes.
    """
    tokens, nats = inputs.guess.clone(), inputs.guess.new_zeros(inputs.guess.shape, dtype=torch.float)
    passes, sites = inputs.guess.new_zeros(len(tokens)), tokens[0].numel()
    unsettled = torch.arange(len(tokens), device=tokens.device)
    for _ in range(sites + 1):
        scores = core(tokens[unsettled], inputs.context[unsettled], inputs.action[unsettled])
        logits, noise = scores.float().flatten(0, 2), inputs.noise[unsettled].flatten()
        temperatures = inputs.temperature[unsettled].repeat_interleave(sites)
        drawn = sample_categorical(logits, noise, temperatures, config)
        nats[unsettled] = F.cross_entropy(logits, drawn, reduction="none").view(-1, *tokens.shape[1:])
        drawn = drawn.view(-1, *tokens.shape[1:])
        changed = (drawn != tokens[unsettled]).flatten(1).any(1)
        tokens[unsettled] = drawn
        passes[unsettled] += 1
        unsettled = unsettled[changed]
        if not len(unsettled):
            break
    return SampledTokens(tokens, nats, passes)


SAMPLERS = {"naive": naive, "cached": cached, "predictive": predictive}


def _raster(score: Score, inputs: FrameInputs, config: SamplerConfig, passes: int) -> SampledTokens:
    """Site after site."""
    tokens = torch.zeros_like(inputs.guess)
    nats = tokens.new_zeros(tokens.shape, dtype=torch.float)
    b, rows, columns = tokens.shape
    for y in range(rows):
        for x in range(columns):
            logits = score(tokens, y, x).float()
            uniform = inputs.noise[:, y * columns + x]
            tokens[:, y, x] = sample_categorical(logits, uniform, inputs.temperature, config)
            nats[:, y, x] = F.cross_entropy(logits, tokens[:, y, x], reduction="none")
    return SampledTokens(tokens, nats, tokens.new_full((b,), passes))


class _Cache:
    """Keeps, for each layer, the last rows of the vertical stack and the last columns of the horizontal one."""

    def __init__(self, core: SpatialCore, context: Tensor, action: Tensor):
        self.core = core
        self.layers = [layer for layer in core.layers if isinstance(layer, GatedLayer)]
        self.kernels = [layer.horizontal.weight[:, :, 0].transpose(1, 2).flatten(1) for layer in self.layers]
        self.conditions = core.conditions(context, action)
        self.shortcut = core.shortcut(context)
        b, _, _, columns = context.shape
        self.zero = context.new_zeros(b, self.layers[0].width)
        self.zero_row = self.zero[:, :, None, None].expand(-1, -1, 1, columns)
        self.rows = [[self.zero_row] * (layer.ROWS - 1) for layer in self.layers]
        self.columns: list[list[Tensor]] = []
        self.to_h: list[Tensor] = []

    def __call__(self, tokens: Int[Tensor, "b y x"], y: int, x: int) -> Float[Tensor, "b k"]:
        """Logits of the token at (y, x). Call it in raster order."""
        if x == 0:
            self._start_row(tokens, y)
        h = self._embed(tokens[:, y, x - 1 : x])[1][:, :, 0, 0] if x else self.zero
        for layer, kernel, earlier, to_h in zip(self.layers, self.kernels, self.columns, self.to_h, strict=True):
            seen = [*earlier, h]
            gates = F.linear(torch.cat(seen, dim=1), kernel, layer.horizontal.bias) + to_h[x]
            earlier[:] = seen[1:]
            out = layer.horizontal_out
            h = h + F.linear(gate(gates), out.weight[:, :, 0, 0], out.bias)
        out = self.core.out_proj
        return self.core.logits(F.linear(h, out.weight[:, :, 0, 0], out.bias) + self.row_shortcut[x])

    def _start_row(self, tokens: Int[Tensor, "b y x"], y: int) -> None:
        """Run the vertical stack for row y, and keep its inputs to the horizontal stack."""
        v = self._embed(tokens[:, y - 1])[0] if y else self.zero_row
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

    def _embed(self, tokens: Int[Tensor, "b x"]) -> tuple[Tensor, ...]:
        """The two stacks' inputs `b w 1 x` at known tokens."""
        return self.core.in_proj(self.core.embedding(tokens).movedim(-1, 1)[:, :, None]).chunk(2, dim=1)

"""The samplers in plain PyTorch: `naive`, `cached` and `predictive`."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from worldmodel.prior.categorical import Draw, Given, SamplerConfig, choose
from worldmodel.prior.layers import GatedLayer, gate
from worldmodel.prior.pixelcnn import SpatialCore

Score = Callable[[Int[Tensor, "n y x"], int, int], Float[Tensor, "n k"]]  # of the token at (y, x), given those before


def naive(core: SpatialCore, given: Given, config: SamplerConfig) -> Draw:
    """One full pass of the core per token."""
    score = lambda tokens, y, x: core(tokens, given.context, given.actions)[:, y, x]  # noqa: E731
    return _raster(score, given, config, passes=given.guess[0].numel())


def cached(core: SpatialCore, given: Given, config: SamplerConfig) -> Draw:
    """Each activation once."""
    return _raster(_Cache(core, given.context, given.actions), given, config, passes=1)


def predictive(core: SpatialCore, given: Given, config: SamplerConfig) -> Draw:
    """All sites at once, again and again: after n passes the first n tokens are right, mostly many more.

    A frame that comes out as it went in is the one that raster order draws: each token is what its noise picks given
    those before it. Dreams that are done are left out of the passes to come.
    """
    tokens, nats = given.guess.clone(), given.guess.new_zeros(given.guess.shape, dtype=torch.float)
    passes = given.guess.new_zeros(len(tokens))
    unsettled = torch.arange(len(tokens), device=tokens.device)
    for _ in range(tokens[0].numel() + 1):
        scores = core(tokens[unsettled], given.context[unsettled], given.actions[unsettled])
        logits = scores.float().flatten(0, 2)
        drawn = choose(logits, given.noise[unsettled].flatten(), config)
        nats[unsettled] = F.cross_entropy(logits, drawn, reduction="none").view(-1, *tokens.shape[1:])
        drawn = drawn.view(-1, *tokens.shape[1:])
        changed = (drawn != tokens[unsettled]).flatten(1).any(1)
        tokens[unsettled] = drawn
        passes[unsettled] += 1
        unsettled = unsettled[changed]
        if not len(unsettled):
            break
    return Draw(tokens, nats, passes)


def _raster(score: Score, given: Given, config: SamplerConfig, passes: int) -> Draw:
    """Site after site."""
    tokens = torch.zeros_like(given.guess)
    nats = tokens.new_zeros(tokens.shape, dtype=torch.float)
    b, rows, columns = tokens.shape
    for y in range(rows):
        for x in range(columns):
            logits = score(tokens, y, x).float()
            tokens[:, y, x] = choose(logits, given.noise[:, y * columns + x], config)
            nats[:, y, x] = F.cross_entropy(logits, tokens[:, y, x], reduction="none")
    return Draw(tokens, nats, tokens.new_full((b,), passes))


class _Cache:
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

"""The prior: an action-conditioned gated PixelCNN over latent time, rows and columns.

p(z | a) = Π over s, y, x of p(z[s, y, x] | z[< s], z[s, < (y, x)], a[≤ s]). A temporal context network sees past
frames (once per frame, in parallel over the grid); a thin spatial core sees the earlier tokens of the frame itself.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.io.config import within
from worldmodel.nn.causal_conv import CausalConv3d, Past
from worldmodel.prior.layers import ActionLinear, ContextBlock, GatedLayer, Memory, shift_down, shift_right
from worldmodel.prior.outcome import OutcomeHead


@dataclass
class PriorConfig:
    """Shape of the prior, and how its context is roughened while it trains.

    embed: channels of a token's embedding (input and output share it). width, layers, time_kernel: of the temporal
    context. core_width, core_layers: of the spatial core. context_noise: largest share of context tokens replaced
    by others of the batch in training, against drift (arXiv 2408.14837, section 3.2.1). outcome_width: of the head that
    tells rewards and ends (0: none). memory: channels that last beyond the reach of the convolutions (0: none).
    """

    embed: int = 64
    width: int = 96
    layers: int = 6
    time_kernel: int = 2
    core_width: int = 48
    core_layers: int = 3
    context_noise: float = 0.1
    outcome_width: int = 64
    memory: int = 0

    def __post_init__(self) -> None:
        within(self, 1, 2**14, "embed", "width", "core_width")
        within(self, 1, 256, "layers", "core_layers", "time_kernel")
        within(self, 0, 1, "context_noise")
        within(self, 0, 2**14, "outcome_width", "memory")


OUTCOME_SHARE = 0.5  # of the outcome's nats in the loss, beside the mean over tokens
TOLD_SHARE = 0.5  # of the latents whose tokens are told their outcome while training; the others must do without


@runtime_checkable
class TokenClip(Protocol):
    """What the loss needs of a batch: `tokens` `b s y x`; for each latent `b s` the `actions` (`b s a`) that lead into
    it, the `rewards` they earn, whether the episode `terminated` there, and a `mask`: false where padding fills the
    clip."""

    @property
    def tokens(self) -> Tensor: ...
    @property
    def actions(self) -> Tensor: ...
    @property
    def rewards(self) -> Tensor: ...
    @property
    def terminated(self) -> Tensor: ...
    @property
    def mask(self) -> Tensor: ...


class SpatialCore(nn.Module):
    """Logits of the tokens of a frame, each given the earlier ones in raster order, the context and the action."""

    def __init__(self, config: PriorConfig, codes: int, actions: int):
        super().__init__()
        w, depth = config.core_width, config.core_layers
        self.embedding = nn.Embedding(codes, config.embed)
        nn.init.normal_(self.embedding.weight, std=config.embed**-0.5)
        self.enter = nn.Conv2d(config.embed, 2 * w, 1)
        self.condition = nn.Conv2d(config.width, 4 * w * depth, 1)
        self.action = ActionLinear(actions, 4 * w * depth)
        self.layers = nn.ModuleList(GatedLayer(w, last=i == depth - 1) for i in range(depth))
        self.leave = nn.Conv2d(w, config.embed, 1)
        self.shortcut = nn.Conv2d(config.width, config.embed, 1)
        self.bias = nn.Parameter(torch.zeros(codes))

    def conditions(
        self, context: Float[Tensor, "n c y x"], actions: Float[Tensor, "n a"]
    ) -> list[Float[Tensor, "n w4 y x"]]:
        """What context and action add to the gates of each layer, once per frame."""
        both = self.condition(context) + self.action(actions)[:, :, None, None]
        return list(both.chunk(len(self.layers), dim=1))

    def logits(self, features: Float[Tensor, "n e *yx"]) -> Float[Tensor, "n *yx k"]:
        """Scores of all codes: the product with their embeddings."""
        return F.linear(F.silu(features).movedim(1, -1), self.embedding.weight, self.bias)

    def forward(
        self, tokens: Int[Tensor, "n y x"], context: Float[Tensor, "n c y x"], actions: Float[Tensor, "n a"]
    ) -> Float[Tensor, "n y x k"]:
        v, h = self.enter(self.embedding(tokens).movedim(-1, 1)).chunk(2, dim=1)
        v, h = shift_down(v), shift_right(h)
        for layer, condition in zip(self.layers, self.conditions(context, actions), strict=True):
            v, h = layer(v, h, condition)
        return self.logits(self.leave(h) + self.shortcut(context))


class PixelCNN(nn.Module):
    """Tokens and actions → exact log-likelihoods; the samplers draw from it.

    Args: codes, the size K of the codebook; grid, rows and columns of tokens; actions, the width a of the encoded
    action that leads into one latent (0: no actions); rewards, the values that `reward_values` found (none: the
    prior tells no rewards and ends).
    """

    def __init__(
        self,
        config: PriorConfig,
        codes: int,
        grid: tuple[int, int],
        actions: int,
        rewards: tuple[float, ...] = (),
    ):
        super().__init__()
        self.config = config
        self.codes = codes
        self.grid = (grid[0], grid[1])
        self.actions = actions
        self.core = SpatialCore(config, codes, actions)
        self.enter = CausalConv3d(config.embed, config.width, (1, 3))
        self.place = nn.Parameter(torch.randn(config.width, 1, *grid) * 0.1)  # where in the frame a site is
        self.start = nn.Parameter(torch.randn(config.embed, *grid) * config.embed**-0.5)
        blocks = [ContextBlock(config.width, actions, config.time_kernel) for _ in range(config.layers)]
        memory = [Memory(config.width, config.memory)] if config.memory else []
        half = config.layers // 2  # what is kept has looked around, and those after it look around in what was kept
        self.blocks = nn.ModuleList([*blocks[:half], *memory, *blocks[half:]])
        has_head = bool(rewards and config.outcome_width)
        head = OutcomeHead(config.width, config.outcome_width, self.grid, rewards) if has_head else None
        self.outcome: OutcomeHead | None = head

    @torch.no_grad()
    def use_codebook(self, alike: Float[Tensor, "k d"]) -> None:
        """Begin with codes that look alike embedded alike: the first channels take the tokenizer's code vectors, as
        `Quantizer.standard` has them: small things differ in small entries."""
        width = min(alike.shape[1], self.config.embed)
        self.core.embedding.weight[:, :width] = alike[:, :width] * self.config.embed**-0.5

    def embed_past(self, tokens: Int[Tensor, "b s y x"], first: bool) -> Float[Tensor, "b e s2 y x"]:
        """What the context of each step sees: the tokens one step earlier; before the first, a learned start."""
        past = self.core.embedding(tokens).movedim(-1, 1)
        start = self.start[None, :, None].expand(len(tokens), -1, 1, -1, -1)
        return torch.cat([start, past], dim=2) if first else past

    def context(
        self, past_tokens: Float[Tensor, "b e s y x"], actions: Float[Tensor, "b s a"], past: Past = None
    ) -> tuple[Float[Tensor, "b c s y x"], Past]:
        """Features of each step from earlier tokens and the actions up to it; `past` carries on an earlier call."""
        x = self.enter(past_tokens)[0] + self.place
        pasts = []
        for block, own in zip(self.blocks, past or [None] * len(self.blocks), strict=True):
            x, own = block(x, actions, own)
            pasts.append(own)
        return x, tuple(pasts)

    def forward(self, tokens: Int[Tensor, "b s y x"], actions: Float[Tensor, "b s a"]) -> Float[Tensor, "b s y x k"]:
        """Logits of every token given all before it, in one parallel pass (teacher forcing)."""
        lead = self._lead(tokens, actions)
        return self._logits(self._features(tokens, lead), tokens, lead)

    def nats(self, tokens: Int[Tensor, "b s y x"], actions: Float[Tensor, "b s a"]) -> Float[Tensor, "b s y x"]:
        """−log p of each token, in nats."""
        return _nats(self(tokens, actions), tokens)

    def outcomes(self, clip: TokenClip) -> Float[Tensor, "b s o"]:
        """Scores of the outcome of each latent of a clip (see `OutcomeHead`).

        Raises: ValueError for a prior without that head.
        """
        return self._scores(self._features(clip.tokens, self._lead(clip.tokens, clip.actions)))

    def loss(self, clip: TokenClip) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Mean −log p in nats per token, and a share of the outcome's; bits per token and per frame as metrics. While
        training, some tokens are told the outcome that came with them."""
        lead = self._lead(clip.tokens, clip.actions)
        features = self._features(clip.tokens, lead)
        targets = None if self.outcome is None else self._targets(self.outcome, clip)
        nats = _nats(self._logits(self._told(features, targets, clip.mask), clip.tokens, lead), clip.tokens)
        loss = nats[clip.mask].mean()
        told = clip.mask[:, 1:]  # the first latent of a clip has no past to tell its outcome from
        bits = nats.detach()[:, 1:][told].mean() / math.log(2)
        metrics = {"bits_per_token": bits, "bits_per_frame": bits * math.prod(self.grid)}
        if self.outcome is not None and targets is not None:
            outcome = self.outcome.loss(self._scores(features)[:, 1:][told], targets[:, 1:][told])
            loss, metrics["outcome_loss"] = loss + OUTCOME_SHARE * outcome, outcome.detach()
        return loss, metrics

    def _targets(self, head: OutcomeHead, clip: TokenClip) -> Float[Tensor, "b s o"]:
        """The outcome of each latent, as shares."""
        return head.targets(clip.rewards.flatten(), clip.terminated.flatten()).unflatten(0, clip.mask.shape)

    def _told(
        self, features: Float[Tensor, "b c s y x"], targets: Float[Tensor, "b s o"] | None, mask: Bool[Tensor, "b s"]
    ) -> Float[Tensor, "b c s y x"]:
        """While training, the context of some latents is told their outcomes; else it is as it was."""
        if self.outcome is None or targets is None or not self.training:
            return features
        some = mask & (torch.rand(mask.shape, device=features.device) < TOLD_SHARE)
        some[:, 0] = False  # nothing led into the first latent of a clip
        return features + ((targets * some[..., None]) @ self.outcome.tell).movedim(-1, 1)[..., None, None]

    def _lead(self, tokens: Int[Tensor, "b s y x"], actions: Float[Tensor, "b s a"]) -> Float[Tensor, "b s a"]:
        """The actions that lead into each latent; nothing leads into the first."""
        self._check(tokens, actions)
        return torch.cat([torch.zeros_like(actions[:, :1]), actions[:, 1:]], dim=1)

    def _features(self, tokens: Int[Tensor, "b s y x"], lead: Float[Tensor, "b s a"]) -> Float[Tensor, "b c s y x"]:
        """The context of every latent; while training, of tokens that are roughened."""
        past_tokens = self._roughen(tokens) if self.training and self.config.context_noise else tokens
        return self.context(self.embed_past(past_tokens[:, :-1], first=True), lead)[0]

    def _logits(self, features: Tensor, tokens: Tensor, lead: Tensor) -> Float[Tensor, "b s y x k"]:
        frames = features.transpose(1, 2).flatten(0, 1)
        return self.core(tokens.flatten(0, 1), frames, lead.flatten(0, 1)).unflatten(0, tokens.shape[:2])

    def _scores(self, features: Float[Tensor, "b c s y x"]) -> Float[Tensor, "b s o"]:
        if self.outcome is None:
            raise ValueError(
                "this prior has no head for rewards and ends: train it with prior.outcome_width above 0 "
                "(scripts/train_prior.py)"
            )
        frames = features.transpose(1, 2)
        return self.outcome(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def _roughen(self, tokens: Int[Tensor, "b s y x"]) -> Int[Tensor, "b s y x"]:
        """Replace a random share of the tokens (up to `context_noise`, another for each clip) by others."""
        rate = torch.rand(len(tokens), 1, 1, 1, device=tokens.device) * self.config.context_noise
        others = tokens.flatten()[torch.randint(tokens.numel(), tokens.shape, device=tokens.device)]
        return torch.where(torch.rand(tokens.shape, device=tokens.device) < rate, others, tokens)

    def _check(self, tokens: Tensor, actions: Tensor) -> None:
        if tuple(tokens.shape[2:]) != self.grid:
            raise ValueError(f"expected tokens on a grid of {self.grid}, got {tuple(tokens.shape[2:])}")
        if actions.shape[1:] != (tokens.shape[1], self.actions):
            raise ValueError(
                f"expected actions of shape (b, {tokens.shape[1]}, {self.actions}), got {tuple(actions.shape)}"
            )
        if tokens.min() < 0 or tokens.max() >= self.codes:
            raise ValueError(f"expected tokens in [0, {self.codes}), got {int(tokens.min())} to {int(tokens.max())}")


def _nats(logits: Float[Tensor, "b s y x k"], tokens: Int[Tensor, "b s y x"]) -> Float[Tensor, "b s y x"]:
    return F.cross_entropy(logits.float().flatten(0, -2), tokens.flatten(), reduction="none").view(tokens.shape)

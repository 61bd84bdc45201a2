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

from worldmodel.io.config import check_range
from worldmodel.nn.causal_conv import CausalConv3d, Past
from worldmodel.prior.categorical import FrameInputs, SamplerConfig
from worldmodel.prior.core import SpatialCore
from worldmodel.prior.layers import ContextBlock, Memory
from worldmodel.prior.outcome import OutcomeHead, SampledFrame
from worldmodel.prior.samplers import sample


@dataclass
class PriorConfig:
    """Shape of the prior, and the noise on its context while it trains."""

    embed: int = 64
    """Channels of a token's embedding; input and output share it."""
    width: int = 96
    """Channels of the temporal context."""
    layers: int = 6
    """Blocks of the temporal context."""
    time_kernel: int = 2
    """Latents that each block of the context sees at once."""
    core_width: int = 48
    """Channels of the spatial core, which runs once per token."""
    core_layers: int = 3
    """Layers of the spatial core."""
    context_noise: float = 0.1
    """Largest share of context tokens that training replaces by others of the batch, against drift (arXiv
    2408.14837, section 3.2.1)."""
    outcome_width: int = 64
    """Channels of the head that predicts reward and termination (0: no head)."""
    memory: int = 0
    """Channels that last beyond the reach of the convolutions (0: none)."""

    def __post_init__(self) -> None:
        check_range(self, 1, 2**14, "embed", "width", "core_width")
        check_range(self, 1, 256, "layers", "core_layers", "time_kernel")
        check_range(self, 0, 1, "context_noise")
        check_range(self, 0, 2**14, "outcome_width", "memory")


OUTCOME_LOSS_WEIGHT = 0.5  # of the outcome's nats, beside the mean nats of a token
OUTCOME_CONDITIONING_RATE = 0.5  # share of the latents whose tokens are conditioned on their outcome in training


@runtime_checkable
class TokenClip(Protocol):
    """A batch for `loss`: `tokens` `b s y x`; for each latent `b s` the `actions` (`b s a`) that lead into it, the
    `rewards` that they earn, whether the episode `terminated` there, and `mask`, false for padding."""

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


class PixelCNN(nn.Module):
    """Tokens and actions → exact log-likelihoods, and samples one frame after the other.

    Args: codes, the size K of the vocabulary; grid, rows and columns of tokens; actions, the width a of the encoded
    action that leads into one latent (0: no actions); rewards, the values that `reward_values` found (none: the
    prior predicts neither reward nor termination).
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
        self.core = SpatialCore(codes, config.embed, config.width, actions, config.core_width, config.core_layers)
        self.in_proj = CausalConv3d(config.embed, config.width, (1, 3))
        self.position = nn.Parameter(torch.randn(config.width, 1, *grid) * 0.1)
        self.first = nn.Parameter(torch.randn(config.embed, *grid) * config.embed**-0.5)  # before the first latent
        blocks = [ContextBlock(config.width, actions, config.time_kernel) for _ in range(config.layers)]
        memory = [Memory(config.width, config.memory)] if config.memory else []
        half = config.layers // 2  # half of the blocks come before the memory, half after it
        self.blocks = nn.ModuleList([*blocks[:half], *memory, *blocks[half:]])
        has_head = bool(rewards and config.outcome_width)
        head = OutcomeHead(config.width, config.outcome_width, self.grid, rewards) if has_head else None
        self.outcome: OutcomeHead | None = head

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.first.device

    @property
    def rewards(self) -> tuple[float, ...]:
        """The values of a step's reward that it predicts; none without the head for rewards and termination."""
        return () if self.outcome is None else self.outcome.values

    @torch.no_grad()
    def init_embedding(self, code_vectors: Float[Tensor, "k d"]) -> None:
        """Give codes with similar vectors similar embeddings: the first channels are the tokenizer's code vectors, as
        `Tokenizer.embed` standardizes them."""
        width = min(code_vectors.shape[1], self.config.embed)
        self.core.embedding.weight[:, :width] = code_vectors[:, :width] * self.config.embed**-0.5

    @torch.no_grad()
    def start(self, tokens: Int[Tensor, "b s y x"], actions: Float[Tensor, "b s a"]) -> Past:
        """The state after all of these latents except the newest; `actions` lead into each of them."""
        return self.context(self.embed_past(tokens[:, :-1], first=True), actions)[1]

    @torch.no_grad()
    def step(
        self,
        state: Past,
        tokens: Int[Tensor, "b y x"],
        action: Float[Tensor, "b a"],
        noise: Float[Tensor, "b n"],
        sampler: SamplerConfig,
        temperature: Float[Tensor, "b"] | None = None,
    ) -> tuple[Past, SampledFrame]:
        """Sample the latent that follows `tokens`, the newest one, under the action that leads into it.

        noise: uniform numbers, one per site and a last one for the outcome. temperature: one per dream (None: the
        sampler's).
        """
        features, state = self.features(state, tokens, action)
        outcome = None
        if self.outcome is not None:
            outcome = self.outcome.sample(self.outcome(features), noise[:, -1], sampler.allow_termination)
            features = self.outcome.with_outcome(features, outcome.drawn)
        if temperature is None:
            temperature = noise.new_full((len(noise),), sampler.effective_temperature)
        drawn = sample(self.core, FrameInputs(features, action, noise[:, :-1], temperature, tokens), sampler)
        return state, SampledFrame.of(drawn, drawn.nats.sum((1, 2)), outcome)

    @torch.no_grad()
    def score(
        self,
        state: Past,
        tokens: Int[Tensor, "b y x"],
        action: Float[Tensor, "b a"],
        following: Int[Tensor, "b y x"],
    ) -> tuple[Past, Float[Tensor, "b"]]:
        """−log p in nats, summed in float64, of the latent `following` after `tokens` under this action."""
        features, state = self.features(state, tokens, action)
        log_p = self.core(following, features, action).double().log_softmax(-1)
        return state, -log_p.gather(-1, following[..., None]).sum((1, 2, 3))

    def features(
        self, state: Past, tokens: Int[Tensor, "b y x"], action: Float[Tensor, "b a"]
    ) -> tuple[Float[Tensor, "b c y x"], Past]:
        """The context of the latent after `tokens`, and the state that has seen these."""
        past_tokens = self.embed_past(tokens[:, None], first=False)
        features, state = self.context(past_tokens, action[:, None], state)
        return features[:, :, 0], state

    def embed_past(self, tokens: Int[Tensor, "b s y x"], first: bool) -> Float[Tensor, "b e s2 y x"]:
        """The embedded tokens of the step before each step; before the first one, a learned embedding."""
        past = self.core.embedding(tokens).movedim(-1, 1)
        start = self.first[None, :, None].expand(len(tokens), -1, 1, -1, -1)
        return torch.cat([start, past], dim=2) if first else past

    def context(
        self, past_tokens: Float[Tensor, "b e s y x"], actions: Float[Tensor, "b s a"], past: Past = None
    ) -> tuple[Float[Tensor, "b c s y x"], Past]:
        """Features of each step from earlier tokens and the actions up to it; `past` continues an earlier call."""
        x = self.in_proj(past_tokens)[0] + self.position
        pasts = []
        for block, own in zip(self.blocks, past or [None] * len(self.blocks), strict=True):
            x, own = block(x, actions, own)
            pasts.append(own)
        return x, tuple(pasts)

    def forward(self, tokens: Int[Tensor, "b s y x"], actions: Float[Tensor, "b s a"]) -> Float[Tensor, "b s y x k"]:
        """Logits of every token given all before it, in one parallel pass (teacher forcing)."""
        inputs = self._action_inputs(tokens, actions)
        return self._logits(self._features(tokens, inputs), tokens, inputs)

    def logits(self, tokens: Int[Tensor, "b s y x"], actions: Float[Tensor, "b s a"]) -> Float[Tensor, "b s y x k"]:
        """Logits of every token given all before it, in one parallel pass (teacher forcing)."""
        return self(tokens, actions)

    def nats(self, tokens: Int[Tensor, "b s y x"], actions: Float[Tensor, "b s a"]) -> Float[Tensor, "b s y x"]:
        """−log p of each token, in nats."""
        return _nats(self(tokens, actions), tokens)

    def outcome_probabilities(self, clip: TokenClip) -> Float[Tensor, "b s 2 r"]:
        """Probabilities of each reward, if the episode goes on and if it ends, of each latent of a clip; float64.

        Raises: ValueError for a prior without that head.
        """
        if self.outcome is None:
            raise ValueError(
                "this prior has no head for rewards and ends: train it with prior.outcome_width above 0 "
                "(`worldmodel train-prior`)"
            )
        features = self._features(clip.tokens, self._action_inputs(clip.tokens, clip.actions))
        return self.outcome.probabilities(self._scores(self.outcome, features))

    def loss(self, clip: TokenClip) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Mean −log p in nats per token, plus the weighted loss of the outcome; metrics are bits per token and frame.

        In training, the tokens of some latents are conditioned on the outcome that came with them.
        """
        inputs = self._action_inputs(clip.tokens, clip.actions)
        features = self._features(clip.tokens, inputs)
        targets = None if self.outcome is None else self._targets(self.outcome, clip)
        conditioned = self._with_some_outcomes(features, targets, clip.mask)
        nats = _nats(self._logits(conditioned, clip.tokens, inputs), clip.tokens)
        loss = nats[clip.mask].mean()
        mask = clip.mask[:, 1:]  # the first latent of a clip has no past to predict it from
        bits = nats.detach()[:, 1:][mask].mean() / math.log(2)
        metrics = {"bits_per_token": bits, "bits_per_frame": bits * math.prod(self.grid)}
        if self.outcome is not None and targets is not None:
            scores = self._scores(self.outcome, features)
            outcome = self.outcome.loss(scores[:, 1:][mask], targets[:, 1:][mask])
            loss, metrics["outcome_loss"] = loss + OUTCOME_LOSS_WEIGHT * outcome, outcome.detach()
        return loss, metrics

    def _targets(self, head: OutcomeHead, clip: TokenClip) -> Float[Tensor, "b s o"]:
        """The outcome of each latent, as shares."""
        return head.targets(clip.rewards.flatten(), clip.terminated.flatten()).unflatten(0, clip.mask.shape)

    def _with_some_outcomes(
        self, features: Float[Tensor, "b c s y x"], targets: Float[Tensor, "b s o"] | None, mask: Bool[Tensor, "b s"]
    ) -> Float[Tensor, "b c s y x"]:
        """In training, the context of some latents with their outcomes added; else the context as it is."""
        if self.outcome is None or targets is None or not self.training:
            return features
        some = mask & (torch.rand(mask.shape, device=features.device) < OUTCOME_CONDITIONING_RATE)
        some[:, 0] = False  # nothing leads into the first latent of a clip
        return features + ((targets * some[..., None]) @ self.outcome.shift).movedim(-1, 1)[..., None, None]

    def _action_inputs(self, tokens: Int[Tensor, "b s y x"], actions: Float[Tensor, "b s a"]) -> Float[Tensor, "b s a"]:
        """The actions that lead into each latent; nothing leads into the first."""
        self._check(tokens, actions)
        return torch.cat([torch.zeros_like(actions[:, :1]), actions[:, 1:]], dim=1)

    def _features(self, tokens: Int[Tensor, "b s y x"], inputs: Float[Tensor, "b s a"]) -> Float[Tensor, "b c s y x"]:
        """The context of every latent; in training, of tokens with noise."""
        past_tokens = self._corrupt_context(tokens) if self.training and self.config.context_noise else tokens
        return self.context(self.embed_past(past_tokens[:, :-1], first=True), inputs)[0]

    def _logits(self, features: Tensor, tokens: Tensor, inputs: Tensor) -> Float[Tensor, "b s y x k"]:
        frames = features.transpose(1, 2).flatten(0, 1)
        return self.core(tokens.flatten(0, 1), frames, inputs.flatten(0, 1)).unflatten(0, tokens.shape[:2])

    @staticmethod
    def _scores(head: OutcomeHead, features: Float[Tensor, "b c s y x"]) -> Float[Tensor, "b s o"]:
        frames = features.transpose(1, 2)
        return head(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def _corrupt_context(self, tokens: Int[Tensor, "b s y x"]) -> Int[Tensor, "b s y x"]:
        """Replace a random share of the tokens (up to `context_noise`, drawn for each clip) by others of the batch."""
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

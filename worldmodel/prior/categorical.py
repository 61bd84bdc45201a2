"""From scores and a uniform number to a token: how temperature, top-k and top-p shape the draw."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass
class SamplerConfig:
    """How tokens are drawn.

    kind: which sampler; all draw the same tokens, but for ties within rounding. auto: the fastest by measurement
    (LOG.md), which is `fused` at every batch size on a CPU, or `cached` where that cannot be had. temperature: 1
    draws from the model itself, 0 takes the likeliest token; None is the world's own, or 1 where a prior draws without
    a world. temperature_until: the latent of a dream, those given counted, from which on it is 1 (0: never). top_k:
    only the k likeliest (0: all). top_p: only the likeliest that together hold this much probability (1: all).
    ends: whether a step may be the last; else it is drawn from those futures in which the dream goes on.
    """

    kind: Literal["auto", "fused", "predictive", "cached", "naive"] = "auto"
    temperature: float | None = None
    top_k: int = 0
    top_p: float = 1.0
    ends: bool = True
    temperature_until: int = 0

    def __post_init__(self) -> None:
        if not self.divisor >= 0:  # nor a number that is none
            raise ValueError(f"temperature: expected 0 or more, got {self.temperature}")
        if self.temperature_until < 0:
            raise ValueError(f"temperature_until: expected 0 (never) or more, got {self.temperature_until}")
        if self.temperature_until and self.temperature is None:
            raise ValueError(
                "temperature_until: expected a temperature beside it; without one both are the world's own"
            )
        if self.top_k < 0:
            raise ValueError(f"top_k: expected 0 (all) or more, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: expected a share in (0, 1], got {self.top_p}")

    @property
    def divisor(self) -> float:
        """What scores are divided by: the temperature, where it is told."""
        return 1.0 if self.temperature is None else self.temperature


@dataclass
class Given:
    """What the tokens of one frame are drawn from: context, action, and a uniform number per site.

    guess: tokens to begin with, for the sampler that guesses; it changes none of those drawn.
    """

    context: Float[Tensor, "b c y x"]
    actions: Float[Tensor, "b a"]
    noise: Float[Tensor, "b n"]
    guess: Int[Tensor, "b y x"]


@dataclass
class Draw:
    """Tokens of one frame, and −log p of each under the model itself (temperature 1, nothing cut).

    passes: how often the arithmetic of a frame was done.
    """

    tokens: Int[Tensor, "b y x"]
    nats: Float[Tensor, "b y x"]
    passes: Int[Tensor, "b"]


def choose(logits: Float[Tensor, "b k"], uniform: Float[Tensor, "b"], config: SamplerConfig) -> Int[Tensor, "b"]:
    """The code at which the cumulative probability passes the uniform number (inverse of the distribution)."""
    if config.divisor == 0:
        return logits.argmax(-1)
    share = cut((logits.double() / config.divisor).softmax(-1), config)
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

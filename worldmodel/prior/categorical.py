"""From logits and a uniform number to a token: how temperature, top-k and top-p shape the draw."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodel.io.config import FINITE, LARGEST, check_range

SamplerKind = Literal["auto", "compiled", "predictive", "cached", "naive"]


@dataclass
class SamplerConfig:
    """How the tokens of a dream are drawn."""

    kind: SamplerKind = "auto"
    """Which sampler. All draw the same tokens, except at ties within rounding. auto: the kernels on a CPU, `cached`
    on a CPU without them, `predictive` on a GPU."""
    temperature: float | None = None
    """1 draws from the model itself, 0 takes the likeliest token. None: the world's own, or 1 without a world."""
    top_k: int = 0
    """Draw only from the k likeliest tokens (0: from all)."""
    top_p: float = 1.0
    """Draw only from the likeliest tokens that together have this probability (1: from all)."""
    allow_termination: bool = True
    """Whether a step may end the dream. If not, it is drawn from the futures that go on."""
    temperature_until: int = 0
    """Latent index (context included) from which sampling returns to temperature 1; 0 keeps it throughout."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(SamplerKind):
            raise ValueError(f"kind: expected one of {', '.join(get_args(SamplerKind))}, got {self.kind!r}")
        check_range(self, 0, FINITE, "temperature")
        check_range(self, 0, LARGEST, "temperature_until", "top_k")
        if self.temperature_until and self.temperature is None:
            raise ValueError("temperature_until: set temperature too; without it, both are the world's own")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: expected a share in (0, 1], got {self.top_p}")

    @property
    def effective_temperature(self) -> float:
        """The temperature, or 1 where none is set."""
        return 1.0 if self.temperature is None else self.temperature

    def temperatures(self, steps: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
        """The temperature of each dream, from its number of latents so far; float64."""
        own = torch.full(steps.shape, self.effective_temperature, dtype=torch.float64, device=steps.device)
        return torch.where(steps >= self.temperature_until, 1.0, own) if self.temperature_until else own


@dataclass
class FrameInputs:
    """What the tokens of one frame are drawn from.

    noise: a uniform number per site. temperature: one per dream. guess: tokens from which the predictive sampler
    starts; it does not change the result.
    """

    context: Float[Tensor, "b c y x"]
    action: Float[Tensor, "b a"]
    noise: Float[Tensor, "b n"]
    temperature: Float[Tensor, "b"]
    guess: Int[Tensor, "b y x"]


@dataclass
class SampledTokens:
    """Tokens of one frame, and −log p of each under the model itself (temperature 1, nothing cut).

    passes: how many passes over the frame the sampler made.
    """

    tokens: Int[Tensor, "b y x"]
    nats: Float[Tensor, "b y x"]
    passes: Int[Tensor, "b"]


def sample_categorical(
    logits: Float[Tensor, "n k"],
    uniform: Float[Tensor, "n"],
    temperature: Float[Tensor, "n"],
    config: SamplerConfig,
) -> Int[Tensor, "n"]:
    """The code at which the cumulative probability passes the uniform number (inverse transform sampling)."""
    greedy = temperature == 0
    share = (logits.double() / temperature.masked_fill(greedy, 1.0)[:, None]).softmax(-1)
    reached = truncate(share, config).cumsum(-1)
    drawn = torch.searchsorted(reached, (uniform * reached[:, -1])[:, None], right=True)[:, 0]
    return torch.where(greedy, logits.argmax(-1), drawn.clamp_max(logits.shape[-1] - 1))


def truncate(share: Float[Tensor, "n k"], config: SamplerConfig) -> Float[Tensor, "n k"]:
    """Probabilities, with zeros for the codes that top-k and top-p exclude; at a tie the lower code stays."""
    if not config.top_k and config.top_p == 1:
        return share
    ranked, order = share.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(share.shape[-1], device=share.device)
    keep = ranked.cumsum(-1) - ranked < config.top_p
    keep &= rank < (config.top_k or len(rank))
    return torch.zeros_like(share).scatter(-1, order, ranked * keep)

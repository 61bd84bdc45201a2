"""Between encoder and decoder: vectors to discrete tokens and back. `Bottleneck` is the contract."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from worldmodel.io.config import check_range


@dataclass
class QuantizerConfig:
    """Size of the vocabulary, and how a learned codebook learns."""

    codes: int = 256
    """Number K of codes: of the codebook (vq), of each codebook (rvq), or about as many (fsq)."""
    code_width: int = 16
    """Width D of the vectors between encoder and decoder."""
    commitment: float = 0.25
    """Weight β of the commitment loss (equation 3 of the paper); vq and rvq."""
    learning: Literal["ema", "loss"] = "ema"
    """How codes move: moving averages (appendix A.1 of the paper) or the second term of equation 3; vq and rvq."""
    decay: float = 0.99
    """Decay of the moving averages; vq and rvq."""
    restart_below: float = 0.03
    """A code used less than this share of the uniform use is restarted; vq and rvq."""

    def __post_init__(self) -> None:
        check_range(self, 1, 2**20, "codes")
        check_range(self, 1, 2**14, "code_width")
        check_range(self, 0, 1e9, "commitment", "restart_below")
        check_range(self, 0, 1, "decay")


@dataclass
class Quantized:
    """tokens; vectors with the straight-through gradient; the loss that ties encoder and codebook."""

    tokens: Int[Tensor, "*n x2"]
    vectors: Float[Tensor, "*n x d"]
    loss: Float[Tensor, ""]


class Bottleneck(nn.Module, ABC):
    """Vectors `*n x d` of the encoder → tokens `*n x2` → vectors `*n x d` for the decoder.

    `codes` is the size of the vocabulary. With `tokens_per_site` tokens for each vector, these stand side by side,
    so that x2 = x · tokens_per_site. All that changes in training is a parameter or a buffer.
    """

    codes: int
    tokens_per_site: int = 1

    @abstractmethod
    def forward(self, z: Float[Tensor, "*n x d"]) -> Quantized:
        """Quantize in float32 whatever the surrounding precision; learn when training."""

    @abstractmethod
    def quantize(self, z: Float[Tensor, "*n x d"]) -> Int[Tensor, "*n x2"]:
        """The tokens alone, as in evaluation."""

    @abstractmethod
    def vectors(self, tokens: Int[Tensor, "*n x2"]) -> Float[Tensor, "*n x d"]:
        """What the decoder gets for these tokens."""

    @abstractmethod
    def embed(self, tokens: Int[Tensor, "*n x2"]) -> Float[Tensor, "*n x2 e"]:
        """A vector for each token as agents and priors see it: each entry has mean 0 and deviation 1 over all codes."""

    @abstractmethod
    def init_from_data(self, z: Float[Tensor, "n d"]) -> None:
        """Start from these encoder outputs, before training."""

    def table(self) -> Float[Tensor, "k d"] | None:
        """`vectors` of every single token; None where a vector takes several tokens."""
        if self.tokens_per_site > 1:
            return None
        return self.vectors(torch.arange(self.codes, device=next(self.buffers()).device)[:, None])[:, 0]


def standardize(values: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
    """Each column with mean 0 and deviation 1.

    Code vectors start as principal components: the first entry varies a hundred times as much as the last. What an
    agent needs to see may be in the small entries.
    """
    rows, count = values.double(), len(values)
    mean = _total(rows) / count
    deviation = (_total((rows - mean).square()) / (count - 1)).sqrt()
    return ((rows - mean) / deviation.clamp_min(1e-6)).float()


def _total(rows: Float[Tensor, "n d"]) -> Float[Tensor, "d"]:
    """The sum of all rows: on a CPU in order, because the order of `sum` depends on the processor."""
    return rows.sum(0) if rows.is_cuda else rows.cumsum(0)[-1]

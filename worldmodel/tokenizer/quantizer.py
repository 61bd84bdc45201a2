"""Vectors to codes and back: the learned codebook of the VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937)."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributed import all_reduce, broadcast, get_rank, is_available, is_initialized
from torch.nn import functional as F

from worldmodel.backends.cpu.packed_weights import available
from worldmodel.io.config import within

LLOYD = 20  # rounds of k-means that a codebook begins with
SEARCH_FLOATS = 1 << 22  # distances held at once by the nearest-code search: 16 MB, whatever n * k is


@dataclass
class QuantizerConfig:
    """What the codebook is and how it learns.

    codes: K, the number of codes. code_width: D. commitment: β of the paper's equation 3.
    learning: "ema" (paper, appendix A.1) or "loss" (the second term of equation 3).
    decay: of the moving averages. restart_below: a code used less than this share of the uniform use is restarted.
    """

    codes: int = 512
    code_width: int = 16
    commitment: float = 0.25
    learning: Literal["ema", "loss"] = "ema"
    decay: float = 0.99
    restart_below: float = 0.03

    def __post_init__(self) -> None:
        within(self, 1, 2**20, "codes")
        within(self, 1, 2**14, "code_width")
        within(self, 0, 1e9, "commitment", "restart_below")
        within(self, 0, 1, "decay")


@dataclass
class Quantized:
    """codes; vectors with the straight-through gradient; the loss that ties encoder and codebook."""

    codes: Int[Tensor, "*n"]
    vectors: Float[Tensor, "*n d"]
    loss: Float[Tensor, ""]


def nearest(vectors: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"]) -> Int[Tensor, "n"]:
    """Index of the nearest code in Euclidean distance, lowest index at a tie, in memory independent of n · k."""
    if vectors.device.type == "cpu" and available():
        from worldmodel.backends.cpu.tokenizer import nearest as fused  # imported where it runs: it needs numba

        return fused(vectors, codebook)
    return plain_nearest(vectors, codebook)


def plain_nearest(vectors: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"]) -> Int[Tensor, "n"]:
    """`nearest` in PyTorch, a few rows of distances at a time."""
    bias = codebook.square().sum(1)
    rows = max(1, SEARCH_FLOATS // len(codebook))
    parts = [torch.addmm(bias, part, codebook.T, alpha=-2).argmin(1) for part in vectors.split(rows)]
    return torch.cat(parts) if parts else vectors.new_zeros(0, dtype=torch.long)


class Quantizer(nn.Module):
    """Encoder outputs → nearest codes, with a codebook that learns while training and rests in evaluation.

    All that changes while training is a parameter or a buffer, so `state_dict` restores the behaviour completely.
    Under distributed training the sums are all-reduced: the codebook stays identical on all ranks. Where a step takes
    several batches, `part` of `parts` (see `training.fit`), all are quantised by one codebook, which learns from their
    sums with the last. So it learns as from one large batch; only what is drawn at random is drawn from one of them.
    """

    codebook: Tensor
    begun: Tensor
    mass: Tensor
    sums: Tensor

    def __init__(self, config: QuantizerConfig):
        super().__init__()
        self.config = config
        self.part, self.parts = 0, 1
        self._held: tuple[Tensor, Tensor] | None = None  # use and sums of the parts before; nothing between steps
        start = torch.randn(config.codes, config.code_width)
        if config.learning == "loss":
            self.codebook = nn.Parameter(start)
            self.codebook.no_weight_decay = True  # pyright: ignore[reportAttributeAccessIssue]  (see `adamw`)
        else:
            self.register_buffer("codebook", start)
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))
        self.register_buffer("mass", torch.ones(config.codes))  # moving average of the use of each code
        self.register_buffer("sums", start.clone())  # moving average of the sum of the vectors of each code

    def forward(self, z: Float[Tensor, "*n d"]) -> Quantized:
        """Quantise in float32 whatever the surrounding precision; learn when training."""
        with torch.autocast(z.device.type, enabled=False):
            return self._quantise(z.float())

    def vectors(self, codes: Int[Tensor, "*n"]) -> Float[Tensor, "*n d"]:
        """The code vectors of `codes`."""
        return F.embedding(codes, self.codebook)

    @torch.no_grad()
    def standard(self, codes: Int[Tensor, "*n"]) -> Float[Tensor, "*n d"]:
        """The code vectors as others should see them: each entry has mean 0 and deviation 1 over the codebook.

        They begin as principal components, of which the first differ a hundred times as much as the last; and what an
        agent looks for may be small.
        """
        values, count = self.codebook.double(), len(self.codebook)
        mean = _total(values) / count
        deviation = (_total((values - mean).square()) / (count - 1)).sqrt()
        return F.embedding(codes, ((values - mean) / deviation.clamp_min(1e-6)).float())

    @torch.no_grad()
    def begin(self, z: Float[Tensor, "n d"]) -> None:
        """Set the codebook to the means that k-means finds (Lloyd 1982), from vectors drawn at random on.

        Where nothing called this before, the first batch of a training does.
        """
        self.begun.fill_(True)
        self._set_codes(torch.arange(self.config.codes, device=z.device), z)
        use = self.mass
        for _ in range(LLOYD):
            use, sums = self._tally(z, nearest(z, self.codebook))
            means = sums / use.clamp_min(1)[:, None]
            self.codebook.copy_(torch.where(use[:, None] > 0, means, self.codebook))
        self.mass.copy_(use / use.mean())
        if is_available() and is_initialized():
            broadcast(self.codebook.data, 0)
            broadcast(self.mass, 0)
        self.sums.copy_(self.codebook * self.mass[:, None])

    def _quantise(self, z: Float[Tensor, "*n d"]) -> Quantized:
        if self.training and not self.begun:
            self.begin(z.detach().flatten(0, -2))
        codes = nearest(z.detach().flatten(0, -2), self.codebook.detach()).view(z.shape[:-1])
        vectors = self.vectors(codes)
        loss = self.config.commitment * F.mse_loss(z, vectors.detach())
        if self.config.learning == "loss":
            loss = loss + F.mse_loss(vectors, z.detach())
        if self.training:
            self._learn(z.detach().flatten(0, -2), codes.flatten())
        return Quantized(codes, z + (vectors - z).detach(), loss)

    @torch.no_grad()
    def _learn(self, z: Float[Tensor, "n d"], codes: Int[Tensor, "n"]) -> None:
        """Appendix A.1: moving averages of use and sum; then restart what is hardly used."""
        use, sums = self._tally(z, codes)
        if self._held is not None:
            use, sums = use + self._held[0], sums + self._held[1]
        self._held = (use, sums) if self.part + 1 < self.parts else None
        if self._held is not None:
            return
        if is_available() and is_initialized():
            all_reduce(use)
            all_reduce(sums)
        self.mass.lerp_(use, 1 - self.config.decay)
        self.sums.lerp_(sums, 1 - self.config.decay)
        if self.config.learning == "ema":
            self.codebook.copy_(self.sums / self.mass.clamp_min(1e-5)[:, None])
        dead = self.mass < self.config.restart_below * self.mass.mean()
        if dead.any():
            self._set_codes(dead.nonzero()[:, 0], z)

    def _tally(self, z: Float[Tensor, "n d"], codes: Int[Tensor, "n"]) -> tuple[Tensor, Tensor]:
        """How many vectors each code has, and their sum."""
        use = torch.bincount(codes, minlength=self.config.codes).to(z.dtype)
        return use, torch.zeros_like(self.sums).index_add_(0, codes, z)

    def _set_codes(self, which: Int[Tensor, "m"], z: Float[Tensor, "n d"]) -> None:
        """Put codes on randomly drawn encoder outputs and reset both of their moving averages."""
        drawn = z[torch.randint(len(z), (len(which),), device=z.device)]
        if is_available() and is_initialized():
            drawn = drawn if get_rank() == 0 else torch.empty_like(drawn)
            broadcast(drawn, 0)
        self.codebook.data[which] = drawn
        if self.config.learning == "loss":
            fresh = torch.zeros(len(self.codebook), dtype=torch.bool, device=z.device)
            fresh[which] = True
            self.codebook.fresh_rows = fresh  # pyright: ignore[reportAttributeAccessIssue]  (see `adamw`)
        mass = self.mass.mean()
        self.mass[which] = mass
        self.sums[which] = drawn * mass


def _total(rows: Float[Tensor, "n d"]) -> Float[Tensor, "d"]:
    """The sum of all rows: on a CPU one after the other, as the order of `sum` depends on the processor."""
    return rows.sum(0) if rows.is_cuda else rows.cumsum(0)[-1]


def perplexity(counts: Float[Tensor, "k"]) -> float:
    """Exponential of the entropy of the code frequencies: the number of codes in effective use."""
    share = counts / counts.sum()
    return float(torch.special.entr(share).sum().exp())

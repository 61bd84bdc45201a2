"""Vector quantization: the learned codebook of the VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributed import all_reduce, broadcast, get_rank, is_available, is_initialized
from torch.nn import functional as F

from worldmodel.kernels import available
from worldmodel.tokenizer.bottlenecks.bottleneck import Bottleneck, Quantized, QuantizerConfig, standardize

KMEANS_ITERATIONS = 20
SEARCH_FLOATS = 1 << 22  # distances held at once by the nearest-code search: 16 MB, whatever n * k is


def nearest(vectors: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"]) -> Int[Tensor, "n"]:
    """Index of the nearest code in Euclidean distance, lowest index at a tie, in memory independent of n · k."""
    if vectors.device.type == "cpu" and available():
        from worldmodel.kernels.functions import nearest as compiled  # imported here: it needs numba

        return compiled(vectors, codebook)
    return plain_nearest(vectors, codebook)


def plain_nearest(vectors: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"]) -> Int[Tensor, "n"]:
    """`nearest` in PyTorch, a few rows of distances at a time."""
    bias = codebook.square().sum(1)
    rows = max(1, SEARCH_FLOATS // len(codebook))
    parts = [torch.addmm(bias, part, codebook.T, alpha=-2).argmin(1) for part in vectors.split(rows)]
    return torch.cat(parts) if parts else vectors.new_zeros(0, dtype=torch.long)


class VectorQuantizer(Bottleneck):
    """Encoder outputs → nearest codes, with a codebook that learns in training and is fixed in evaluation.

    Under distributed training the sums are all-reduced: the codebook stays identical on all ranks. Where a step takes
    several microbatches, one codebook quantizes them all and learns from their sums with the last one. So it learns
    as from one large batch, except that restarts draw from the last microbatch.
    """

    codebook: Tensor
    initialized: Tensor
    cluster_size: Tensor
    embedding_sum: Tensor

    def __init__(self, config: QuantizerConfig):
        super().__init__()
        self.config = config
        self.codes = config.codes
        self.set_microbatch(0, 1)
        self._pending: tuple[Tensor, Tensor] | None = None  # use and sums of earlier microbatches of this step
        start = torch.randn(config.codes, config.code_width)
        if config.learning == "loss":
            self.codebook = nn.Parameter(start)
            self.codebook.no_weight_decay = True  # pyright: ignore[reportAttributeAccessIssue]  (see `adamw`)
        else:
            self.register_buffer("codebook", start)
        self.register_buffer("initialized", torch.zeros((), dtype=torch.bool))
        self.register_buffer("cluster_size", torch.ones(config.codes))  # moving average of the use of each code
        self.register_buffer("embedding_sum", start.clone())  # moving average of the sum of each code's vectors

    def set_microbatch(self, index: int, count: int) -> None:
        """The next batch is number `index` of the `count` that make one training step."""
        self._last_microbatch = index + 1 == count

    def forward(self, z: Float[Tensor, "*n x d"]) -> Quantized:
        with torch.autocast(z.device.type, enabled=False):
            return self._quantize_and_learn(z.float())

    def quantize(self, z: Float[Tensor, "*n x d"]) -> Int[Tensor, "*n x2"]:
        return nearest(z.detach().flatten(0, -2), self.codebook.detach()).view(z.shape[:-1])

    def vectors(self, tokens: Int[Tensor, "*n x2"]) -> Float[Tensor, "*n x d"]:
        return F.embedding(tokens, self.codebook)

    @torch.no_grad()
    def embed(self, tokens: Int[Tensor, "*n x2"]) -> Float[Tensor, "*n x2 e"]:
        return F.embedding(tokens, standardize(self.codebook))

    @torch.no_grad()
    def init_from_data(self, z: Float[Tensor, "n d"]) -> None:
        """Set the codebook to the means that k-means finds (Lloyd 1982), from vectors drawn at random.

        If nothing has called this before, the first training batch does.
        """
        self.initialized.fill_(True)
        self._set_codes(torch.arange(self.config.codes, device=z.device), z)
        use = self.cluster_size
        for _ in range(KMEANS_ITERATIONS):
            use, sums = self._use_and_sums(z, nearest(z, self.codebook))
            means = sums / use.clamp_min(1)[:, None]
            self.codebook.copy_(torch.where(use[:, None] > 0, means, self.codebook))
        self.cluster_size.copy_(use / use.mean())
        if is_available() and is_initialized():
            broadcast(self.codebook.data, 0)
            broadcast(self.cluster_size, 0)
        self.embedding_sum.copy_(self.codebook * self.cluster_size[:, None])

    def _quantize_and_learn(self, z: Float[Tensor, "*n x d"]) -> Quantized:
        if self.training and not self.initialized:
            self.init_from_data(z.detach().flatten(0, -2))
        codes = self.quantize(z)
        vectors = self.vectors(codes)
        loss = self.config.commitment * F.mse_loss(z, vectors.detach())
        if self.config.learning == "loss":
            loss = loss + F.mse_loss(vectors, z.detach())
        if self.training:
            self._learn(z.detach().flatten(0, -2), codes.flatten())
        return Quantized(codes, z + (vectors - z).detach(), loss)

    @torch.no_grad()
    def _learn(self, z: Float[Tensor, "n d"], codes: Int[Tensor, "n"]) -> None:
        """Appendix A.1: moving averages of use and sum; then restart the codes that are hardly used."""
        use, sums = self._use_and_sums(z, codes)
        if self._pending is not None:
            use, sums = use + self._pending[0], sums + self._pending[1]
        self._pending = None if self._last_microbatch else (use, sums)
        if self._pending is not None:
            return
        if is_available() and is_initialized():
            all_reduce(use)
            all_reduce(sums)
        self.cluster_size.lerp_(use, 1 - self.config.decay)
        self.embedding_sum.lerp_(sums, 1 - self.config.decay)
        if self.config.learning == "ema":
            self.codebook.copy_(self.embedding_sum / self.cluster_size.clamp_min(1e-5)[:, None])
        dead = self.cluster_size < self.config.restart_below * self.cluster_size.mean()
        if dead.any():
            self._set_codes(dead.nonzero()[:, 0], z)

    def _use_and_sums(self, z: Float[Tensor, "n d"], codes: Int[Tensor, "n"]) -> tuple[Tensor, Tensor]:
        """The number of vectors of each code, and their sum."""
        use = torch.bincount(codes, minlength=self.config.codes).to(z.dtype)
        return use, torch.zeros_like(self.embedding_sum).index_add_(0, codes, z)

    def _set_codes(self, which: Int[Tensor, "m"], z: Float[Tensor, "n d"]) -> None:
        """Set codes to randomly drawn encoder outputs and reset both of their moving averages."""
        drawn = z[torch.randint(len(z), (len(which),), device=z.device)]
        if is_available() and is_initialized():
            drawn = drawn if get_rank() == 0 else torch.empty_like(drawn)
            broadcast(drawn, 0)
        self.codebook.data[which] = drawn
        if self.config.learning == "loss":
            fresh = torch.zeros(len(self.codebook), dtype=torch.bool, device=z.device)
            fresh[which] = True
            self.codebook.fresh_rows = fresh  # pyright: ignore[reportAttributeAccessIssue]  (see `adamw`)
        mean = self.cluster_size.mean()
        self.cluster_size[which] = mean
        self.embedding_sum[which] = drawn * mean


def perplexity(counts: Float[Tensor, "k"]) -> float:
    """Exponential of the entropy of the code frequencies: the number of codes in effective use."""
    share = counts / counts.sum()
    return float(torch.special.entr(share).sum().exp())

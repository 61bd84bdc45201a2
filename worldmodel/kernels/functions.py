"""Single calls of kernels with tensors: nearest codes, uniform noise, and sums in a fixed order."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodel.kernels import compiled as kernels
from worldmodel.kernels.arrays import floats, in_threads, pack

VECTORS_PER_THREAD = 4096  # fewer are not worth a thread


def nearest(vectors: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"]) -> Int[Tensor, "n"]:
    """Index of the nearest code; the distances stay in the cache and are never written to memory."""
    if vectors.shape[1:] != codebook.shape[1:]:
        raise ValueError(f"expected vectors of {codebook.shape[1]} numbers, got {tuple(vectors.shape)}")
    squares = pack(codebook.double().square().cumsum(1)[:, -1])  # `sum` would depend on the processor
    squares[len(codebook) :] = np.inf  # padding is no code
    found = torch.empty(len(vectors), dtype=torch.long)
    inputs = (floats(vectors), pack(-2 * codebook.T), squares, found.numpy())
    in_threads(lambda first, last: kernels.nearest(first, last, *inputs), len(vectors), least=VECTORS_PER_THREAD)
    return found


def uniform(seed: int, dreams: Int[Tensor, "b"], steps: Int[Tensor, "b"], sites: int) -> Float[Tensor, "b n"]:
    """float64 numbers in [0, 1), one per dream and site (see `worldmodel.prior.noise`)."""
    found = torch.empty(len(dreams), sites, dtype=torch.float64)
    kernels.uniform(seed, dreams.contiguous().numpy(), steps.contiguous().numpy(), found.numpy())
    return found


def total(nats: Float[Tensor, "b y x"]) -> Float[Tensor, "b"]:
    """The sum of each row of the batch, site by site: `sum` adds in an order that depends on the processor."""
    return nats.double().flatten(1).cumsum(1)[:, -1].float()

"""Tensors as the kernels read them: float32, contiguous, with columns padded to whole vectors. And threads."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from worldmodel.kernels import compiled as kernels


def padded(columns: int) -> int:
    """Columns as the kernels need them: a multiple of `kernels.PAD`."""
    return -(-columns // kernels.PAD) * kernels.PAD


def pack(weights: Float[Tensor, "*n o"], rows: int = 0) -> np.ndarray:
    """Contiguous float32, zeros up to whole pads in the last axis, and up to `rows` in the one before."""
    values = floats(weights)
    widths = [(0, 0)] * (values.ndim - 1) + [(0, padded(values.shape[-1]) - values.shape[-1])]
    if rows:
        widths[-2] = (0, rows - values.shape[-2])
    return np.ascontiguousarray(np.pad(values, widths))


def floats(tensor: Tensor) -> np.ndarray:
    """The tensor as a contiguous float32 array."""
    return tensor.detach().float().contiguous().numpy()


def affine(rows: Float[Tensor, "n k"], weight: Float[Tensor, "o k"], bias: Float[Tensor, "o"]) -> Float[Tensor, "n o"]:
    """`rows @ weight.T + bias`, summed in the kernels' order: equal on every processor."""
    a, w = floats(rows), pack(weight.T)
    out = np.zeros((len(a), w.shape[1]), np.float32)
    kernels.product(out.ctypes.data, out.shape[1], a.ctypes.data, a.shape[1], w.ctypes.data, len(a), *w.shape)
    return torch.from_numpy(out[:, : len(bias)]) + bias


def bias_of(layer: torch.nn.Conv2d | torch.nn.Conv3d) -> Tensor:
    """The bias of a convolution that has one."""
    assert layer.bias is not None, "a convolution without a bias"
    return layer.bias


def in_threads(work: Callable[[int, int], None], count: int, least: int = 1) -> None:
    """Call `work(first, last)` on shares of `range(count)`, on as many threads as torch would take.

    A share has `least` items or more. Returns when no thread works any more, also when one of them
    or Ctrl-C raises: the memory that they write to may be freed then.
    """
    shares = min(count // least, torch.get_num_threads())
    if shares <= 1:
        return work(0, count)
    bounds = np.linspace(0, count, shares + 1).astype(int).tolist()
    pool = _pool(torch.get_num_threads(), os.getpid())
    running = [pool.submit(work, *share) for share in pairwise(bounds)]
    try:
        for each in running:
            each.result()
    finally:
        wait(running)
    return None


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads of this process: those of a parent process do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix="dreams")

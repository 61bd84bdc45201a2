"""Writes a chain of layers as a tape that `kernels.play` runs on the CPU: compiled, one latent of each dream a call."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodel import kernels
from worldmodel.causal import CausalConv3d, Past, map_past


class Tape:
    """A program of convolutions with its packed weights. Tokens enter as the vectors that `table` gives them.

    Layers are added in the order in which they run. One with a kernel in time must come before any `spread`, as a
    tape reads one latent at a time.
    """

    def __init__(self, table: Float[Tensor, "k d"], grid: tuple[int, int]):
        self.table = pack(table)
        self.ops: list[tuple[int, ...]] = []
        self.weights: list[np.ndarray] = []
        self.used = 0  # floats in `weights`
        self.shape = (1, *grid, table.shape[1])  # frames, rows, columns and channels so far
        self.largest, self.padded = grid[0] * grid[1] * self.table.shape[1], 1  # floats in the largest buffers
        self.pasts: list[tuple[int, ...]] = []  # shapes t y x c
        self.scratch: list[tuple[np.ndarray, np.ndarray]] = []  # buffers that no thread is using

    def convolution(self, layer: CausalConv3d, *, silu=False, keep=False, add=False, patch: int = 1) -> None:
        """A convolution, of the silu of its input or not. keep: remember the input; add: add what was remembered.
        patch: its channels are about to be unfolded into patches of that side."""
        weight, bias = layer.conv.weight, layer.conv.bias
        out, inputs, time, space, _ = weight.shape
        frames, rows, columns, channels = self.shape
        assert bias is not None and layer.conv.stride == (1, 1, 1) and inputs == channels, "not to be streamed so"
        assert time == 1 or frames == 1, "a kernel in time after frames were spread"
        order = torch.arange(out).view(-1, patch * patch).T.flatten()  # the colours of each pixel side by side
        kernel = self._place(pack(weight[order].permute(2, 3, 4, 1, 0).reshape(-1, out)))
        flags = {"silu": int(silu), "keep": int(keep), "add": int(add), "past": len(self.pasts)}
        if time > 1:
            self.pasts.append((time - 1, rows, columns, inputs))
        border = 2 * (space // 2)
        self.padded = max(self.padded, (time - 1 + frames) * (rows + border) * (columns + border) * inputs)
        where = {"weights": kernel, "bias": self._place(pack(bias[order]))}
        self._add(kernels.CONV, inputs, (frames, rows, columns, out), time=time, space=space, **where, **flags)

    def film(self, weight: Float[Tensor, "o2 a"], bias: Float[Tensor, "o2"]) -> None:
        """Scale and shift that are linear in the action."""
        kernel = np.concatenate([pack(half) for half in weight.T.chunk(2, dim=1)], axis=1)
        line = np.concatenate([pack(half) for half in bias.chunk(2)])
        self._add(kernels.FILM, weight.shape[1], self.shape, weights=self._place(kernel), bias=self._place(line))

    def fold(self, patch: int) -> None:
        """Unfold channels, in the order that `convolution(patch=...)` gave them, into patches."""
        frames, rows, columns, channels = self.shape
        shape = (frames, rows * patch, columns * patch, channels // patch**2)
        self._add(kernels.FOLD, shape[-1], shape, space=patch)

    def spread(self, frames: int) -> None:
        """Unfold channels into frames."""
        _, rows, columns, channels = self.shape
        self._add(kernels.SPREAD, channels // frames, (frames, rows, columns, channels // frames), space=frames)

    def play(
        self, tokens: Int[Tensor, "b y x"], actions: Float[Tensor, "b a"], past: Past, frames: bool
    ) -> tuple[Tensor, Past]:
        """What the next latent of each dream gives, features `b c t y x` or frames `b t h w c`; and the new past."""
        b, (t, y, x, c) = len(tokens), self.shape
        olds = [old.movedim(1, -1).contiguous() for old in _videos(past)]
        news = [torch.empty(b, *shape) for shape in self.pasts]
        assert [old.shape for old in olds] == [new.shape for new in news], "a past of other layers"
        out = torch.empty(b, t, y, x, c, dtype=torch.uint8 if frames else torch.float32)
        none = np.empty((b, 0, 0), np.float32)
        flat = out.numpy().reshape(b, t * y * x, c)
        outs = (none, flat) if frames else (flat, none.astype(np.uint8))
        inputs = (*self._program(), self.table, tokens.contiguous().numpy(), actions.contiguous().numpy())
        places = (_addresses(olds), _addresses(news))

        def some(first: int, last: int) -> None:
            scratch = self.scratch.pop() if self.scratch else self._new_scratch()
            kernels.play(first, last, *inputs, *places, *scratch, *outs)
            self.scratch.append(scratch)

        in_threads(some, b)
        fresh = (new.movedim(-1, 1) for new in news)
        return out if frames else out.movedim(-1, 1), map_past(lambda x: next(fresh) if x.ndim == 5 else x, past)

    def _place(self, values: np.ndarray) -> int:
        """Put weights behind those that are there; returns where."""
        self.weights.append(values.reshape(-1))
        self.used += values.size
        return self.used - values.size

    def _add(self, kind: int, inputs: int, shape: tuple[int, int, int, int], **fields: int) -> None:
        fields |= {"kind": kind, "inputs": inputs, "outputs": padded(shape[-1])}
        fields.setdefault("time", 1)
        self.ops.append(tuple(fields.get(name, 0) for name in kernels.OP.names or ()))
        self.shape = shape
        self.largest = max(self.largest, shape[0] * shape[1] * shape[2] * padded(shape[3]))

    def _program(self) -> tuple[np.ndarray, np.ndarray]:
        if len(self.weights) != 1:
            self.weights = [np.concatenate([np.zeros(0, np.float32), *self.weights])]
        return np.array(self.ops, kernels.OP), self.weights[0]

    def _new_scratch(self) -> tuple[np.ndarray, np.ndarray]:
        return np.empty((3, self.largest), np.float32), np.empty(self.padded, np.float32)


def padded(columns: int) -> int:
    """Columns as the kernels want them: a multiple of `kernels.PAD`."""
    return -(-columns // kernels.PAD) * kernels.PAD


def pack(weights: Float[Tensor, "*n o"], rows: int = 0) -> np.ndarray:
    """Contiguous float32 with zeros up to whole pads in the last axis, and up to `rows` in the one before."""
    values = weights.detach().float().numpy()
    widths = [(0, 0)] * (values.ndim - 1) + [(0, padded(values.shape[-1]) - values.shape[-1])]
    if rows:
        widths[-2] = (0, rows - values.shape[-2])
    return np.ascontiguousarray(np.pad(values, widths))


def in_threads(work: Callable[[int, int], None], count: int, least: int = 1) -> None:
    """Call `work(first, last)` on shares of `range(count)`, `least` or more, on as many threads as torch would take."""
    threads = min(count // least, torch.get_num_threads())
    if threads <= 1:
        return work(0, count)
    bounds = np.linspace(0, count, threads + 1).astype(int).tolist()
    for done in [_pool(threads, os.getpid()).submit(work, *share) for share in pairwise(bounds)]:
        done.result()
    return None


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads of this process: those of a parent do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix="dreams")


def _videos(past: Past) -> list[Tensor]:
    """The tensors `b c t y x` of a past, in order."""
    found: list[Tensor] = []
    map_past(lambda x: found.append(x) or x if x.ndim == 5 else x, past)
    return found


def _addresses(arrays: list[Tensor]) -> np.ndarray:
    return np.array([array.data_ptr() for array in arrays], np.int64)

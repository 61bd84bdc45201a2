"""Writes a chain of layers as a tape that `kernels.play` runs on the CPU: compiled, one latent of each dream a call."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, cached_property
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from worldmodel import kernels
from worldmodel.causal import CausalConv3d, Past, map_past


class Tape:
    """A program of convolutions with its packed weights. Tokens enter as the vectors that `table` gives them.

    Layers are added in the order in which they run, all before the first latent. One with a kernel in time must come
    before any `spread`, as a tape reads one latent at a time.
    """

    def __init__(self, table: Float[Tensor, "k d"], grid: tuple[int, int]):
        self.table = pack(table)
        self.actions = 0  # width of the action vectors
        self.ops: list[tuple[int, ...]] = []
        self.weights: list[np.ndarray] = []
        self.used = 0  # floats in `weights`
        self.shape = (1, *grid, table.shape[1])  # frames, rows, columns and channels so far
        self.largest, self.largest_input = grid[0] * grid[1] * self.table.shape[1], 1  # floats in the buffers
        self.pasts: list[tuple[int, ...]] = []  # shapes t y x c
        self.grid = grid
        self.patches = np.empty((0, 0, 0, 0), np.float32)  # k y x c: see `frames`
        self.scratch: list[tuple[np.ndarray, np.ndarray]] = []  # buffers that no thread is using

    def convolution(self, layer: CausalConv3d, *, silu=False, keep=False, add=False, patch: int = 1) -> None:
        """A convolution, of the silu of its input or not. keep: remember the input; add: add what was remembered.
        patch: its channels are about to be unfolded into patches of that side."""
        weight, bias = layer.conv.weight, bias_of(layer.conv)
        out, inputs, time, space, _ = weight.shape
        frames, rows, columns, channels = self.shape
        assert layer.conv.stride == (1, 1, 1) and inputs == channels, "not to be streamed so"
        assert time == 1 or frames == 1, "a kernel in time after frames were spread"
        order = torch.arange(out).view(-1, patch * patch).T.flatten()  # the colours of each pixel side by side
        kernel = self._place(pack(weight[order].permute(2, 3, 4, 1, 0).reshape(-1, out)))
        flags = {"silu": int(silu), "keep": int(keep), "add": int(add), "past": len(self.pasts)}
        if time > 1:
            self.pasts.append((time - 1, rows, columns, inputs))
        border = 2 * (space // 2)
        size = (time - 1 + frames) * (rows + border) * (columns + border) * inputs
        self.largest_input = max(self.largest_input, size)
        where = {"weights": kernel, "bias": self._place(pack(bias[order]))}
        self._add(kernels.CONV, inputs, (frames, rows, columns, out), time=time, space=space, **where, **flags)

    def places(self, values: Float[Tensor, "c y x"]) -> None:
        """Values of its own added to each site."""
        where = self._place(pack(values.permute(1, 2, 0)))
        self._add(kernels.PLACE, self.shape[-1], self.shape, bias=where)

    def film(self, weight: Float[Tensor, "o2 a"], bias: Float[Tensor, "o2"]) -> None:
        """Scale and shift that are linear in the action."""
        self.actions = weight.shape[1]
        kernel = np.concatenate([pack(half) for half in weight.T.chunk(2, dim=1)], axis=1)
        line = np.concatenate([pack(half) for half in bias.chunk(2)])
        self._add(kernels.FILM, self.actions, self.shape, weights=self._place(kernel), bias=self._place(line))

    def memory(self) -> None:
        """What a gated recurrence holds after this latent; the channels so far are its gates, then its candidates."""
        frames, rows, columns, channels = self.shape
        assert frames == 1, "a memory after frames were spread"
        past = len(self.pasts)
        self.pasts.append((1, rows, columns, channels // 2))
        self._add(kernels.MEMORY, channels // 2, (1, rows, columns, channels // 2), past=past)

    def fold(self, patch: int) -> None:
        """Unfold channels, in the order that `convolution(patch=...)` gave them, into patches."""
        frames, rows, columns, channels = self.shape
        shape = (frames, rows * patch, columns * patch, channels // patch**2)
        self._add(kernels.FOLD, shape[-1], shape, size=patch)

    def spread(self, frames: int) -> None:
        """Unfold channels into frames."""
        _, rows, columns, channels = self.shape
        self._add(kernels.SPREAD, channels // frames, (frames, rows, columns, channels // frames), size=frames)

    def features(
        self, tokens: Int[Tensor, "b y x"], actions: Float[Tensor, "b a"], past: Past
    ) -> tuple[Float[Tensor, "b c t y x"], Past]:
        """What the tape makes of the next latent of each dream, and the new past.

        Raises: ValueError for tokens, actions or a past that are not this tape's.
        """
        out = torch.empty(len(tokens), *self.shape)
        past = self._play(tokens, actions, past, flat(out), np.empty((len(tokens), 0, 0), np.uint8))
        return out.movedim(-1, 1), past

    def frames(self, tokens: Int[Tensor, "b y x"], past: Past) -> tuple[UInt8[Tensor, "b t h w c"], Past]:
        """The same, as frames: what comes out, and the patch that `patches` has for a place's token, added up, are
        taken for pixels in [-1, 1]."""
        out = torch.empty(len(tokens), *self.shape, dtype=torch.uint8)
        nothing = torch.empty(len(tokens), 0)
        past = self._play(tokens, nothing, past, np.empty((len(tokens), 0, 0), np.float32), flat(out))
        return out, past

    def _play(self, tokens: Tensor, actions: Tensor, past: Past, features: np.ndarray, frames: np.ndarray) -> Past:
        olds = [old.detach().movedim(1, -1).float().contiguous() for old in _videos(past)]
        news = [torch.empty(len(tokens), *shape) for shape in self.pasts]
        self._check(tokens, actions, olds, news)
        places = (_addresses(olds), _addresses(news))
        inputs = (*self._program, self.table, tokens.contiguous().numpy(), floats(actions), *places)

        def some(first: int, last: int) -> None:
            scratch = self._borrow()
            kernels.play(first, last, *inputs, *scratch, features, self.patches, frames)
            self.scratch.append(scratch)

        in_threads(some, len(tokens))
        fresh = (new.movedim(-1, 1) for new in news)
        return map_past(lambda x: next(fresh) if x.ndim == 5 else x, past)

    def _check(self, tokens: Tensor, actions: Tensor, olds: list[Tensor], news: list[Tensor]) -> None:
        """The kernels trust what they get: addresses and indices beyond an array would read other memory."""
        expected = [(len(tokens), *self.grid), (len(tokens), self.actions), *(tuple(new.shape) for new in news)]
        got = [tuple(tokens.shape), tuple(actions.shape), *(tuple(old.shape) for old in olds)]
        if got != expected:
            raise ValueError(f"expected tokens, actions and past of shapes {expected}, got {got}")
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < len(self.table):
            raise ValueError(f"expected tokens in [0, {len(self.table)}), got {int(tokens.min())} to {tokens.max()}")

    def _borrow(self) -> tuple[np.ndarray, np.ndarray]:
        try:
            return self.scratch.pop()
        except IndexError:
            return np.empty((3, self.largest), np.float32), np.empty(self.largest_input, np.float32)

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

    @cached_property
    def _program(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.ops, kernels.OP), np.concatenate([np.zeros(0, np.float32), *self.weights])


def padded(columns: int) -> int:
    """Columns as the kernels want them: a multiple of `kernels.PAD`."""
    return -(-columns // kernels.PAD) * kernels.PAD


def pack(weights: Float[Tensor, "*n o"], rows: int = 0) -> np.ndarray:
    """Contiguous float32 with zeros up to whole pads in the last axis, and up to `rows` in the one before."""
    values = floats(weights)
    widths = [(0, 0)] * (values.ndim - 1) + [(0, padded(values.shape[-1]) - values.shape[-1])]
    if rows:
        widths[-2] = (0, rows - values.shape[-2])
    return np.ascontiguousarray(np.pad(values, widths))


def floats(tensor: Tensor) -> np.ndarray:
    """The tensor as the kernels read it: float32, contiguous."""
    return tensor.detach().float().contiguous().numpy()


def flat(out: Tensor) -> np.ndarray:
    """`b t y x c` as `b n c`, the same memory."""
    return out.numpy().reshape(len(out), int(np.prod(out.shape[1:-1])), out.shape[-1])


def bias_of(layer: torch.nn.Conv2d | torch.nn.Conv3d) -> Tensor:
    """The bias of a convolution that has one."""
    assert layer.bias is not None, "a convolution without a bias"
    return layer.bias


def in_threads(work: Callable[[int, int], None], count: int, least: int = 1) -> None:
    """Call `work(first, last)` on shares of `range(count)`, `least` or more, on as many threads as torch would take.

    Returns when no thread works any more, also when one of them or Ctrl-C raises: what they write to may go then.
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
    """Threads of this process: those of a parent do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix="dreams")


def _videos(past: Past) -> list[Tensor]:
    """The tensors `b c t y x` of a past, in order."""
    found: list[Tensor] = []
    map_past(lambda x: found.append(x) or x if x.ndim == 5 else x, past)
    return found


def _addresses(arrays: list[Tensor]) -> np.ndarray:
    return np.array([array.data_ptr() for array in arrays], np.int64)

"""Writes a chain of layers as a program that `kernels.run_program` runs on the CPU, one latent of each dream a call."""

import math
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from worldmodel.kernels import compiled as kernels
from worldmodel.kernels.arrays import bias_of, floats, in_threads, pack, padded
from worldmodel.nn.causal_conv import CausalConv3d, Past, map_past


class NotCompilable(Exception):
    """The kernels do not run this network; says which part."""


class LayerProgram:
    """A program of convolutions with its packed weights. Tokens enter as the vectors that `table` gives them.

    Layers are added in the order in which they run, all before the first latent. One with a kernel in time must come
    before any `depth_to_time`, because a program reads one latent at a time. A past of None starts a video.

    frames: how many frames one latent is made from. first: what stands for the tokens before the first latent.
    """

    def __init__(
        self,
        table: Float[Tensor, "k d"],
        grid: tuple[int, int],
        frames: int = 1,
        first: Float[Tensor, "d y x"] | None = None,
    ):
        self.codes = len(table)
        self.table = pack(table if first is None else torch.cat([table, first.flatten(1).T]))
        self.actions = 0  # width of the action vectors
        self.ops: list[tuple[int, ...]] = []
        self.weights: list[np.ndarray] = []
        self.used = 0  # floats in `weights`
        self.grid = (frames, *grid)
        self.shape = (*self.grid, table.shape[1])  # frames, rows, columns and channels so far
        self.largest, self.largest_input = math.prod(self.grid) * self.table.shape[1], 1  # floats in the buffers
        self.pasts: list[tuple[int, ...]] = []  # shapes t y x c
        self.form: list[int | None] = []  # dimensions of the past of each layer of the module; None: it has none
        self.carrying = 0  # operations up to the last one with a past
        self.patches = np.empty((0, 0, 0, 0), np.float32)  # k y x c: see `frames`
        self.scratch: list[tuple[np.ndarray, np.ndarray]] = []  # buffers that no thread is using

    def convolution(self, layer: CausalConv3d, *, silu=False, keep=False, add=False, patch: int = 1) -> None:
        """A convolution. silu: apply SiLU to the input; keep: store the input; add: add the stored input to the
        result; patch: the side of the patches into which its channels are unfolded next."""
        weight, bias = layer.conv.weight, bias_of(layer.conv)
        order = torch.arange(len(weight)).view(-1, patch * patch).T.flatten()  # the colors of a pixel side by side
        flags = {"silu": int(silu), "keep": int(keep), "add": int(add)}
        self._convolution(weight[order], bias[order], layer.conv.stride[0], layer.conv.stride[1], flags)

    def patch(self, weight: Float[Tensor, "o i y x"], bias: Float[Tensor, "o"]) -> None:
        """A linear map of patches, side by side."""
        self._convolution(weight[:, :, None], bias, 1, weight.shape[-1], {})

    def _convolution(
        self, weight: Float[Tensor, "o i t y x"], bias: Float[Tensor, "o"], skip: int, stride: int, flags: dict
    ) -> None:
        out, inputs, time, space, _ = weight.shape
        frames, rows, columns, channels = self.shape
        border = (space - stride + 1) // 2
        if inputs != channels or (time > 1 and frames != skip):
            raise NotCompilable("a convolution whose input is not one latent at a time")
        kernel = self._place(pack(weight.permute(2, 3, 4, 1, 0).reshape(-1, out)))
        past = len(self.pasts)
        if time > skip:
            self.pasts.append((time - skip, rows, columns, inputs))
        size = (time - skip + frames) * (rows + 2 * border) * (columns + 2 * border) * inputs
        self.largest_input = max(self.largest_input, size)
        fields = {"weights": kernel, "bias": self._place(pack(bias)), "past": past, "border": border, **flags}
        shape = (frames // skip, rows // stride, columns // stride, out)
        self._add(kernels.CONV, inputs, shape, time=time, space=space, skip=skip, stride=stride, **fields)

    def add_positions(self, values: Float[Tensor, "c y x"]) -> None:
        """Add a learned value to each site."""
        where = self._place(pack(values.permute(1, 2, 0)))
        self._add(kernels.PLACE, self.shape[-1], self.shape, bias=where)

    def modulate(self, weight: Float[Tensor, "o2 a"], bias: Float[Tensor, "o2"]) -> None:
        """Scale and shift that are linear in the action."""
        self.actions = weight.shape[1]
        kernel = np.concatenate([pack(half) for half in weight.T.chunk(2, dim=1)], axis=1)
        line = np.concatenate([pack(half) for half in bias.chunk(2)])
        self._add(kernels.FILM, self.actions, self.shape, weights=self._place(kernel), bias=self._place(line))

    def memory(self) -> None:
        """A gated recurrence; its input channels are the gates, then the candidates."""
        frames, rows, columns, channels = self.shape
        if frames != 1:
            raise NotCompilable("a memory after one latent became several frames")
        past = len(self.pasts)
        self.pasts.append((1, rows, columns, channels // 2))
        self._add(kernels.MEMORY, channels // 2, (1, rows, columns, channels // 2), past=past)

    def depth_to_space(self, patch: int) -> None:
        """Unfold channels, in the order that `convolution(patch=...)` gave them, into patches."""
        frames, rows, columns, channels = self.shape
        shape = (frames, rows * patch, columns * patch, channels // patch**2)
        self._add(kernels.FOLD, shape[-1], shape, size=patch)

    def depth_to_time(self, frames: int) -> None:
        """Unfold channels into frames."""
        _, rows, columns, channels = self.shape
        self._add(kernels.SPREAD, channels // frames, (frames, rows, columns, channels // frames), size=frames)

    def end_layer(self, mark: int | None = None) -> None:
        """All of the next layer of the module was added. mark: dimensions of a past that the program does not read."""
        known = sum(each == 5 for each in self.form)
        self.form.append(5 if len(self.pasts) > known else mark)

    def before_first(self, count: int) -> Int[Tensor, "b y x"]:
        """What stands for the tokens before the first latent."""
        return torch.arange(self.codes, len(self.table)).view(1, *self.grid[1:]).expand(count, -1, -1)

    def features(
        self,
        tokens: Int[Tensor, "b *n y x"],
        actions: Float[Tensor, "b a"],
        past: Past,
        table: np.ndarray | None = None,
    ) -> tuple[Float[Tensor, "b c _t _y _x"], Past]:
        """What the program makes of the next latent of each dream, and the new past.

        table: in place of the program's own.

        Raises: ValueError for tokens, actions or a past that are not this program's.
        """
        out = torch.empty(len(tokens), *self.shape)
        past = self._run(tokens, actions, past, flat(out), nothing(tokens, np.uint8), table=table)
        return out.movedim(-1, 1), past

    def carry(self, tokens: Int[Tensor, "b y x"], actions: Float[Tensor, "b a"], past: Past) -> Past:
        """The new past alone: operations after the last one with a past do not run."""
        none = nothing(tokens, np.float32), nothing(tokens, np.uint8)
        return self._run(tokens, actions, past, *none, stop=self.carrying)

    def frames(
        self,
        tokens: Int[Tensor, "b y x"],
        past: Past,
        table: np.ndarray | None = None,
        patches: np.ndarray | None = None,
    ) -> tuple[UInt8[Tensor, "b t h w c"], Past]:
        """The same as frames: the result plus the patch of each place's token are pixels in [-1, 1].

        table, patches: in place of the program's own.
        """
        out = torch.empty(len(tokens), *self.shape, dtype=torch.uint8)
        none = torch.empty(len(tokens), 0), nothing(tokens, np.float32)
        past = self._run(tokens, none[0], past, none[1], flat(out), table=table, patches=patches)
        return out, past

    def _run(
        self,
        tokens: Tensor,
        actions: Tensor,
        past: Past,
        features: np.ndarray,
        frames: np.ndarray,
        *,
        table: np.ndarray | None = None,
        patches: np.ndarray | None = None,
        stop: int | None = None,
    ) -> Past:
        tokens = tokens if tokens.ndim == 4 else tokens[:, None]
        olds = [old.detach().movedim(1, -1).float().contiguous() for old in _videos(past)]
        news = [torch.empty(len(tokens), *shape) for shape in self.pasts]
        rows = self.table if table is None else table
        codes = self.codes if table is None and past is not None else len(rows)
        self._check(tokens, actions, olds, news, codes, past is None)
        places = (np.zeros(len(news), np.int64) if past is None else _addresses(olds), _addresses(news))
        ops, weights = self._program
        inputs = (ops[:stop], weights, rows, tokens.contiguous().numpy(), floats(actions), *places)
        patches = self.patches if patches is None else patches

        def some(first: int, last: int) -> None:
            scratch = self._borrow()
            kernels.run_program(first, last, *inputs, *scratch, features, patches, frames)
            self.scratch.append(scratch)

        in_threads(some, len(tokens))
        fresh = (new.movedim(-1, 1) for new in news)
        return map_past(lambda x: next(fresh) if x.ndim == 5 else x, self._blank(len(tokens)) if past is None else past)

    def _blank(self, count: int) -> Past:
        """A past as the module nests it, to be filled."""
        return tuple(None if n is None else torch.ones(count, *[1] * (n - 1)) for n in self.form)

    def _check(
        self, tokens: Tensor, actions: Tensor, olds: list[Tensor], news: list[Tensor], codes: int, first: bool
    ) -> None:
        """The kernels check nothing: addresses and indices beyond an array would read other memory."""
        pasts = [] if first else [tuple(new.shape) for new in news]
        expected = [(len(tokens), *self.grid), (len(tokens), self.actions), *pasts]
        got = [tuple(tokens.shape), tuple(actions.shape), *(tuple(old.shape) for old in olds)]
        if got != expected:
            raise ValueError(f"expected tokens, actions and past of shapes {expected}, got {got}")
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < codes:
            raise ValueError(f"expected tokens in [0, {codes}), got {int(tokens.min())} to {tokens.max()}")

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
        for name in ("time", "skip", "stride"):
            fields.setdefault(name, 1)
        self.ops.append(tuple(fields.get(name, 0) for name in kernels.INSTRUCTION.names or ()))
        self.carrying = len(self.ops) if kind == kernels.MEMORY or fields["time"] > fields["skip"] else self.carrying
        self.shape = shape
        self.largest = max(self.largest, shape[0] * shape[1] * shape[2] * padded(shape[3]))

    @cached_property
    def _program(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.ops, kernels.INSTRUCTION), np.concatenate([np.zeros(0, np.float32), *self.weights])


def nothing(tokens: Tensor, kind: type) -> np.ndarray:
    """An empty array in place of features or frames that are not needed."""
    return np.empty((len(tokens), 0, 0), kind)


def flat(out: Tensor) -> np.ndarray:
    """`b t y x c` as `b n c`, the same memory."""
    return out.numpy().reshape(len(out), int(np.prod(out.shape[1:-1])), out.shape[-1])


def _videos(past: Past) -> list[Tensor]:
    """The tensors `b c t y x` of a past, in order."""
    found: list[Tensor] = []
    map_past(lambda x: found.append(x) or x if x.ndim == 5 else x, past)
    return found


def _addresses(arrays: list[Tensor]) -> np.ndarray:
    return np.array([array.data_ptr() for array in arrays], np.int64)

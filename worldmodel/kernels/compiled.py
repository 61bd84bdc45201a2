"""The compiled arithmetic of one dream step, without calls into other libraries (needs numba).

One thread computes one dream, so a dream's numbers do not depend on the
batch. Every product is a chain of fused multiply-adds in a fixed order, so they do not depend on the size of
vectors or tiles either. Arrays are float32 and channels-last; `n` columns of weights are padded to whole `PAD`s.

All kernels are in one file, because numba's cache notices changes of a function's own file only.
"""

# pyright: reportCallIssue=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
# (an intrinsic is called without the typing context that it is written with)

import platform
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import carray, config, njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from worldmodel.kernels.sealed_cache import sealed

PAD = 16  # columns are padded to this many
FEATURES = cpu_target.target_context.codegen().magic_tuple()[2].split(",")

# Floats in a vector, and the tiles of results (rows, columns in vectors) that fit into the registers, the largest
# first. 16 floats are one register of AVX-512 (32 of them), 8 one of AVX2 (16), 4 one of NEON (32).
if config.DISABLE_JIT:
    raise ImportError("numba does not compile, because NUMBA_DISABLE_JIT is set")
if "+avx512f" in FEATURES:
    LANES, TILES = 16, ((8, (3, 2, 1)), (4, (3, 2, 1)), (1, (8, 6, 4, 3, 2, 1)))
elif "+fma" in FEATURES:
    LANES, TILES = 8, ((4, (3, 2, 1)), (1, (8, 6, 4, 3, 2, 1)))
elif platform.machine() in ("aarch64", "arm64"):
    LANES, TILES = 4, ((8, (3, 2, 1)), (4, (3, 2, 1)), (1, (8, 6, 4, 3, 2, 1)))
else:
    raise ImportError("this processor has no fused multiply-add")

F32, I64 = ir.FloatType(), ir.IntType(64)
VECTOR = ir.VectorType(F32, LANES)


def kernel(function):
    """Compiled at its first call. numpy's division has no check, so it vectorizes."""
    return sealed(njit(nogil=True, cache=True, error_model="numpy")(function))


@intrinsic
def _product(typing, out, out_stride, a, a_stride, w, m, k, n):
    """See `product`. Written in LLVM's own terms, because only so the accumulators surely stay in registers."""

    def generate(context, builder, signature, args):
        _Product(builder, *args).emit()
        return context.get_dummy_value()

    return types.void(*[types.intp] * 8), generate


class _Product:
    """Emits the loops of a matrix product, tile by tile; addresses are in bytes, strides and sizes in floats."""

    def __init__(self, builder, out, out_stride, a, a_stride, w, m, k, n):
        self.builder, self.out, self.out_stride, self.a, self.a_stride = builder, out, out_stride, a, a_stride
        self.w, self.m, self.k, self.n = w, m, k, n
        signature = ir.FunctionType(VECTOR, [VECTOR] * 3)
        self.fma = cgutils.get_or_insert_function(builder.module, signature, f"llvm.fma.v{LANES}f32")

    def emit(self) -> None:
        row = self._variable(0)
        for height, widths in TILES:
            with _While(self.builder, row, height, self.m):
                column = self._variable(0)
                for width in widths:
                    with _While(self.builder, column, width * LANES, self.n):
                        self._tile(self.builder.load(row), self.builder.load(column), height, width)

    def _tile(self, row, column, height: int, width: int) -> None:
        b = self.builder
        places = [
            self._at(self.out, self._offset(row, r, self.out_stride), b.add(column, I64(v * LANES)), VECTOR)
            for r in range(height)
            for v in range(width)
        ]
        sums = [cgutils.alloca_once(b, VECTOR) for _ in places]
        for place, total in zip(places, sums, strict=True):
            b.store(b.load(place, align=4), total)
        with cgutils.for_range(b, self.k) as loop:
            line = b.add(b.mul(loop.index, self.n), column)
            weights = [b.load(self._at(self.w, line, I64(v * LANES), VECTOR), align=4) for v in range(width)]
            for r in range(height):
                value = b.load(self._at(self.a, self._offset(row, r, self.a_stride), loop.index, F32), align=4)
                same = self._broadcast(value)
                for v in range(width):
                    total = sums[r * width + v]
                    b.store(b.call(self.fma, [same, weights[v], b.load(total)]), total)
        for place, total in zip(places, sums, strict=True):
            b.store(b.load(total), place, align=4)

    def _variable(self, start: int):
        variable = cgutils.alloca_once(self.builder, I64)
        self.builder.store(I64(start), variable)
        return variable

    def _offset(self, row, r: int, stride):
        return self.builder.mul(self.builder.add(row, I64(r)), stride)

    def _at(self, base, first, second, kind):
        b = self.builder
        return b.inttoptr(b.add(base, b.mul(b.add(first, second), I64(4))), kind.as_pointer())

    def _broadcast(self, value):
        undefined = ir.Constant(VECTOR, ir.Undefined)
        one = self.builder.insert_element(undefined, value, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self.builder.shuffle_vector(one, undefined, zeros)


class _While:
    """`while variable + size <= end: ...; variable += size`, as a context manager."""

    def __init__(self, builder, variable, size: int, end):
        self.builder, self.variable, self.size, self.end = builder, variable, I64(size), end

    def __enter__(self) -> None:
        b = self.builder
        self.head, self.body, self.after = (b.append_basic_block(name) for name in ("head", "body", "after"))
        b.branch(self.head)
        b.position_at_end(self.head)
        b.cbranch(b.icmp_signed("<=", b.add(b.load(self.variable), self.size), self.end), self.body, self.after)
        b.position_at_end(self.body)

    def __exit__(self, *_) -> None:
        b = self.builder
        b.store(b.add(b.load(self.variable), self.size), self.variable)
        b.branch(self.head)
        b.position_at_end(self.after)


@kernel
def product(out, out_stride, a, a_stride, w, m, k, n):
    """out[m, n] += a[m, k] @ w[k, n], at these addresses; rows of `a` may overlap, which makes it a convolution."""
    _product(out, out_stride, a, a_stride, w, m, k, n)


@intrinsic
def _pointer(typing, address):
    """An address as a pointer to floats."""

    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], F32.as_pointer())

    return types.CPointer(types.float32)(types.intp), generate


@kernel
def address(array, index):
    """The address of a float of a flat array."""
    return array.ctypes.data + 4 * index


@kernel
def exp(x):
    """e**x, to a relative error of 1e-7 (Cephes' expf, S. Moshier), in steps that become vectors."""
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    n = (x * np.float32(1.44269504) + np.float32(12582912.0)) - np.float32(12582912.0)  # rounded: 1.5 * 2**23
    r = (x - n * np.float32(0.693359375)) - n * np.float32(-2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23))
    return (p * (r * r) + r + np.float32(1)) * power.view(np.float32)


@kernel
def silu(x):
    """x · sigmoid(x)."""
    return x / (np.float32(1) + exp(-x))


@kernel
def gate(a, b):
    """tanh(a) * sigmoid(b), with one division; beyond these bounds float32 knows no difference."""
    e = exp(np.float32(2) * min(max(a, np.float32(-10)), np.float32(10)))
    s = exp(-min(max(b, np.float32(-40)), np.float32(40)))
    return (e - np.float32(1)) / ((e + np.float32(1)) * (np.float32(1) + s))


# --- a chain of convolutions, written as a program -----------------------------------------------------------------

CONV, PLACE, FILM, MEMORY, FOLD, SPREAD = range(6)  # kinds of operations; `program.py` writes them


INSTRUCTION = np.dtype(
    [
        (name, np.int64)
        for name in (
            "kind",
            "inputs",  # channels
            "outputs",  # channels, padded
            "weights",  # offset into the weights of the program
            "bias",  # offset into the weights of the program
            "time",  # kernel in time
            "space",  # kernel in space
            "skip",  # stride in time
            "stride",  # stride in space
            "border",  # zeros around each frame
            "size",  # of the patches to unfold, their side; how many frames to spread
            "silu",  # 1: of the input
            "keep",  # 1: remember the input
            "add",  # 1: the input that was remembered last is added
            "past",  # which past the kernel in time, or the memory, reads and writes
        )
    ]
)


@kernel
def _pad(op, source, stride, t, y, x, laid, pasts, news, dream):
    """Lay out the input of a convolution with zeros around it and the past before it; write the new past.

    Where there is no past yet (its address is 0), the first frame stands in for it.
    """
    c, p, before = op.inputs, op.border, op.time - op.skip
    row = (x + 2 * p) * c
    frame = (y + 2 * p) * row
    if p:
        laid[: (before + t) * frame] = 0
    for f in range(t):
        for i in range(y):
            for j in range(x):
                at = (before + f) * frame + (i + p) * row + (j + p) * c
                to, of = laid[at : at + c], source[((f * y + i) * x + j) * stride :]
                if op.silu:
                    for n in range(c):
                        to[n] = silu(of[n])
                else:
                    for n in range(c):
                        to[n] = of[n]
    if before:
        size = before * y * x * c
        new = carray(_pointer(news[op.past] + 4 * dream * size), (size,))
        if pasts[op.past] == 0:
            for f in range(before):
                laid[f * frame : (f + 1) * frame] = laid[before * frame : (before + 1) * frame]
        else:
            past = carray(_pointer(pasts[op.past] + 4 * dream * size), (size,))
            for f in range(before):
                for i in range(y):
                    line = ((f * y) + i) * x * c
                    at = f * frame + (i + p) * row + p * c
                    laid[at : at + x * c] = past[line : line + x * c]
        for f in range(before):
            for i in range(y):
                line = ((f * y) + i) * x * c
                at = (f + t) * frame + (i + p) * row + p * c
                new[line : line + x * c] = laid[at : at + x * c]


@kernel
def _convolve(op, weights, laid, row, frame, target, kept, t, y, x):
    """The convolution of what was laid out: row by row, products with overlapping rows of pixels.

    row, frame: floats of a row and of a frame that were laid out; t, y, x: the size of the result.
    """
    c, n, k = op.inputs, op.outputs, op.space
    bias = weights[op.bias : op.bias + n]
    for site in range(t * y * x):
        to = target[site * n : site * n + n]
        if op.add:
            of = kept[site * n : site * n + n]
            for i in range(n):
                to[i] = of[i] + bias[i]
        else:
            for i in range(n):
                to[i] = bias[i]
    for f in range(t):
        for i in range(y):
            out = address(target, (f * y + i) * x * n)
            for dt in range(op.time):
                for dy in range(k):
                    line = address(laid, (f * op.skip + dt) * frame + (i * op.stride + dy) * row)
                    w = address(weights, op.weights + (dt * k + dy) * k * c * n)
                    product(out, n, line, c * op.stride, w, x, k * c, n)


@kernel
def _place(op, weights, values, sites):
    """Add the learned values of each site."""
    for i in range(sites * op.outputs):
        values[i] += weights[op.bias + i]


@kernel
def _modulate(op, weights, action, values, sites):
    """values * (1 + scale) + shift, both linear in the action."""
    n = op.outputs
    line = weights[op.bias : op.bias + 2 * n].copy()
    product(address(line, 0), 2 * n, action.ctypes.data, op.inputs, address(weights, op.weights), 1, op.inputs, 2 * n)
    for site in range(sites):
        of = values[site * n : site * n + n]
        for i in range(n):
            of[i] = of[i] * (np.float32(1) + line[i]) + line[n + i]


@kernel
def _memory(op, source, stride, target, sites, pasts, news, dream):
    """Move what is kept towards the candidates, as far as the gates are open; without a past, from zero on."""
    c, n = op.inputs, op.outputs
    new = carray(_pointer(news[op.past] + 4 * dream * sites * c), (sites * c,))
    past = new
    if pasts[op.past] == 0:
        new[:] = np.float32(0)
    else:
        past = carray(_pointer(pasts[op.past] + 4 * dream * sites * c), (sites * c,))
    for site in range(sites):
        of, to = source[site * stride : site * stride + 2 * c], target[site * n : site * n + c]
        old, kept = past[site * c : site * c + c], new[site * c : site * c + c]
        for i in range(c):
            opening = np.float32(1) / (np.float32(1) + exp(-of[i]))
            kept[i] = to[i] = old[i] + opening * (of[c + i] - old[i])


@kernel
def _fold(op, source, stride, target, t, y, x):
    """Unfold channels into patches of pixels."""
    c, p, n = op.inputs, op.size, op.outputs
    for f in range(t * y):
        for j in range(x):
            for dy in range(p):
                for dx in range(p):
                    of = source[(f * x + j) * stride + (dy * p + dx) * c :]
                    to = target[((f * p + dy) * x * p + j * p + dx) * n :]
                    for i in range(c):
                        to[i] = of[i]


@kernel
def _spread(op, source, stride, target, sites):
    """Unfold channels into frames."""
    c, n = op.inputs, op.outputs
    for f in range(op.size):
        for site in range(sites):
            of, to = source[site * stride + f * c :], target[(f * sites + site) * n :]
            for i in range(c):
                to[i] = of[i]


@kernel
def run_program(
    first, last, ops, weights, table, tokens, actions, pasts, news, buffers, laid, features, patches, frames
):
    """Run a program on the embedded tokens `b t y x` of these dreams; the result goes to features, or with the patch of
    each token added to frames, `b n c`."""
    _, times, rows, columns = tokens.shape
    for dream in range(first, last):
        now, kept, t, y, x, stride = 0, 0, times, rows, columns, table.shape[1]
        for site in range(t * y * x):
            token = tokens[dream, site // (y * x), site // x % y, site % x]
            buffers[0, site * stride : (site + 1) * stride] = table[token]
        for o in range(len(ops)):
            op = ops[o]
            if op.keep:
                kept = now
            free = 0 if now != 0 and kept != 0 else 1 if now != 1 and kept != 1 else 2
            if op.kind == CONV:
                _pad(op, buffers[now], stride, t, y, x, laid, pasts, news, dream)
                row = (x + 2 * op.border) * op.inputs
                frame = (y + 2 * op.border) * row
                t, y, x = t // op.skip, y // op.stride, x // op.stride
                _convolve(op, weights, laid, row, frame, buffers[free], buffers[kept], t, y, x)
                now, stride = free, op.outputs
                kept = now if op.add else kept
            elif op.kind == PLACE:
                _place(op, weights, buffers[now], t * y * x)
            elif op.kind == FILM:
                _modulate(op, weights, actions[dream], buffers[now], t * y * x)
            elif op.kind == MEMORY:
                _memory(op, buffers[now], stride, buffers[free], y * x, pasts, news, dream)
                now, stride = free, op.outputs
            elif op.kind == FOLD:
                _fold(op, buffers[now], stride, buffers[free], t, y, x)
                now, kept, y, x, stride = free, free, y * op.size, x * op.size, op.outputs
            else:
                _spread(op, buffers[now], stride, buffers[free], y * x)
                now, kept, t, stride = free, free, t * op.size, op.outputs
        for site in range(features.shape[1]):
            for i in range(features.shape[2]):
                features[dream, site, i] = buffers[now, site * stride + i]
        side = patches.shape[1]
        for site in range(frames.shape[1]):
            row, column = site // x % y, site % x
            patch = patches[tokens[dream, 0, row // side, column // side], row % side, column % side]
            for i in range(frames.shape[2]):
                value = (buffers[now, site * stride + i] + patch[i] + np.float32(1)) * np.float32(127.5)
                frames[dream, site, i] = np.uint8(min(max(np.rint(value), np.float32(0)), np.float32(255)))


# --- the nearest codes ---------------------------------------------------------------------------------------------

ROWS = 8  # vectors whose distances are held at once: they stay in the cache


@kernel
def nearest(first, last, vectors, twice, squares, codes):
    """Index of the nearest code, lowest at a tie. twice: −2 × the codes, `d k`; squares: their lengths squared."""
    d, k = twice.shape
    distances = np.empty((ROWS, k), np.float32)
    best, where = np.empty(PAD, np.float32), np.empty(PAD, np.int32)
    for start in range(first, last, ROWS):
        rows = min(ROWS, last - start)
        for row in range(rows):
            distances[row] = squares
        product(address(distances, 0), k, address(vectors[start], 0), d, address(twice, 0), rows, d, k)
        for row in range(rows):
            best[:], where[:] = distances[row, :PAD], 0
            for block in range(PAD, k, PAD):  # each lane by itself, which becomes one vector
                line = distances[row, block : block + PAD]
                for lane in range(PAD):
                    nearer = line[lane] < best[lane]
                    best[lane] = line[lane] if nearer else best[lane]
                    where[lane] = np.int32(block) if nearer else where[lane]
            found = where[0]
            winner = best[0]
            for lane in range(1, PAD):
                index = where[lane] + np.int32(lane)
                if best[lane] < winner or (best[lane] == winner and index < found):
                    winner, found = best[lane], index
            codes[start + row] = found


# --- noise ---------------------------------------------------------------------------------------------------------


@kernel
def _mix(x):
    """splitmix64's finalizer on unsigned 64-bit numbers; see worldmodel/prior/noise.py."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@kernel
def uniform(seed, dreams, steps, out):
    """Numbers in [0, 1) for each dream and site, `b n`."""
    for dream in range(out.shape[0]):
        key = _mix(_mix(_mix(np.uint64(seed)) ^ np.uint64(dreams[dream])) ^ np.uint64(steps[dream]))
        for site in range(out.shape[1]):
            out[dream, site] = np.float64(_mix(key ^ np.uint64(site)) >> np.uint64(11)) * 2.0**-53


# --- the tokens of a frame -----------------------------------------------------------------------------------------


class Core(NamedTuple):
    """The weights of the spatial core for `sample_tokens`: widths padded, the two halves of a gate apart."""

    table: np.ndarray  # k+1 2w: what a known token enters into the vertical and the horizontal stack; none: zeros
    condition: np.ndarray  # c l*4w: context → gates of both stacks of each layer
    condition_bias: np.ndarray  # l*4w: with the biases of all that adds to these gates
    action: np.ndarray  # a l*4w
    vertical: np.ndarray  # l rows 3w 2w
    down: np.ndarray  # l 2w 2w
    vertical_out: np.ndarray  # l w w
    vertical_bias: np.ndarray  # l w
    horizontal: np.ndarray  # l columns*w 2w
    horizontal_out: np.ndarray  # l w w
    horizontal_bias: np.ndarray  # l w
    shortcut: np.ndarray  # c e
    shortcut_bias: np.ndarray  # e
    out_proj: np.ndarray  # w e
    head: np.ndarray  # e k
    head_bias: np.ndarray  # k: with minus infinity for what is no code but padding


@kernel
def _repeat(line, out):
    """The same line in every row."""
    for site in range(out.shape[0]):
        for i in range(out.shape[1]):
            out[site, i] = line[i]


@kernel
def _gate_rows(gates, start, w, out):
    """The gated activation of some rows, from their gate inputs `a | b` at column `start`."""
    for x in range(out.shape[0]):
        a, b, to = gates[x, start : start + w], gates[x, start + w : start + 2 * w], out[x]
        for i in range(w):
            to[i] = gate(a[i], b[i])


@kernel
def _vertical(core, y, gates, v, hidden):
    """Run the vertical stack for row y: it completes the gate inputs of the row, of both stacks."""
    layers, reach, _, w2 = core.vertical.shape
    w, stride = w2 // 2, layers * 2 * w2
    columns = len(hidden)
    for n in range(layers):
        to_v = address(gates, n * 2 * w2)
        for dy in range(reach):
            product(to_v, stride, address(v[n, y + dy], 0), w, address(core.vertical[n, dy], 0), columns, 3 * w, w2)
        product(address(gates, n * 2 * w2 + w2), stride, to_v, stride, address(core.down[n], 0), columns, w2, w2)
        if n + 1 < layers:
            _gate_rows(gates, n * 2 * w2, w, hidden)
            below = v[n + 1, y + reach - 1, 1 : columns + 1]
            for x in range(columns):
                for i in range(w):
                    below[x, i] = v[n, y + reach - 1, x + 1, i] + core.vertical_bias[n, i]
            product(address(below, 0), w, address(hidden, 0), w, address(core.vertical_out[n], 0), columns, w, w)


@kernel
def _horizontal(core, x, gates, h, hidden, out, logits):
    """Run the horizontal stack for column x, and give the scores of the token there."""
    layers, seen, w2 = core.horizontal.shape
    w = w2 // 2
    for n in range(layers):
        start = n * 2 * w2 + w2
        product(address(gates[x], start), w2, address(h[n], x * w), w, address(core.horizontal[n], 0), 1, seen, w2)
        _gate_rows(gates[x : x + 1], start, w, hidden[:1])
        to = h[n + 1, x + seen // w - 1]
        for i in range(w):
            to[i] = h[n, x + seen // w - 1, i] + core.horizontal_bias[n, i]
        product(address(to, 0), w, address(hidden, 0), w, address(core.horizontal_out[n], 0), 1, w, w)
    e, k = core.head.shape
    product(address(out[x], 0), e, address(h[layers], (x + seen // w - 1) * w), w, address(core.out_proj, 0), 1, w, e)
    for i in range(e):
        out[x, i] = silu(out[x, i])
    logits[:] = core.head_bias
    product(address(logits, 0), k, address(out[x], 0), e, address(core.head, 0), 1, e, k)


@kernel
def _weigh(logits, codes, temperature, weights):
    """exp((logits - top) / temperature), where top is the largest; returns their sum, and top."""
    top = logits[0]
    for i in range(codes):
        top = max(top, logits[i])
    inverse = np.float32(1 / temperature)
    for i in range(codes):
        weights[i] = exp((logits[i] - top) * inverse)
    total = 0.0
    for i in range(codes):
        total += weights[i]
    return total, top


@kernel
def _truncate(weights, codes, total, top_k, top_p):
    """Set to zero what top-k and top-p leave out; ties fall to the lower code. Returns the sum of the rest."""
    order = np.argsort(-weights[:codes], kind="mergesort")
    seen = left = 0.0
    for rank in range(codes):
        i = order[rank]
        weight = np.float64(weights[i])
        if seen < top_p * total and (top_k == 0 or rank < top_k):
            left += weight
        else:
            weights[i] = 0
        seen += weight
    return left


@kernel
def _sample(logits, codes, uniform, temperature, top_k, top_p, weights):
    """The token that the uniform number draws, and −log p of it at temperature 1."""
    token, total, top = 0, 0.0, np.float32(0)
    if temperature == 0:
        for i in range(codes):
            token = i if logits[i] > logits[token] else token
    else:
        total, top = _weigh(logits, codes, temperature, weights)
        if top_k or top_p < 1:
            total = _truncate(weights, codes, total, top_k, top_p)
        threshold, reached = uniform * total, 0.0
        token = codes - 1
        for i in range(codes):
            reached += weights[i]
            if reached > threshold:
                token = i
                break
    if temperature != 1 or top_k or top_p < 1:
        total, top = _weigh(logits, codes, 1.0, weights)
    return token, np.log(total) - (logits[token] - top)


@kernel
def _condition(core, features, action, line, gates, out):
    """What context and action add to the gates and to what leaves the core, at all sites of a frame."""
    rows, columns, n = gates.shape
    sites, context, e = rows * columns, features.shape[1], out.shape[2]
    line[:] = core.condition_bias
    product(address(line, 0), n, action.ctypes.data, len(action), core.action.ctypes.data, 1, len(action), n)
    _repeat(line, gates.reshape(sites, n))
    _repeat(core.shortcut_bias, out.reshape(sites, e))
    seen = address(features, 0)
    product(address(gates, 0), n, seen, context, address(core.condition, 0), sites, context, n)
    product(address(out, 0), e, seen, context, address(core.shortcut, 0), sites, context, e)


@kernel
def sample_tokens(first, last, core, features, actions, noise, temperature, top_k, top_p, tokens, nats):
    """Draw the tokens `b y x` of a frame for these dreams, site by site in raster order, each dream at its own
    temperature `b`."""
    layers, reach, w3, _ = core.vertical.shape
    _, rows, columns = tokens.shape
    w, e, n = w3 // 3, len(core.shortcut_bias), len(core.condition_bias)
    shift = core.horizontal.shape[1] // w - 1  # columns of zeros to the left of a row
    gates, out = np.empty((rows, columns, n), np.float32), np.empty((rows, columns, e), np.float32)
    v = np.zeros((layers, rows + reach - 1, columns + 2, w), np.float32)
    h = np.zeros((layers + 1, columns + shift, w), np.float32)
    hidden = np.empty((columns, w), np.float32)
    logits, weights = np.empty(len(core.head_bias), np.float32), np.empty(len(core.head_bias), np.float32)
    line, codes = np.empty(n, np.float32), len(core.table) - 1
    for dream in range(first, last):
        _condition(core, features[dream], actions[dream], line, gates, out)
        for y in range(rows):
            for x in range(columns):
                v[0, y + reach - 1, x + 1] = core.table[tokens[dream, y - 1, x] if y else codes, :w]
            _vertical(core, y, gates[y], v, hidden)
            for x in range(columns):
                h[0, x + shift] = core.table[tokens[dream, y, x - 1] if x else codes, w:]
                _horizontal(core, x, gates[y], h, hidden, out[y], logits)
                tokens[dream, y, x], nats[dream, y, x] = _sample(
                    logits, codes, noise[dream, y * columns + x], temperature[dream], top_k, top_p, weights
                )


# --- the outcome of a step -----------------------------------------------------------------------------------------


class Head(NamedTuple):
    """The weights of the outcome head for `score_outcomes`: widths padded."""

    context: np.ndarray  # c m
    place: np.ndarray  # n m: with the bias of `context`
    inner: np.ndarray  # 2m m: what the mean and the largest of all sites add
    inner_bias: np.ndarray  # m
    out_proj: np.ndarray  # m o
    out_proj_bias: np.ndarray  # o


@kernel
def score_outcomes(first, last, head, features, scores):
    """Scores `b o` of the outcomes of a latent for these dreams, from its context `b n c`."""
    c, m = head.context.shape
    sites, outcomes = features.shape[1], len(head.out_proj_bias)
    found = np.empty((sites, m), np.float32)
    seen, hidden = np.empty(2 * m, np.float32), np.empty(m, np.float32)
    line = np.empty(outcomes, np.float32)
    for dream in range(first, last):
        found[:] = head.place
        product(address(found, 0), m, address(features[dream], 0), c, address(head.context, 0), sites, c, m)
        seen[:m], seen[m:] = np.float32(0), np.float32(-np.inf)
        for site in range(sites):
            for i in range(m):
                value = silu(found[site, i])
                seen[i] += value
                seen[m + i] = max(seen[m + i], value)
        for i in range(m):
            seen[i] /= np.float32(sites)
        hidden[:] = head.inner_bias
        product(address(hidden, 0), m, address(seen, 0), 2 * m, address(head.inner, 0), 1, 2 * m, m)
        for i in range(m):
            hidden[i] = silu(hidden[i])
        line[:] = head.out_proj_bias
        product(address(line, 0), outcomes, address(hidden, 0), m, address(head.out_proj, 0), 1, m, outcomes)
        for i in range(scores.shape[1]):
            scores[dream, i] = line[i]


@kernel
def outcome(scores, log_weight, rewards, uniform, going, drawn, nats, expected, end):
    """Sample outcomes from scores `b o`, as `OutcomeHead.sample` does. going: only this many of the outcomes, the
    first ones, may be drawn."""
    outcomes, values = scores.shape[1], len(rewards)
    share, reached = np.empty(outcomes), np.empty(outcomes)
    for dream in range(len(scores)):
        top, total, so_far, mean, last = -np.inf, 0.0, 0.0, 0.0, 0.0
        for i in range(outcomes):
            share[i] = np.float64(scores[dream, i]) - np.float64(log_weight[i])
            top = max(top, share[i])
        for i in range(outcomes):
            share[i] = np.exp(share[i] - top)
            total += share[i]
        for i in range(outcomes):
            share[i] /= total
            so_far += share[i]
            reached[i] = so_far
            last += share[i] if i >= values else 0.0
            mean += share[i] * rewards[i % values]
        found = 0
        while found < going - 1 and reached[found] <= uniform[dream] * reached[going - 1]:
            found += 1
        drawn[dream], nats[dream] = found, np.log(reached[going - 1] / share[found])
        expected[dream], end[dream] = mean, last

"""The tokenizer on the CPU, compiled: nearest codes, and the frames of the next latent."""

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from worldmodel.backends.cpu import kernels
from worldmodel.backends.cpu.packed_weights import packed
from worldmodel.backends.cpu.program import Tape, affine, floats, in_threads, pack
from worldmodel.nn.causal_conv import CausalConv3d, Past
from worldmodel.tokenizer.layers import Activation, PatchIn, PatchOut, Residual, TimeOut
from worldmodel.tokenizer.vqvae import PATCH, VQVAE, to_float

LAYERS = (Activation, CausalConv3d, PatchIn, PatchOut, Residual, TimeOut)
SHARE = 4096  # vectors that are worth a thread


def nearest(vectors: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"]) -> Int[Tensor, "n"]:
    """Index of the nearest code: distances are compared as they are computed, and never written to memory."""
    if vectors.shape[1:] != codebook.shape[1:]:
        raise ValueError(f"expected vectors of {codebook.shape[1]} numbers, got {tuple(vectors.shape)}")
    squares = pack(codebook.double().square().cumsum(1)[:, -1])  # in one order everywhere, as `sum` is not
    squares[len(codebook) :] = np.inf  # padding is no code
    found = torch.empty(len(vectors), dtype=torch.long)
    inputs = (floats(vectors), pack(-2 * codebook.T), squares, found.numpy())
    in_threads(lambda first, last: kernels.nearest(first, last, *inputs), len(vectors), least=SHARE)
    return found


def next_frames(tokenizer: VQVAE, tokens: Int[Tensor, "b y x"], past: Past) -> tuple[UInt8[Tensor, "b t h w c"], Past]:
    """`VQVAE.decode_chunk` of one more latent."""
    return packed(tokenizer, "decoder", lambda: _decoder(tokenizer)).frames(tokens, past)


def known(tokenizer: VQVAE) -> bool:
    """Whether it has no layers but those that the kernels run; what is derived from these may differ."""
    layers = (*tokenizer.encoder.layers, *tokenizer.decoder.layers)
    return all(type(layer) in LAYERS for layer in layers)


def start_frames(tokenizer: VQVAE, tokens: Int[Tensor, "b s y x"]) -> tuple[UInt8[Tensor, "b h w c"], Past]:
    """The last frame of whole token videos, and the past of the decoder after them.

    Raises: ValueError for tokens of another grid or outside the codebook.
    """
    tape = packed(tokenizer, "decoder", lambda: _decoder(tokenizer))
    past = None
    for token in tokens[:, :-1].unbind(1):
        past = tape.carry(token, torch.empty(len(token), 0), past)
    frames, past = tape.frames(tokens[:, -1], past)
    return frames[:, -1].clone(), past


def encode(tokenizer: VQVAE, frames: UInt8[Tensor, "b t h w c"]) -> Int[Tensor, "b s y x"]:
    """`VQVAE.encode`: tokens of whole videos that start at their first frame.

    Raises: ValueError for frames of another size, or that do not fill whole latents.
    """
    encoder, linear = packed(tokenizer, "encoder", lambda: _encoder(tokenizer))
    stride = tokenizer.config.time_stride
    tokenizer._check_frames(frames)
    tokenizer.latents(frames.shape[1])
    patches = PatchIn(PATCH)(to_float(frames))[0].movedim(1, -1)
    table = pack(patches.flatten(0, -2))
    place = torch.arange(len(table)).view(patches.shape[:-1])
    place = torch.cat([place[:, :1].expand(-1, stride, -1, -1), place[:, 1:]], dim=1)  # the first one has a latent
    none, past, found = torch.empty(len(frames), 0), None, []
    for part in place.split(stride, dim=1):
        z, past = encoder.features(part, none, past, table)
        z = z + linear.features(part[:, -1], none, None, table)[0]
        found.append(nearest(z.movedim(1, -1).flatten(0, -2), tokenizer.quantizer.codebook))
    return torch.stack([codes.view(len(frames), *tokenizer.grid) for codes in found], dim=1)


def _encoder(tokenizer: VQVAE) -> tuple[Tape, Tape]:
    """What makes vectors of patches: the encoder, and the linear map beside it."""
    height, width, colours = tokenizer.frame_shape
    empty, grid = torch.empty(0, colours * PATCH**2), (height // PATCH, width // PATCH)
    tape, linear = Tape(empty, grid, tokenizer.config.time_stride), Tape(empty, grid)
    _, *layers = tokenizer.encoder.layers
    tape.layer()
    for before, layer in zip([None, *layers], layers, strict=False):
        if isinstance(layer, CausalConv3d):
            tape.convolution(layer, silu=isinstance(before, Activation))
        elif isinstance(layer, Residual):
            tape.convolution(layer.inner, silu=True, keep=True)
            tape.convolution(layer.outer, silu=True, add=True)
        else:
            assert isinstance(layer, Activation), f"no tape for {type(layer).__name__}"
        tape.layer()
    enter, n = tokenizer.linear.enter, tokenizer.config.space_stride // PATCH
    weight = enter.weight.view(-1, colours, n, PATCH, n, PATCH).permute(0, 1, 3, 5, 2, 4)  # as PatchIn folds
    linear.patch(weight.reshape(len(weight), -1, n, n), enter.bias)
    return tape, linear


def _decoder(tokenizer: VQVAE) -> Tape:
    tape = Tape(tokenizer.quantizer.codebook, tokenizer.grid)
    layers = list(tokenizer.decoder.layers)
    for before, layer, after in zip([None, *layers], layers, [*layers[1:], None], strict=False):
        if isinstance(layer, CausalConv3d):
            patch = after.size if isinstance(after, PatchOut) else 1
            tape.convolution(layer, silu=isinstance(before, Activation), patch=patch)
        elif isinstance(layer, Residual):
            tape.convolution(layer.inner, silu=True, keep=True)
            tape.convolution(layer.outer, silu=True, add=True)
        elif isinstance(layer, PatchOut):
            assert isinstance(before, CausalConv3d), "only a convolution puts channels in the order to unfold"
            tape.fold(layer.size)
        elif isinstance(layer, TimeOut):
            tape.spread(layer.stride)
        else:
            assert isinstance(layer, Activation), f"no tape for {type(layer).__name__}"
        tape.layer(1 if isinstance(layer, TimeOut) else None)
    leave = tokenizer.linear.leave
    pictures = affine(tokenizer.quantizer.codebook, leave.weight, leave.bias)[:, :, None, None, None]
    tape.patches = floats(tokenizer.linear.unfold(pictures)[0][:, :, 0].movedim(1, -1))
    return tape

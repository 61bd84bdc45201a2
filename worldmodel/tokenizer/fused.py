"""The tokenizer on the CPU, compiled: nearest codes, and the frames of the next latent."""

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from worldmodel import kernels
from worldmodel.causal import CausalConv3d, Past
from worldmodel.compiled import packed
from worldmodel.tape import Tape, floats, in_threads, pack
from worldmodel.tokenizer.layers import Activation, PatchOut, Residual, TimeOut
from worldmodel.tokenizer.vqvae import VQVAE

SHARE = 4096  # vectors that are worth a thread


def nearest(vectors: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"]) -> Int[Tensor, "n"]:
    """Index of the nearest code: distances are compared as they are computed, and never written to memory."""
    if vectors.shape[1:] != codebook.shape[1:]:
        raise ValueError(f"expected vectors of {codebook.shape[1]} numbers, got {tuple(vectors.shape)}")
    squares = pack(codebook.square().sum(1))
    squares[len(codebook) :] = np.inf  # padding is no code
    found = torch.empty(len(vectors), dtype=torch.long)
    inputs = (floats(vectors), pack(-2 * codebook.T), squares, found.numpy())
    in_threads(lambda first, last: kernels.nearest(first, last, *inputs), len(vectors), least=SHARE)
    return found


def next_frames(tokenizer: VQVAE, tokens: Int[Tensor, "b y x"], past: Past) -> tuple[UInt8[Tensor, "b t h w c"], Past]:
    """`VQVAE.decode_chunk` of one more latent."""
    return packed(tokenizer, "decoder", lambda: _decoder(tokenizer)).frames(tokens, past)


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
    pictures = tokenizer.linear.decode(tokenizer.quantizer.codebook[:, :, None, None, None])
    tape.patches = floats(pictures[:, :, 0].movedim(1, -1))
    return tape

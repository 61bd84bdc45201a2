"""The tokenizer on the CPU: encoder and decoder as programs, one latent a call."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from worldmodel.backends.cpu.layers import check_known, write_layers
from worldmodel.backends.cpu.program import LayerProgram, NotCompilable
from worldmodel.kernels.arrays import affine, floats, pack
from worldmodel.nn.causal_conv import Past
from worldmodel.tokenizer.layers import LinearPatches, SpaceToDepth, StreamingSequential
from worldmodel.tokenizer.vqvae import PATCH, VQVAE, to_float


class CompiledTokenizer:
    """`encode_chunk` and `decode_chunk` of a `VQVAE`, with the weights that it has now.

    Raises: NotCompilable for a network that the kernels do not run. Any bottleneck will do.
    """

    def __init__(self, tokenizer: nn.Module):
        if type(tokenizer) is not VQVAE:
            raise NotCompilable(f"the kernels run a VQVAE, not a {type(tokenizer).__name__}")
        assert isinstance(tokenizer, VQVAE)
        check_known(tokenizer.encoder, StreamingSequential)
        check_known(tokenizer.decoder, StreamingSequential)
        check_known(tokenizer.linear, LinearPatches)
        self.plain = tokenizer
        self.encoder, self.linear = _encoder(tokenizer)
        self.decoder = _decoder(tokenizer)

    def encode_chunk(self, frames: UInt8[Tensor, "b t h w c"], past: Past) -> tuple[Int[Tensor, "b s y x"], Past]:
        """`VQVAE.encode_chunk`."""
        self.plain.check_frames(frames, past)
        patches = SpaceToDepth(PATCH)(to_float(frames))[0].movedim(1, -1)
        table = pack(patches.flatten(0, -2))
        places = torch.arange(len(table)).view(patches.shape[:-1])
        no_action, found = torch.empty(len(frames), 0), []
        for part in self._latents(places, past):
            z, past = self.encoder.features(part, no_action, past, table)
            z = z + self.linear.features(part[:, -1], no_action, None, table)[0]
            found.append(self.plain.bottleneck.quantize(z[:, :, 0].movedim(1, -1)))
        return torch.stack(found, dim=1), past

    def decode_chunk(self, tokens: Int[Tensor, "b s y x"], past: Past) -> tuple[UInt8[Tensor, "b t h w c"], Past]:
        """`VQVAE.decode_chunk`."""
        if tokens.shape[1] != 1:
            self.plain.check_tokens(tokens)
        parts = []
        for latent in tokens.unbind(1):
            frames, after = self._decode(latent, past)
            parts.append(frames if past is not None else frames[:, -1:])  # the first latent of a video is one frame
            past = after
        return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)), past

    def _decode(self, tokens: Int[Tensor, "b y x"], past: Past) -> tuple[UInt8[Tensor, "b t h w c"], Past]:
        """The frames of one latent: `time_stride` of them, also of the first."""
        if self.plain.bottleneck.tokens_per_site == 1:
            return self.decoder.frames(tokens, past)
        self.plain.check_tokens(tokens[:, None])
        vectors = self.plain.bottleneck.vectors(tokens)
        rows = vectors.flatten(0, -2)
        places = torch.arange(len(rows)).view(vectors.shape[:-1])
        return self.decoder.frames(places, past, pack(rows), _patches(self.plain.linear, rows))

    def _latents(self, places: Int[Tensor, "b t y x"], past: Past) -> Iterator[Int[Tensor, "b n y x"]]:
        """The places of each latent's frames; the first frame of a video stands for all of its latent's."""
        stride = self.plain.time_stride
        if past is None:
            places = torch.cat([places[:, :1].expand(-1, stride, -1, -1), places[:, 1:]], dim=1)
        yield from places.split(stride, dim=1)


def _encoder(tokenizer: VQVAE) -> tuple[LayerProgram, LayerProgram]:
    """What makes vectors of patches: the encoder, and the linear map beside it."""
    height, width, colors = tokenizer.frame_shape
    empty, grid = torch.empty(0, colors * PATCH**2), (height // PATCH, width // PATCH)
    program = write_layers(LayerProgram(empty, grid, tokenizer.time_stride), tokenizer.encoder.layers)
    linear = LayerProgram(empty, grid)
    proj, n = tokenizer.linear.in_proj, tokenizer.config.space_stride // PATCH
    weight = proj.weight.view(-1, colors, n, PATCH, n, PATCH).permute(0, 1, 3, 5, 2, 4)  # as SpaceToDepth folds
    linear.patch(weight.reshape(len(weight), -1, n, n), proj.bias)
    return program, linear


def _decoder(tokenizer: VQVAE) -> LayerProgram:
    """What makes frames of code vectors; the linear map gives each code a patch of its own."""
    table = tokenizer.bottleneck.table()
    if table is None:
        table = torch.empty(0, tokenizer.config.quantizer.code_width)
    program = write_layers(LayerProgram(table, tokenizer.sites), tokenizer.decoder.layers)
    program.patches = _patches(tokenizer.linear, table)
    return program


def _patches(linear: LinearPatches, vectors: Float[Tensor, "n d"]) -> np.ndarray:
    """The patch of pixels of each vector, `n y x c`."""
    pixels = affine(vectors, linear.out_proj.weight, linear.out_proj.bias)[:, :, None, None, None]
    return floats(linear.unfold(pixels)[0][:, :, 0].movedim(1, -1))

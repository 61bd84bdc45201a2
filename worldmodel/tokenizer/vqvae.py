"""The tokenizer: a causal 3-D VQ-VAE that turns video clips into a grid of discrete tokens and back."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.io.config import check_range
from worldmodel.nn.causal_conv import CausalConv3d, Past
from worldmodel.tokenizer.bottlenecks import BOTTLENECKS, QuantizerConfig
from worldmodel.tokenizer.layers import (
    Activation,
    DepthToSpace,
    DepthToTime,
    LinearPatches,
    Residual,
    SpaceToDepth,
    StreamingSequential,
)

PATCH = 4  # side of the patches that become channels first: full-resolution convolutions would take most of the time
HALF_RES_CHANNELS = 24  # channels at half resolution, where the decoder smooths the seams between patches


@dataclass
class TokenizerConfig:
    """Shape of the tokenizer, and its loss."""

    space_stride: int = 8
    """Pixels per token side: 4, 8 or 16."""
    time_stride: int = 1
    """Frames per latent after the first: 1, 2 or 4."""
    width: int = 32
    """Channels at a quarter of the resolution (twice as many below)."""
    blocks: int = 1
    """Residual blocks per stage."""
    time_kernel: int = 2
    """Latent frames that each temporal layer sees at once."""
    focal_gamma: float = 1.0
    """How much more the loss weighs large errors than small ones (0: mean squared error; see `focal_error`)."""
    bottleneck: str = "vq"
    """What makes tokens of vectors: vq (one codebook), fsq (no codebook) or rvq (two codebooks, two tokens a site)."""
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    """Size and learning of the bottleneck."""

    def __post_init__(self) -> None:
        if self.space_stride not in (4, 8, 16):
            raise ValueError(f"tokenizer.space_stride: expected 4, 8 or 16, got {self.space_stride}")
        if self.time_stride not in (1, 2, 4):
            raise ValueError(f"tokenizer.time_stride: expected 1, 2 or 4, got {self.time_stride}")
        if self.bottleneck not in BOTTLENECKS:
            expected = ", ".join(BOTTLENECKS)
            raise ValueError(f"tokenizer.bottleneck: expected one of {expected}, got {self.bottleneck!r}")
        check_range(self, 1, 2**14, "width")
        check_range(self, 1, 256, "blocks", "time_kernel")
        check_range(self, 0, 16, "focal_gamma")


@runtime_checkable
class Clip(Protocol):
    """What the loss needs of a batch: `frames`, uint8 `b t h w c`."""

    @property
    def frames(self) -> Tensor: ...


def encoder(config: TokenizerConfig, colors: int) -> StreamingSequential:
    """Pixels `b c t h w` → vectors to quantize `b d s y x`."""
    w = config.width
    layers: list[nn.Module] = [SpaceToDepth(PATCH), CausalConv3d(colors * PATCH**2, w)]
    layers += [Residual(w) for _ in range(config.blocks)]
    for _ in range(num_downsamplings(config)):
        layers += [Activation(), CausalConv3d(w, 2 * config.width, (1, 4), (1, 2))]
        w = 2 * config.width
    layers += [Residual(w) for _ in range(config.blocks - 1)]
    if config.time_stride > 1:
        layers += [Activation(), CausalConv3d(w, w, (2 * config.time_stride, 1), (config.time_stride, 1))]
    layers += [Residual(w, config.time_kernel), Activation(), CausalConv3d(w, config.quantizer.code_width, (1, 1))]
    return StreamingSequential(*layers)


def decoder(config: TokenizerConfig, colors: int) -> StreamingSequential:
    """Code vectors `b d s y x` → pixels `b c t h w`: the encoder mirrored."""
    w = config.width * (2 if num_downsamplings(config) else 1)
    layers: list[nn.Module] = [CausalConv3d(config.quantizer.code_width, w), Residual(w, config.time_kernel)]
    if config.time_stride > 1:
        layers += [Activation(), CausalConv3d(w, w * config.time_stride, (1, 1)), DepthToTime(config.time_stride)]
    layers += [Residual(w) for _ in range(config.blocks)]
    for i in reversed(range(num_downsamplings(config))):
        below = config.width * (2 if i else 1)
        layers += [Activation(), CausalConv3d(w, 4 * below), DepthToSpace(2)]
        w = below
    layers += [Residual(w) for _ in range(config.blocks)]
    layers += [Activation(), CausalConv3d(w, 4 * HALF_RES_CHANNELS), DepthToSpace(2)]
    layers += [Activation(), CausalConv3d(HALF_RES_CHANNELS, 4 * colors), DepthToSpace(2)]
    return StreamingSequential(*layers)


def num_downsamplings(config: TokenizerConfig) -> int:
    """Layers that halve the resolution between the patches and the tokens."""
    return (config.space_stride // PATCH).bit_length() - 1


class VQVAE(nn.Module):
    """Frames uint8 `b t h w c` ⇄ tokens `b s y x`, with `t = 1 + time_stride · (s − 1)`.

    The first frame has a latent of its own, then every `time_stride` frames give one (MAGVIT-v2, arXiv 2310.05737).
    Latent s sees no later frame, and a frame is decoded from no later latent, so both directions can stream.
    """

    def __init__(self, config: TokenizerConfig, frame_shape: tuple[int, int, int]):
        super().__init__()
        height, width, colors = frame_shape
        if min(frame_shape) < 1:
            raise ValueError(f"frames: expected a height, a width and colors of 1 or more, got {frame_shape}")
        if height % config.space_stride or width % config.space_stride:
            raise ValueError(
                f"frames of {height}x{width} do not divide into tokens of {config.space_stride} pixels: "
                "change env.height and env.width (size= of an import), or tokenizer.space_stride"
            )
        self.config = config
        self.frame_shape = (height, width, colors)
        self.encoder = encoder(config, colors)
        self.decoder = decoder(config, colors)
        self.linear = LinearPatches(config.space_stride, colors, config.quantizer.code_width)
        self.bottleneck = BOTTLENECKS[config.bottleneck](config.quantizer)

    @property
    def codes(self) -> int:
        """Size of the vocabulary."""
        return self.bottleneck.codes

    @property
    def time_stride(self) -> int:
        """Frames per latent after the first."""
        return self.config.time_stride

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens per latent frame."""
        rows, columns = self.sites
        return rows, columns * self.bottleneck.tokens_per_site

    @property
    def sites(self) -> tuple[int, int]:
        """Rows and columns of vectors per latent frame."""
        height, width, _ = self.frame_shape
        return height // self.config.space_stride, width // self.config.space_stride

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.linear.in_proj.weight.device

    @torch.no_grad()
    def encode(self, frames: UInt8[Tensor, "b t h w c"]) -> Int[Tensor, "b s y x"]:
        """Tokens of whole videos that start at their first frame."""
        return self.encode_chunk(frames, None)[0]

    @torch.no_grad()
    def decode(self, tokens: Int[Tensor, "b s y x"]) -> UInt8[Tensor, "b t h w c"]:
        """Frames of whole token videos."""
        return self.decode_chunk(tokens, None)[0]

    @torch.no_grad()
    def encode_chunk(self, frames: UInt8[Tensor, "b t h w c"], past: Past) -> tuple[Int[Tensor, "b s y x"], Past]:
        """Tokens of the next frames of videos; `past` is None at the start, then what the last call returned.

        Raises: ValueError for frames of another size, or that do not fill whole latents.
        """
        self.check_frames(frames, past)
        z, past = self._vectors(to_float(frames), past)
        return self.bottleneck.quantize(z.movedim(1, -1)), past

    @torch.no_grad()
    def decode_chunk(self, tokens: Int[Tensor, "b s y x"], past: Past) -> tuple[UInt8[Tensor, "b t h w c"], Past]:
        """Frames of the next tokens of videos; `past` as in `encode_chunk`.

        Raises: ValueError for tokens of another grid or outside the codebook.
        """
        self.check_tokens(tokens)
        pixels, past = self._pixels(self.bottleneck.vectors(tokens).movedim(-1, 1), past)
        return to_uint8(pixels), past

    @torch.no_grad()
    def embed(self, tokens: Int[Tensor, "*n y x"]) -> Float[Tensor, "*n y x e"]:
        """The code vectors of tokens; each entry has mean 0 and deviation 1 over all codes."""
        return self.bottleneck.embed(tokens)

    @torch.no_grad()
    def features(self, frames: UInt8[Tensor, "b t h w c"]) -> Float[Tensor, "b d s y x"]:
        """What the encoder makes of whole videos, before the bottleneck."""
        return self.encoder(to_float(frames))[0]

    def loss(self, clip: Clip) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Equation 3 of the paper: reconstruction (squared error on [-1, 1]) + codebook and commitment terms."""
        x = to_float(clip.frames)
        z, _ = self._vectors(x, None)
        quantized = self.bottleneck(z.movedim(1, -1))
        pixels, _ = self._pixels(quantized.vectors.movedim(-1, 1), None)
        plain = F.mse_loss(pixels.detach(), x)
        metrics = {"psnr": -10 * (plain / 4).log10(), "commitment": quantized.loss.detach()}
        return focal_error(pixels, x, self.config.focal_gamma) + quantized.loss, metrics

    @torch.no_grad()
    def init_from_data(self, frames: UInt8[Tensor, "b t h w c"]) -> None:
        """Before training: set the linear map to the principal components of these frames' patches, and
        fit the bottleneck to them. Then even the tokens of the first step can be decoded well."""
        self.check_frames(frames[:, :1], None)
        x = to_float(frames)
        self.linear.init_from_data(x)
        z = self.linear.encode(x)  # the whole vector: the encoder's last convolution starts at zero
        self.bottleneck.init_from_data(z.movedim(1, -1).flatten(0, -2))

    def _vectors(self, x: Float[Tensor, "b c t h w"], past: Past) -> tuple[Float[Tensor, "b d s y x"], Past]:
        """Vectors to quantize: the linear code of each latent's last frame, plus the encoder's output."""
        z, after = self.encoder(x, past)
        stride = self.config.time_stride
        return z + self.linear.encode(x[:, :, (0 if past is None else stride - 1) :: stride]), after

    def _pixels(self, z: Float[Tensor, "b d s y x"], past: Past) -> tuple[Float[Tensor, "b c t h w"], Past]:
        """Pixels: the linear decoding of each latent, repeated in all its frames, plus the decoder's output."""
        pixels, after = self.decoder(z, past)
        patches = self.linear.decode(z).repeat_interleave(self.config.time_stride, dim=2)
        return pixels + patches[:, :, -pixels.shape[2] :], after

    def check_frames(self, frames: Tensor, past: Past) -> None:
        """Raises: ValueError for frames of another size, or frames that do not fill whole latents."""
        if tuple(frames.shape[2:]) != self.frame_shape:
            raise ValueError(f"expected frames of shape {self.frame_shape}, got {tuple(frames.shape[2:])}")
        latents_of(frames.shape[1] + (past is not None), self.time_stride)

    def check_tokens(self, tokens: Tensor) -> None:
        """Raises: ValueError for tokens of another grid or outside the vocabulary."""
        if tuple(tokens.shape[2:]) != self.grid:
            raise ValueError(f"expected tokens on a grid of {self.grid}, got {tuple(tokens.shape[2:])}")
        if tokens.numel() and (tokens.min() < 0 or tokens.max() >= self.codes):
            raise ValueError(f"expected tokens in [0, {self.codes}), got {int(tokens.min())} to {int(tokens.max())}")


def latents_of(frames: int, time_stride: int) -> int:
    """Latents of a video of this number of frames: one for the first, then one for every `time_stride` frames.

    Raises: ValueError when that many frames do not fill whole latents.
    """
    more, rest = divmod(frames - 1, time_stride)
    if frames < 1 or rest:
        raise ValueError(f"expected 1 + n * {time_stride} frames, got {frames}")
    return 1 + more


def focal_error(
    pixels: Float[Tensor, "b c t h w"], truth: Float[Tensor, "b c t h w"], gamma: float
) -> Float[Tensor, ""]:
    """Mean squared error in which a pixel weighs as the `gamma`-th power of its own error, with weights of mean 1.

    Most pixels of a scene are wall and floor, so the plain mean hardly changes if a small object (a monster of a few
    pixels) is left out. Here hard pixels weigh more, as hard classes do in focal loss (arXiv 1708.02002).
    """
    error = (pixels - truth).square().mean(1)  # over colors: a pixel is hard as a whole
    if not gamma:
        return error.mean()
    weight = error.detach().clamp_min(1e-12) ** (gamma / 2)
    return (error * weight).mean() / weight.mean()


def to_float(frames: UInt8[Tensor, "b t h w c"]) -> Float[Tensor, "b c t h w"]:
    """uint8 frames → float in [-1, 1]."""
    return frames.float().div(127.5).sub(1).movedim(-1, 1)


def to_uint8(pixels: Float[Tensor, "b c t h w"]) -> UInt8[Tensor, "b t h w c"]:
    """The inverse of `to_float`, rounded and clipped."""
    return pixels.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).movedim(1, -1).contiguous()

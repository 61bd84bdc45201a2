"""The tokenizer: a causal 3-D VQ-VAE that turns video clips into a grid of discrete tokens and back."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.io.config import within
from worldmodel.nn.causal_conv import CausalConv3d, Past
from worldmodel.tokenizer.layers import Activation, Chain, LinearPatches, PatchIn, PatchOut, Residual, TimeOut
from worldmodel.tokenizer.quantizer import Quantizer, QuantizerConfig

PATCH = 4  # pixels folded into channels at the door: full-resolution convolutions would take most of the time
MIDDLE = 24  # channels at half resolution, where the decoder smooths the seams between patches


@dataclass
class TokenizerConfig:
    """Shape of the tokenizer.

    space_stride: pixels per token side (4, 8 or 16). time_stride: frames per latent after the first (1, 2 or 4).
    width: channels at a quarter of the resolution (twice that below). blocks: residual blocks per stage.
    time_kernel: latent frames seen at once by each temporal layer. focus: how much more the loss minds large errors
    than small ones (0: mean squared error; see `focused_error`).
    """

    space_stride: int = 8
    time_stride: int = 1
    width: int = 48
    blocks: int = 1
    time_kernel: int = 2
    focus: float = 0.0
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)

    def __post_init__(self) -> None:
        if self.space_stride not in (4, 8, 16):
            raise ValueError(f"tokenizer.space_stride: expected 4, 8 or 16, got {self.space_stride}")
        if self.time_stride not in (1, 2, 4):
            raise ValueError(f"tokenizer.time_stride: expected 1, 2 or 4, got {self.time_stride}")
        within(self, 1, 2**14, "width")
        within(self, 1, 256, "blocks", "time_kernel")
        within(self, 0, 16, "focus")


@runtime_checkable
class Clip(Protocol):
    """What the loss needs of a batch: `frames`, uint8 `b t h w c`."""

    @property
    def frames(self) -> Tensor: ...


def encoder(config: TokenizerConfig, colours: int) -> Chain:
    """Pixels `b c t h w` → vectors to quantise `b d s y x`."""
    w = config.width
    layers: list[nn.Module] = [PatchIn(PATCH), CausalConv3d(colours * PATCH**2, w)]
    layers += [Residual(w) for _ in range(config.blocks)]
    for _ in range(halvings(config)):
        layers += [Activation(), CausalConv3d(w, 2 * config.width, (1, 4), (1, 2))]
        w = 2 * config.width
    layers += [Residual(w) for _ in range(config.blocks - 1)]
    if config.time_stride > 1:
        layers += [Activation(), CausalConv3d(w, w, (2 * config.time_stride, 1), (config.time_stride, 1))]
    layers += [Residual(w, config.time_kernel), Activation(), CausalConv3d(w, config.quantizer.code_width, (1, 1))]
    return Chain(*layers)


def decoder(config: TokenizerConfig, colours: int) -> Chain:
    """Code vectors `b d s y x` → pixels `b c t h w`: the encoder mirrored."""
    w = config.width * (2 if halvings(config) else 1)
    layers: list[nn.Module] = [CausalConv3d(config.quantizer.code_width, w), Residual(w, config.time_kernel)]
    if config.time_stride > 1:
        layers += [Activation(), CausalConv3d(w, w * config.time_stride, (1, 1)), TimeOut(config.time_stride)]
    layers += [Residual(w) for _ in range(config.blocks)]
    for i in reversed(range(halvings(config))):
        below = config.width * (2 if i else 1)
        layers += [Activation(), CausalConv3d(w, 4 * below), PatchOut(2)]
        w = below
    layers += [Residual(w) for _ in range(config.blocks)]
    layers += [Activation(), CausalConv3d(w, 4 * MIDDLE), PatchOut(2)]
    layers += [Activation(), CausalConv3d(MIDDLE, 4 * colours), PatchOut(2)]
    return Chain(*layers)


def halvings(config: TokenizerConfig) -> int:
    """Stages that halve the resolution between the patches and the tokens."""
    return (config.space_stride // PATCH).bit_length() - 1


class VQVAE(nn.Module):
    """Frames uint8 `b t h w c` ⇄ tokens `b s y x`, with `t = 1 + time_stride · (s − 1)`.

    The first frame has a latent of its own, then every `time_stride` frames give one (MAGVIT-v2, arXiv 2310.05737).
    Latent s sees no later frame, and a frame is decoded from no later latent, so both directions can stream.
    """

    def __init__(self, config: TokenizerConfig, frame_shape: tuple[int, int, int]):
        super().__init__()
        height, width, colours = frame_shape
        if min(frame_shape) < 1:
            raise ValueError(f"frames: expected a height, a width and colours of 1 or more, got {frame_shape}")
        if height % config.space_stride or width % config.space_stride:
            raise ValueError(
                f"frames of {height}x{width} do not divide into tokens of {config.space_stride} pixels: "
                "change env.height and env.width (size= of an import), or tokenizer.space_stride"
            )
        self.config = config
        self.frame_shape = tuple(frame_shape)
        self.encoder = encoder(config, colours)
        self.decoder = decoder(config, colours)
        self.linear = LinearPatches(config.space_stride, colours, config.quantizer.code_width)
        self.quantizer = Quantizer(config.quantizer)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens per latent frame."""
        height, width, _ = self.frame_shape
        return height // self.config.space_stride, width // self.config.space_stride

    def latents(self, frames: int) -> int:
        """Latent frames of a video of so many frames.

        Raises: ValueError when that many frames do not fill whole latents.
        """
        whole, rest = divmod(frames - 1, self.config.time_stride)
        if frames < 1 or rest:
            raise ValueError(f"expected 1 + n * {self.config.time_stride} frames, got {frames}")
        return 1 + whole

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
        self._check_frames(frames)
        self.latents(frames.shape[1] if past is None else frames.shape[1] + 1)
        z, past = self._vectors(to_float(frames), past)
        return self.quantizer(z.movedim(1, -1)).codes, past

    @torch.no_grad()
    def decode_chunk(self, tokens: Int[Tensor, "b s y x"], past: Past) -> tuple[UInt8[Tensor, "b t h w c"], Past]:
        """Frames of the next tokens of videos; `past` as in `encode_chunk`.

        Raises: ValueError for tokens of another grid or outside the codebook.
        """
        self._check_tokens(tokens)
        pixels, past = self._pixels(self.quantizer.vectors(tokens).movedim(-1, 1), past)
        return to_uint8(pixels), past

    def loss(self, clip: Clip) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Equation 3 of the paper: reconstruction (squared error on [-1, 1]) + codebook and commitment terms."""
        x = to_float(clip.frames)
        z, _ = self._vectors(x, None)
        quantized = self.quantizer(z.movedim(1, -1))
        pixels, _ = self._pixels(quantized.vectors.movedim(-1, 1), None)
        plain = F.mse_loss(pixels.detach(), x)
        metrics = {"psnr": -10 * (plain / 4).log10(), "commitment": quantized.loss.detach()}
        return focused_error(pixels, x, self.config.focus) + quantized.loss, metrics

    @torch.no_grad()
    def begin(self, frames: UInt8[Tensor, "b t h w c"]) -> None:
        """Before training: start from the principal components of these frames' patches (see `LinearPatches`) and the
        means among these, so that the first step already has tokens worth decoding."""
        self._check_frames(frames)
        x = to_float(frames)
        self.linear.begin(x)
        z = self.linear.encode(x)  # all there is to a vector, as the encoder's last convolution starts at zero
        self.quantizer.begin(z.movedim(1, -1).flatten(0, -2))

    def _vectors(self, x: Float[Tensor, "b c t h w"], past: Past) -> tuple[Float[Tensor, "b d s y x"], Past]:
        """To be quantised: what the encoder adds to the patches of each latent's last frame."""
        z, after = self.encoder(x, past)
        stride = self.config.time_stride
        return z + self.linear.encode(x[:, :, (0 if past is None else stride - 1) :: stride]), after

    def _pixels(self, z: Float[Tensor, "b d s y x"], past: Past) -> tuple[Float[Tensor, "b c t h w"], Past]:
        """What the decoder adds to the patches of each latent, the same in all of its frames."""
        pixels, after = self.decoder(z, past)
        patches = self.linear.decode(z).repeat_interleave(self.config.time_stride, dim=2)
        return pixels + patches[:, :, -pixels.shape[2] :], after

    def _check_frames(self, frames: Tensor) -> None:
        if tuple(frames.shape[2:]) != self.frame_shape:
            raise ValueError(f"expected frames of shape {self.frame_shape}, got {tuple(frames.shape[2:])}")

    def _check_tokens(self, tokens: Tensor) -> None:
        if tuple(tokens.shape[2:]) != self.grid:
            raise ValueError(f"expected tokens on a grid of {self.grid}, got {tuple(tokens.shape[2:])}")
        codes = self.config.quantizer.codes
        if tokens.numel() and (tokens.min() < 0 or tokens.max() >= codes):
            raise ValueError(f"expected tokens in [0, {codes}), got {int(tokens.min())} to {int(tokens.max())}")


def focused_error(
    pixels: Float[Tensor, "b c t h w"], truth: Float[Tensor, "b c t h w"], focus: float
) -> Float[Tensor, ""]:
    """Mean squared error in which a pixel weighs as the `focus`-th power of its own error, with weights of mean 1.

    The plain mean is the average over a scene that mostly is wall and floor, and whatever is small (a monster of a
    few pixels) is cheapest left out; so hard pixels weigh more, as hard classes do in focal loss (arXiv 1708.02002).
    """
    error = (pixels - truth).square().mean(1)  # over colours: a pixel is hard as a whole
    if not focus:
        return error.mean()
    weight = error.detach().clamp_min(1e-12) ** (focus / 2)
    return (error * weight).mean() / weight.mean()


def to_float(frames: UInt8[Tensor, "b t h w c"]) -> Float[Tensor, "b c t h w"]:
    """uint8 frames at the door → float in [-1, 1] inside."""
    return frames.float().div(127.5).sub(1).movedim(-1, 1)


def to_uint8(pixels: Float[Tensor, "b c t h w"]) -> UInt8[Tensor, "b t h w c"]:
    """The inverse of `to_float`, rounded and clipped."""
    return pixels.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).movedim(1, -1).contiguous()

"""How good a tokenizer is: decoded against real frames, its use of the codes, and the bits of its
tokens."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from worldmodel.evaluate.measures.images import FrameMetric
from worldmodel.evaluate.statistics.results import Interval, Section, absent, exact
from worldmodel.evaluate.testbed.held_out import BATCH, HeldOut
from worldmodel.interfaces import Tokenizer
from worldmodel.io.video import contact_sheet

SHOWN = 8  # clips in the image, the last frame of each


def fidelity(tokenizer: Tokenizer, clips: HeldOut, frame_metrics: Mapping[str, FrameMetric]) -> Section:
    """How similar decoded and real clips are, over all frames and by frame of the clip; perplexity
    and usage of the codes; bits of a frame's tokens and of its pixels."""
    tokens, decoded = encode_decode(tokenizer, clips.frames)
    codes = tokenizer.codes
    resampler = clips.resampler
    section = Section(size(tokenizer.frame_shape, tokenizer.grid, codes, tokenizer.time_stride))
    for name, frame_metric in frame_metrics.items():
        values = clips.unit_means(frame_metric.per_frame(decoded, clips.frames))
        steps = range(1, 1 + values.shape[1])
        section.metrics[name] = resampler.interval(frame_metric.display, values.mean(1))
        section.metrics[f"{name}_first_frame"] = resampler.interval(frame_metric.display, values[:, 0])
        section.curves[f"{name}_by_frame"] = resampler.curve(steps, frame_metric.display, values)
    counts = clips.unit_means(uses(tokens, codes))
    few = f"{tokens.numel()} tokens cannot use all {codes} codes" if tokens.numel() < codes else ""
    section.metrics |= {
        "perplexity": resampler.bias_corrected(perplexities, counts),
        "usage": resampler.bias_corrected(usage, counts).unless(few),
    }
    section.images["real frames, and decoded from their tokens"] = _sheet(clips.frames, decoded)
    return section


def encode_decode(
    tokenizer: Tokenizer, frames: UInt8[Tensor, "n t h w c"]
) -> tuple[Int[Tensor, "n s y x"], UInt8[Tensor, "n t h w c"]]:
    """The tokens of clips, and the frames decoded from these; on the CPU."""
    device = tokenizer.device
    tokens = [tokenizer.encode(part.to(device)) for part in frames.split(BATCH)]
    decoded = [tokenizer.decode(part).cpu() for part in tokens]
    return torch.cat(tokens).cpu(), torch.cat(decoded)


def size(frame_shape: tuple[int, ...], grid: tuple[int, int], codes: int, time_stride: int) -> dict[str, Interval]:
    """Bits of a frame as pixels, as tokens at log2 K bits each, and the ratio of the two.

    In the VQ-VAE paper, 128×128×3 pixels become 32×32 codes of 512: a ratio of 42.6 (arXiv
    1711.00937, section 4.2).
    """
    raw = 8 * math.prod(frame_shape)
    tokens = math.prod(grid) * math.log2(codes) / time_stride
    fewer = exact(raw / tokens) if tokens else absent("a single code needs no bits")
    return {"raw_bits_per_frame": exact(raw), "token_bits_per_frame": exact(tokens), "compression": fewer}


def uses(tokens: Int[Tensor, "n s y x"], codes: int) -> Float[np.ndarray, "n k"]:
    """How often each code occurs in each clip."""
    return np.stack([np.bincount(clip.flatten().numpy(), minlength=codes) for clip in tokens]).astype(np.float64)


def perplexities(counts: Float[np.ndarray, "*r k"]) -> np.ndarray:
    """Exponential of the entropy of the code frequencies: the effective number of codes."""
    share = counts / counts.sum(-1, keepdims=True)
    return np.exp(-(share * np.log(np.where(share > 0, share, 1.0))).sum(-1))


def usage(counts: Float[np.ndarray, "*r k"]) -> np.ndarray:
    """Share of the codes that occur."""
    return (counts > 0).mean(-1)


def _sheet(frames: UInt8[Tensor, "n t h w c"], decoded: UInt8[Tensor, "n t h w c"]) -> UInt8[np.ndarray, "H W 3"]:
    """The last frames of some clips, above the decoded ones."""
    shown = np.unique(np.linspace(0, len(frames) - 1, SHOWN).round().astype(int))
    rows = [video[shown, -1] for video in (frames, decoded)]
    return contact_sheet(rows, ["real", "decoded"], SHOWN, [f"clip {i + 1}" for i in shown])

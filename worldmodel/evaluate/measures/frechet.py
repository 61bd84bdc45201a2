"""How far imagined clips are from real ones as a set: the Fréchet distance between features of
both."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from worldmodel.evaluate.statistics.bootstrap import Resampler, bounds
from worldmodel.evaluate.statistics.results import Interval
from worldmodel.interfaces import Tokenizer
from worldmodel.io.untrusted import check_regular

Features = Callable[[Tensor], np.ndarray]  # uint8 clips `n t h w c` → `n d`

DRAWS = 200  # of the bootstrap: each takes a matrix root
BATCH = 8  # clips in one pass


def frechet(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """|μ₁ − μ₂|² + tr(C₁ + C₂ − 2 (C₁ C₂)^½): squared Wasserstein-2 distance of the normal
    distributions with these means and covariances (Dowson & Landau 1982; Heusel et al. 2017, arXiv
    1706.08500).

    Few samples make it too large: compare sets of one size only.
    """
    means, covariances = zip(*((x.mean(0), np.atleast_2d(np.cov(x, rowvar=False))) for x in (a, b)), strict=True)
    values, vectors = np.linalg.eigh(covariances[0])
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.linalg.eigvalsh(root @ covariances[1] @ root)  # those of C₁ C₂, of a symmetric matrix
    shared = np.sqrt(cross.clip(0)).sum()
    apart = np.square(means[0] - means[1]).sum()
    return float(apart + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * shared)


def frechet_interval(
    resampler: Resampler, a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "n d"], seed: int = 0
) -> Interval:
    """The distance with its bootstrap interval; each draw takes the same clips of both sets.

    The bootstrap's own bias, which is large here, is taken out.
    """
    distance = frechet(a, b)
    draws = np.array([frechet(a[rows], b[rows]) for rows in resampler.rows(DRAWS, seed)])
    low, high = bounds(draws) + distance - draws.mean()
    return Interval(distance, max(0.0, float(low)), float(high), len(resampler), resampler.name)


def encoder_features(tokenizer: Tokenizer, real: UInt8[Tensor, "m t h w c"]) -> Features:
    """Mean and standard deviation over a clip of each channel of the tokenizer's encoder.

    Each entry is standardized by those of `real` clips: without this, the unit of distances would
    depend on the encoder. The encoder belongs to the world under test, so this is no FVD: it sees
    only what that world sees.
    """

    @torch.no_grad()
    def extract(frames: UInt8[Tensor, "n t h w c"]) -> np.ndarray:
        parts = []
        for part in frames.split(BATCH):
            z = tokenizer.features(part.to(tokenizer.device))
            parts.append(torch.cat([z.mean((2, 3, 4)), z.std((2, 3, 4))], dim=1).double().cpu().numpy())
        return np.concatenate(parts)

    known = extract(real)
    return lambda frames: standardized(extract(frames), known)


def standardized(features: Float[np.ndarray, "n d"], real: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n d"]:
    """Minus the mean of the real features, over their deviation (1 if it is 0)."""
    deviation = real.std(0)
    return (features - real.mean(0)) / np.where(deviation > 0, deviation, 1)


def i3d_features(path: str | Path) -> Features:
    """The 400 logits of I3D, the features of FVD (Unterthiner et al. 2018, arXiv 1812.01717).

    path: the TorchScript file `i3d_torchscript.pt` that StyleGAN-V and others use; it takes clips
    in grey levels and resizes them. Such a file is a program: use only one that you trust.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the file exists in no newer format than TorchScript
        check_regular(path)
        network = torch.jit.load(str(path), map_location="cpu").eval()

    @torch.no_grad()
    def extract(frames: UInt8[Tensor, "n t h w c"]) -> np.ndarray:
        options = {"rescale": True, "resize": True, "return_features": True}
        parts = [network(part.movedim(-1, 1).float(), **options) for part in frames.split(BATCH)]
        return torch.cat(parts).double().numpy()

    return extract

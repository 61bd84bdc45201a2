"""How similar two videos are, frame by frame: squared error and PSNR, SSIM, and LPIPS if its
weights are given."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from worldmodel.evaluate.statistics.bootstrap import Statistic, identity
from worldmodel.io.tensors_file import load_tensors
from worldmodel.tokenizer.vqvae import to_float

SIGMA, RADIUS = 1.5, 5  # pixels: width of SSIM's Gaussian window, and where it is cut
K1, K2 = 0.01, 0.03  # of SSIM, in shares of the 255 grey levels: they prevent division by 0 in dark and flat places


def psnr(error: float | np.ndarray) -> float | np.ndarray:
    """Decibels of a mean squared error of 8-bit pixels.

    Average errors, never decibels: a perfectly predicted frame has infinitely many."""
    return 10 * np.log10(255.0**2 / np.maximum(error, 1e-10))


def squared_error(a: UInt8[Tensor, "b t h w c"], b: UInt8[Tensor, "b t h w c"]) -> Float[np.ndarray, "b t"]:
    """Mean squared error of each frame, in squared grey levels."""
    return (a.double() - b.double()).square().mean((2, 3, 4)).cpu().numpy()


def ssim(a: UInt8[Tensor, "b t h w c"], b: UInt8[Tensor, "b t h w c"]) -> Float[np.ndarray, "b t"]:
    """Structural similarity of each frame (Wang et al. 2004), mean over its colors; 1 for equal
    frames.

    The paper's Gaussian window, at all places where it lies inside the frame. scikit-image computes
    the same with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255`.

    Raises: ValueError for frames that are smaller than the window.
    """
    if min(a.shape[2:4]) < 2 * RADIUS + 1:
        raise ValueError(f"ssim: expected frames of {2 * RADIUS + 1} pixels a side or more, got {tuple(a.shape[2:4])}")
    x, y = (video.movedim(-1, 2).double() for video in (a, b))
    rows, columns = (_window(size).to(x.device) for size in x.shape[-2:])

    def blur(image: Tensor) -> Tensor:
        return rows @ image @ columns.T

    mx, my = blur(x), blur(y)
    vx, vy, both = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    score = (2 * mx * my + c1) * (2 * both + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return score.mean((2, 3, 4)).cpu().numpy()


def _window(size: int) -> Float[Tensor, "m n"]:
    """A row of Gaussian weights for each place where the window fits into `size` pixels: a blur is
    a matrix product."""
    weights = torch.exp(-0.5 * (torch.arange(-RADIUS, RADIUS + 1).double() / SIGMA) ** 2)
    rows = torch.zeros(size - 2 * RADIUS, size, dtype=torch.float64)
    for i, row in enumerate(rows):
        row[i : i + 2 * RADIUS + 1] = weights / weights.sum()
    return rows


class Lpips:
    """Learned perceptual distance of frames by AlexNet's features (Zhang et al. 2018, arXiv
    1801.03924); 0 if equal.

    The weights may not be distributed with this package. Make the file once with the packages
    `lpips` and `safetensors.torch`: `save_file({k: v.clone() for k, v in
    lpips.LPIPS(net="alex").state_dict().items()}, path)`.
    """

    # Name, stride, padding of each convolution; the input of POOLED is max-pooled.
    LAYERS = (("slice1.0", 4, 2), ("slice2.3", 1, 2), ("slice3.6", 1, 1), ("slice4.8", 1, 1), ("slice5.10", 1, 1))
    POOLED = ("slice2.3", "slice3.6")
    SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of colors in [-1, 1], as AlexNet expects

    def __init__(self, path: str | Path):
        """Raises: ValueError if the file does not hold these weights."""
        try:
            found = load_tensors(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: expected a safetensors file with LPIPS' weights: {error}") from error
        names = [f"net.{name}.{kind}" for name, _, _ in self.LAYERS for kind in ("weight", "bias")]
        names += [f"lin{i}.model.1.weight" for i in range(len(self.LAYERS))]
        if missing := [name for name in names if name not in found]:
            raise ValueError(f"{path}: expected the weights of lpips.LPIPS(net='alex'), but {missing[0]} is missing")
        self.weights = {name: found[name].float() for name in names}

    @torch.no_grad()
    def __call__(self, a: UInt8[Tensor, "b t h w c"], b: UInt8[Tensor, "b t h w c"]) -> Float[np.ndarray, "b t"]:
        total = torch.zeros(a.shape[0] * a.shape[1])
        for i, (x, y) in enumerate(zip(self._features(a), self._features(b), strict=True)):
            total += F.conv2d((x - y).square(), self.weights[f"lin{i}.model.1.weight"]).mean((1, 2, 3))
        return total.view(a.shape[:2]).double().numpy()

    def _features(self, frames: UInt8[Tensor, "b t h w c"]) -> list[Tensor]:
        """The features of each layer, `n c y x`, of length one over the channels."""
        shift, scale = (torch.tensor(x)[:, None, None] for x in (self.SHIFT, self.SCALE))
        colors = to_float(frames.cpu()).transpose(1, 2).flatten(0, 1).expand(-1, 3, -1, -1)  # grey three times
        x, found = (colors - shift) / scale, []
        for name, stride, padding in self.LAYERS:
            x = F.max_pool2d(x, 3, 2) if name in self.POOLED else x
            weight, bias = self.weights[f"net.{name}.weight"], self.weights[f"net.{name}.bias"]
            x = F.conv2d(x, weight, bias, stride, padding).relu()
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found


@dataclass(frozen=True)
class FrameMetric:
    """One way to compare videos.

    compare: uint8 `b t h w c` twice → a number for each frame, `b t`. display: from means of these
    to what a report shows. sign: −1 if smaller displayed values are more similar.
    """

    compare: Callable[[Tensor, Tensor], np.ndarray]
    display: Statistic = identity
    sign: int = 1

    def per_frame(self, a: UInt8[Tensor, "b t h w c"], b: UInt8[Tensor, "b t h w c"]) -> Float[np.ndarray, "b t"]:
        """The numbers to average, clip by clip: float64 copies of all clips would fill the
        memory."""
        return np.concatenate([self.compare(x[None], y[None]) for x, y in zip(a, b, strict=True)])

    def gain(self, mine: np.ndarray, other: np.ndarray) -> np.ndarray:
        """How much more similar the first of two means is than the second, in displayed units."""
        return self.sign * (self.display(mine) - self.display(other))


def make_frame_metrics(lpips: Path | None = None, frame_shape: tuple[int, ...] | None = None) -> dict[str, FrameMetric]:
    """PSNR, SSIM for frames that are not smaller than its window, and LPIPS if its weights are
    given.

    Raises: ValueError if the file `lpips` does not hold them.
    """
    found = {"psnr": FrameMetric(squared_error, lambda error: np.asarray(psnr(error)))}
    if frame_shape is None or min(frame_shape[:2]) > 2 * RADIUS:
        found["ssim"] = FrameMetric(ssim)
    return found if lpips is None else found | {"lpips": FrameMetric(Lpips(lpips), sign=-1)}

"""Likeness of frames: against values computed by hand, scikit-image, and the layers of PyTorch."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from skimage.metrics import structural_similarity
from torch import nn

from tests.helpers_models import random_frames
from worldmodel.evaluate import psnr, squared_error, ssim
from worldmodel.evaluate.measures.images import Lpips, make_frame_metrics


def test_psnr_and_squared_error_are_those_computed_by_hand():
    a, b = torch.zeros(1, 2, 2, 2, 3, dtype=torch.uint8), torch.zeros(1, 2, 2, 2, 3, dtype=torch.uint8)
    b[0, 1] = 51
    error = squared_error(a, b)
    assert error.tolist() == [[0.0, 2601.0]]
    assert psnr(error[0, 1]) == pytest.approx(20 * math.log10(255 / 51)) and np.isfinite(psnr(error[0, 0]))


@pytest.mark.parametrize("noise", [0, 3, 60])
def test_ssim_is_that_of_scikit_image(noise):
    rng = np.random.default_rng(noise)
    a = (120 + 100 * np.sin(np.arange(14)[:, None, None] / 3 + np.arange(23)[:, None] / 5 + np.arange(3))).astype(
        np.uint8
    )
    b = (a + rng.normal(0, noise, a.shape)).clip(0, 255).astype(np.uint8)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    expected = structural_similarity(a, b, channel_axis=2, **settings)
    assert ssim(*(torch.from_numpy(x)[None, None] for x in (a, b)))[0, 0] == pytest.approx(expected, abs=1e-9)


def test_ssim_of_flat_frames_is_what_the_formula_leaves_and_small_frames_are_refused():
    a, b = (torch.full((1, 1, 11, 12, 3), level, dtype=torch.uint8) for level in (100, 150))
    c1 = 2.55**2
    assert ssim(a, b)[0, 0] == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1))
    with pytest.raises(ValueError, match="11 pixels a side"):
        ssim(a[:, :, :10], b[:, :, :10])


class Lin(nn.Module):
    """A layer of `lpips.LPIPS`, whose names the file has."""

    def __init__(self, width: int):
        super().__init__()
        self.model = nn.Sequential(nn.Dropout(), nn.Conv2d(width, 1, 1, bias=False))


class Reference(nn.Module):
    """The network of `lpips.LPIPS(net="alex")`, thin: same names, same strides."""

    def __init__(self) -> None:
        super().__init__()
        relu, pool = nn.ReLU(), nn.MaxPool2d(3, 2)
        convs = [nn.Conv2d(3, 4, 11, 4, 2), nn.Conv2d(4, 6, 5, 1, 2), nn.Conv2d(6, 8, 3, 1, 1)]
        convs += [nn.Conv2d(8, 5, 3, 1, 1), nn.Conv2d(5, 5, 3, 1, 1)]
        layers = [convs[0], relu, pool, convs[1], relu, pool, convs[2], relu, convs[3], relu, convs[4], relu]
        self.net = nn.Module()
        for i, (start, stop) in enumerate([(0, 2), (2, 5), (5, 8), (8, 10), (10, 12)], start=1):
            part = nn.Sequential()
            for j in range(start, stop):
                part.add_module(str(j), layers[j])
            self.net.add_module(f"slice{i}", part)
        for i, conv in enumerate(convs):
            self.add_module(f"lin{i}", Lin(conv.out_channels))

    @torch.no_grad()
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        x, y = (((v / 127.5 - 1) - shift).div(scale).permute(0, 3, 1, 2) for v in (a.float(), b.float()))
        total = torch.zeros(len(a))
        for i in range(5):
            x, y = (self.net.get_submodule(f"slice{i + 1}")(v) for v in (x, y))
            unit = [v / (v.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for v in (x, y)]
            total += self.get_submodule(f"lin{i}.model.1")((unit[0] - unit[1]) ** 2).mean((1, 2, 3))
        return total


def test_lpips_is_what_its_network_gives_layer_by_layer(tmp_path):
    reference = Reference()
    save_file(reference.state_dict(), tmp_path / "lpips.safetensors")
    measure = make_frame_metrics(tmp_path / "lpips.safetensors")["lpips"]
    a, b = random_frames(2, 3, (48, 64, 3), seed=1), random_frames(2, 3, (48, 64, 3), seed=2)
    expected = reference(a.flatten(0, 1), b.flatten(0, 1)).view(2, 3)
    assert np.allclose(measure.per_frame(a, b), expected, atol=1e-6) and expected.abs().min() > 1e-5
    assert not measure.per_frame(a, a).any() and measure.gain(np.array([0.1]), np.array([0.3])) == pytest.approx(0.2)


def test_lpips_refuses_a_file_that_lacks_a_weight_and_names_it(tmp_path):
    weights = Reference().state_dict()
    del weights["lin3.model.1.weight"]
    save_file(weights, tmp_path / "lpips.safetensors")
    with pytest.raises(ValueError, match=r"lin3\.model\.1\.weight is missing"):
        Lpips(tmp_path / "lpips.safetensors")

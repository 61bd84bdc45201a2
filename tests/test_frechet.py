"""The Fréchet distance against its closed form, and what it measures."""

import numpy as np
import pytest
import torch

from tests.helpers_models import random_frames, small_tokenizer
from worldmodel.evaluate.measures.frechet import encoder_features, frechet, frechet_interval, i3d_features, standardized
from worldmodel.evaluate.statistics.bootstrap import Resampler


def spread(*deviations: float) -> np.ndarray:
    """A set whose mean is nought and whose covariance is diagonal, with these standard deviations, exactly."""
    signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    return signs * np.array(deviations) * np.sqrt(3 / 4)


def test_the_distance_of_axis_aligned_sets_is_that_of_means_and_deviations():
    a, b = spread(1.0, 4.0), np.array([3.0, -1.0]) + spread(2.0, 1.5)
    assert frechet(a, b) == pytest.approx(3**2 + 1**2 + (1 - 2) ** 2 + (4 - 1.5) ** 2)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_in_one_dimension_it_is_the_difference_of_means_and_of_deviations_squared():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (40, 1)), rng.normal(2, 3, (40, 1))
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet(a, b) == pytest.approx(expected)


def test_it_is_symmetric_and_does_not_change_when_both_sets_turn():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(30, 4)) @ rng.normal(size=(4, 4)), rng.normal(size=(30, 4))
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    assert frechet(a, b) == pytest.approx(frechet(b, a)) == pytest.approx(frechet(a @ turn, b @ turn))


def test_more_features_than_samples_give_a_finite_distance():
    rng = np.random.default_rng(2)
    assert 0 < frechet(rng.normal(size=(5, 12)), rng.normal(size=(5, 12))) < 100


def test_the_interval_holds_the_value_and_tells_near_from_far():
    rng = np.random.default_rng(3)
    real, near = rng.normal(size=(60, 3)), rng.normal(size=(60, 3))
    found, far = (frechet_interval(Resampler.by_row(60, "clips"), each, real) for each in (near, near + 2))
    assert found.low <= found.mean <= found.high < far.low <= far.mean and found.count == 60


def test_features_are_measured_in_deviations_of_the_real_ones_from_their_mean():
    real = np.array([[1.0, 5.0, 0.0], [3.0, 5.0, 0.002]])  # means 2, 5, 0.001; deviations 1, none, 0.001
    assert standardized(np.array([[4.0, 5.5, 0.003]]), real).tolist() == [pytest.approx([2, 0.5, 2])]
    small = 0.001 * spread(1.0, 4.0)
    apart = frechet(standardized(small + np.array([0.003, 0]), small), standardized(small, small))
    assert apart == pytest.approx(0.003**2 / (0.001**2 * 3 / 4))  # 3 thousandths, of which 1 is a deviation


def test_features_of_the_encoder_see_each_clip_alone_and_tell_videos_apart():
    frames = random_frames(9, 4)
    look = encoder_features(small_tokenizer(), frames)
    features = look(frames)
    assert features.shape == (9, 10) and np.allclose(look(frames[3:4]), features[3:4], atol=1e-4)
    assert features.mean(0) == pytest.approx(0) and features.std(0) == pytest.approx(1)
    assert frechet(features, look(frames // 4)) > frechet(features, look(frames.flip(2)))


class Kinetics(torch.nn.Module):
    """A network with the face of the published I3D file: clips `n c t h w` in grey levels."""

    def forward(self, x, rescale: bool = False, resize: bool = False, return_features: bool = False):
        assert rescale and resize and return_features
        return torch.cat([x.mean((2, 3, 4)), x[:, :, -1].mean((2, 3)) - x[:, :, 0].mean((2, 3))], dim=1)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of making the file; reading it warns nobody
def test_i3d_is_read_from_its_file_and_sees_grey_levels_in_time(tmp_path):
    torch.jit.script(Kinetics()).save(str(tmp_path / "i3d.pt"))
    frames = torch.zeros(10, 4, 8, 8, 3, dtype=torch.uint8)
    frames[:, -1] = torch.tensor([10, 20, 30], dtype=torch.uint8)
    features = i3d_features(tmp_path / "i3d.pt")(frames)
    assert features[7].tolist() == [2.5, 5.0, 7.5, 10.0, 20.0, 30.0]

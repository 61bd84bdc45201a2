"""Laws of intervals of functions of means."""

import numpy as np
import pytest
import torch

from worldmodel.evaluate.statistics.bootstrap import bounds, curve, identity, interval, ratio, resampled
from worldmodel.evaluate.testbed.dream_clips import decibels, errors, gain


def test_resampled_means_are_those_of_whole_rows():
    values = np.array([[0.0, 0.0], [1.0, 10.0], [2.0, 20.0]])
    draws = resampled(values)
    np.testing.assert_allclose(draws[:, 1], 10 * draws[:, 0])  # a row is drawn whole
    assert set(np.round(draws[:, 0] * 3).astype(int)) == set(range(7))
    assert draws[:, 0].var() == pytest.approx(values[:, 0].var() / 3, rel=0.05)


def test_what_two_methods_share_cancels_in_a_paired_interval():
    hard = np.random.default_rng(0).uniform(1, 1000, 30)
    found = interval(lambda a, b: b - a, hard, hard + 2.0)
    assert found.low == pytest.approx(2) and found.high == pytest.approx(2) and found.count == 30
    assert interval(ratio, 3 * hard, hard).high == pytest.approx(3)


def test_an_interval_is_that_of_the_normal_distribution_where_there_are_many():
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = interval(identity, values)
    error = values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.02
    )


def test_a_curve_has_the_interval_of_each_of_its_steps():
    a, b = np.random.default_rng(2).uniform(1, 9, (2, 12, 3))
    drawn = curve([2, 4, 8], gain, a, b)
    for i in range(3):
        alone = interval(gain, a[:, i], b[:, i])
        assert (drawn.mean[i], drawn.low[i], drawn.high[i]) == pytest.approx((alone.mean, alone.low, alone.high))
    assert drawn.steps == (2, 4, 8) and drawn.count == 12


def test_gain_is_the_difference_in_decibels_and_nothing_over_nothing_is_one():
    assert gain(np.array([100.0]), np.array([10.0])) == pytest.approx(10)
    assert decibels(np.array([255.0**2])) == pytest.approx(0)
    assert ratio(np.array([0.0, 4.0]), np.array([0.0, 2.0])).tolist() == [1, 2]
    assert bounds(np.arange(1001.0)) == pytest.approx([25, 975])


def test_errors_are_those_of_each_frame_of_each_clip():
    video = torch.zeros(2, 3, 2, 5, 3, dtype=torch.uint8)
    truth = video.clone()
    truth[1, 2] = 3
    assert errors(video, truth).tolist() == [[0, 0, 0], [0, 0, 9]]

"""Laws of intervals of functions of means, of clips that are independent and of clips that share episodes."""

import numpy as np
import pytest
import torch

from worldmodel.evaluate.statistics.bootstrap import RESAMPLES, Resampler, bounds, identity, ratio
from worldmodel.evaluate.testbed.dream_clips import decibels, errors, gain

THIRTY = Resampler.by_row(30, "clips")


def width(interval) -> float:
    return interval.high - interval.low


def test_resampled_means_are_those_of_whole_rows():
    values = np.array([[0.0, 0.0], [1.0, 10.0], [2.0, 20.0]])
    draws = Resampler.by_row(3, "clips").means(values)
    np.testing.assert_allclose(draws[:, 1], 10 * draws[:, 0])  # a row is drawn whole
    assert set(np.round(draws[:, 0] * 3).astype(int)) == set(range(7))
    assert draws[:, 0].var() == pytest.approx(values[:, 0].var() / 3, rel=0.05)


def test_what_two_methods_share_cancels_in_a_paired_interval():
    hard = np.random.default_rng(0).uniform(1, 1000, 30)
    found = THIRTY.interval(lambda a, b: b - a, hard, hard + 2.0)
    assert found.low == pytest.approx(2) and found.high == pytest.approx(2) and found.count == 30
    assert THIRTY.interval(ratio, 3 * hard, hard).high == pytest.approx(3)


def test_an_interval_is_that_of_the_normal_distribution_where_there_are_many():
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = Resampler.by_row(400, "clips").interval(identity, values)
    error = values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    expected = (values.mean() - 1.96 * error, values.mean() + 1.96 * error)
    assert (found.low, found.high) == pytest.approx(expected, abs=0.02)


def test_a_curve_has_the_interval_of_each_of_its_steps():
    a, b = np.random.default_rng(2).uniform(1, 9, (2, 12, 3))
    twelve = Resampler.by_row(12, "clips")
    drawn = twelve.curve([2, 4, 8], gain, a, b)
    for i, step in enumerate((2, 4, 8)):
        alone = twelve.interval(gain, a[:, i], b[:, i])
        assert (drawn.mean[i], drawn.low[i], drawn.high[i]) == pytest.approx((alone.mean, alone.low, alone.high))
        assert (drawn.at(step).count, drawn.at(step).resampled) == (12, "clips")
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


# --- clips of the same episodes


def test_clips_that_are_repeated_within_their_episodes_make_no_interval_narrower():
    values, episodes = np.random.default_rng(3).normal(size=24), np.repeat(np.arange(8), 3)
    once = Resampler.by_episode(episodes)
    often = Resampler.by_episode(np.repeat(episodes, 10))
    for each in ("interval", "bias_corrected"):
        a, b = getattr(once, each)(identity, values), getattr(often, each)(identity, np.repeat(values, 10))
        assert (b.mean, b.low, b.high) == pytest.approx((a.mean, a.low, a.high))
        assert (b.count, b.resampled) == (8, "episodes")
    naive = Resampler.by_row(240, "clips").interval(identity, np.repeat(values, 10))
    assert width(naive) < width(once.interval(identity, values)) / 2


def test_with_one_clip_an_episode_the_interval_is_that_of_independent_clips():
    a, b = np.random.default_rng(4).uniform(1, 9, (2, 30))
    episodes = np.random.default_rng(5).permutation(30)
    by_episode, by_clip = (each.interval(gain, a, b) for each in (Resampler.by_episode(episodes), THIRTY))
    assert (by_episode.low, by_episode.high) == pytest.approx((by_clip.low, by_clip.high))
    # Multinomial weights of the rows, as before there were units:
    weights = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=RESAMPLES) / 30
    assert (by_clip.low, by_clip.high) == pytest.approx(tuple(bounds(gain(weights @ a, weights @ b))))


def test_the_mean_is_that_of_all_clips_however_they_are_drawn():
    values, episodes = np.random.default_rng(6).normal(size=20), np.random.default_rng(7).integers(6, size=20)
    assert Resampler.by_episode(episodes).interval(identity, values).mean == pytest.approx(values.mean())


def test_intervals_of_strongly_correlated_clips_hold_the_truth_in_95_of_100_cases_and_naive_ones_do_not():
    rng, episodes = np.random.default_rng(8), np.repeat(np.arange(40), 6)

    def coverage(resampler: Resampler, cases: int) -> float:
        columns = [rng.normal(size=40).repeat(6) + 0.3 * rng.normal(size=240) for _ in range(cases)]
        drawn = resampler.curve(range(cases), identity, np.stack(columns, axis=1))
        return float(np.mean([low <= 0 <= high for low, high in zip(drawn.low, drawn.high, strict=True)]))

    assert 0.92 <= coverage(Resampler.by_episode(episodes), 500) <= 0.97
    assert coverage(Resampler.by_row(240, "clips"), 100) < 0.7


def test_below_five_episodes_rows_are_drawn_and_the_name_says_so():
    few, enough = Resampler.by_episode([0, 0, 1, 2, 3, 3], "dreams"), Resampler.by_episode([0, 0, 1, 2, 3, 4], "dreams")
    assert (len(few), few.name, len(enough), enough.name) == (6, "dreams", 5, "episodes")


def test_draws_of_rows_take_whole_episodes():
    resampler = Resampler.by_episode([7, 7, 3, 9, 9, 9, 1, 2])
    for rows in resampler.rows(20, seed=0):
        counts = np.bincount(rows, minlength=8)
        assert counts[0] == counts[1] and counts[3] == counts[4] == counts[5]
        assert counts[[0, 2, 3, 6, 7]].sum() == 5


def test_means_of_large_values_are_computed_in_blocks_with_the_same_result(monkeypatch):
    values = np.random.default_rng(9).normal(size=(30, 7))
    whole = THIRTY.means(values)
    monkeypatch.setattr("worldmodel.evaluate.statistics.bootstrap.BLOCK_NUMBERS", 100)
    np.testing.assert_allclose(THIRTY.means(values), whole)

"""Drift: numbers against those by hand; a world that is true stays true, one that freezes or collapses is caught."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.helpers_dreams import Blank, Frozen, TrueMaze, maze_store, maze_tokens, noise_store
from tests.helpers_models import small_world
from worldmodel.evaluate.measures import token_statistics
from worldmodel.evaluate.measures.frames import nearest, sharpness
from worldmodel.evaluate.measures.token_statistics import place_counts, place_entropy, real_level, set_means
from worldmodel.evaluate.sections.drift import DriftConfig, drift
from worldmodel.evaluate.testbed.dream_clips import DreamSettings
from worldmodel.evaluate.testbed.dream_trace import trace_dreams
from worldmodel.evaluate.testbed.real_samples import real_frames, real_windows
from worldmodel.prior import SamplerConfig
from worldmodel.tokenizer import tokenize

SMALL = DriftConfig(dreams=16, steps=60, real_frames=64)
SHORT = DreamSettings(context=3)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return maze_store(tmp_path_factory.mktemp("maze") / "episodes", episodes=10, steps=40)


@pytest.fixture(scope="module")
def tokens(store, tmp_path_factory):
    return maze_tokens(tmp_path_factory.mktemp("tokens") / "tokens", store)


def measured(world, store, tokens):
    return drift(world, store, tokens, [0, 1, 2, 3, 4, 5, 6], [7, 8, 9], SMALL, SHORT)


# --- by hand


def test_sharpness_is_the_mean_step_between_neighbouring_pixels_in_grey_levels():
    ramp = torch.arange(5, dtype=torch.uint8)[None, None, :, None].expand(1, 4, 5, 3).contiguous() * 10
    assert sharpness(ramp).tolist() == [5]  # 10 across, 0 down
    assert sharpness(torch.full((2, 4, 5, 3), 77, dtype=torch.uint8)).tolist() == [0, 0]


def test_tokens_that_change_are_counted_step_by_step():
    still = np.zeros((1, 3, 1, 2), int)
    moving = np.array([0, 0, 1, 0, 1, 2]).reshape(1, 3, 1, 2)  # one of two changes, then one of two
    assert token_statistics.changing(np.concatenate([still, moving])).tolist() == [0, 0.5]


def test_entropies_and_divergence_are_known_by_hand():
    share = token_statistics.histogram(np.array([[0, 0, 1, 2], [3, 3, 3, 3]]), codes=4)
    assert share.tolist() == [[0.5, 0.25, 0.25, 0], [0, 0, 0, 1]]
    assert token_statistics.entropy(share).tolist() == [1.5, 0]
    assert token_statistics.divergence(share, share[1]).tolist() == [1, 0]  # no code in common: one bit
    half = np.array([[0.5, 0.5]]), np.array([1.0, 0.0])
    expected = (0.5 * np.log2(0.5 / 0.75) + 0.5 * np.log2(0.5 / 0.25) + np.log2(1 / 0.75)) / 2
    assert token_statistics.divergence(*half) == pytest.approx(expected)


def test_the_level_of_real_samples_is_that_of_95_in_100_of_them():
    windows, reference = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0.5, 0.5])
    # 4 windows drawn from these two are all alike in 2 of 16 samples, which is more than 5 in 100.
    assert real_level(windows, 4, reference, seed=0) == token_statistics.divergence(windows[:1], reference)[0]
    assert real_level(windows[:1], 4, windows[0], seed=0) == 0
    many, few = (real_level(windows, count, reference, seed=0) for count in (400, 40))
    assert 0 < many < few / 5  # as one over the number of windows


def test_codes_are_compared_in_whole_sets_of_dreams_so_that_more_dreams_ask_for_no_more():
    shares = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert set_means(shares, 2).tolist() == [[0.5, 0.5], [1.0, 0.0]]  # the fifth belongs to no whole set
    assert set_means(shares, 5).tolist() == [[0.6, 0.4]]


def test_variety_within_a_frame_and_among_frames_are_different_things():
    alike = np.tile(np.arange(4).reshape(1, 1, 2, 2), (8, 3, 1, 1))  # each frame varied, all the same
    plain = np.repeat(np.arange(8), 12).reshape(8, 3, 2, 2)  # each frame of one code, each dream of its own
    one = np.zeros(8, int)  # all frames belong to one unit
    assert token_statistics.within_frames(alike, 8).tolist() == [2] * 8
    assert place_entropy(place_counts(alike[:, 0], one, 1, 8)).tolist() == [0]
    assert token_statistics.within_frames(plain, 8).tolist() == [0] * 8
    assert place_entropy(place_counts(plain[:, 0], one, 1, 8)).tolist() == [3]


def test_codes_are_counted_by_unit_and_place():
    tokens = np.array([[[0, 1]], [[0, 2]], [[2, 2]]])
    counts = place_counts(tokens, np.array([0, 1, 1]), 2, 3)
    assert counts[0].tolist() == [[1, 0, 0], [0, 1, 0]] and counts[1].tolist() == [[1, 0, 1], [0, 0, 2]]


def test_the_nearest_frame_is_the_one_that_a_full_search_finds(store):
    gallery, real = real_frames(store, [0, 1, 2, 3], 60, seed=0).frames, real_frames(store, [4, 5], 9, seed=1)
    frames = real.frames
    assert set(real.episodes) == {4, 5}
    full = (frames[:, None].double() - gallery[None].double()).square().mean((2, 3, 4)).min(1).values
    np.testing.assert_allclose(nearest(frames, gallery), full.numpy(), rtol=1e-5)
    assert nearest(gallery[:3], gallery).tolist() == [0, 0, 0]


def test_real_windows_lie_within_their_episodes(tokens):
    windows = real_windows(tokens, [2, 5], length=30, count=20, seed=0)
    assert windows.tokens.shape == (20, 30, 4, 4) and set(windows.episodes) == {2, 5}
    for episode, window in zip(windows.episodes, windows.tokens, strict=True):
        places = [tokens.tokens(episode)[start : start + 30] for start in range(12)]
        assert any(np.array_equal(window, place) for place in places)


# --- worlds whose answers are known


def test_a_true_world_neither_freezes_nor_collapses_and_stays_like_the_data(store, tokens):
    section = measured(TrueMaze(), store, tokens)
    metrics = section.metrics
    assert metrics["drift/frozen"].mean <= 0.2 and metrics["drift/collapsed"].mean <= 0.2
    assert metrics["drift/sharpness_60_over_10"].mean == pytest.approx(1, abs=0.3)
    assert metrics["drift/bits_60_over_10"].mean == 1 and metrics["drift/variety_60"].mean > 0.7
    assert section.curves["drift/sharpness"].steps == (10, 20, 50, 60)
    assert section.curves["drift/bits"].mean == pytest.approx([3] * 4)


def test_intervals_draw_the_episodes_of_the_contexts_and_of_the_real_frames(store, tokens):
    section = drift(TrueMaze(), store, tokens, [0, 1, 2, 3], [4, 5, 6, 7, 8, 9], replace(SMALL, steps=20), SHORT)
    drawn = {name: (metric.count, metric.resampled) for name, metric in section.metrics.items()}
    exact = {name for name, (_, resampled) in drawn.items() if not resampled}
    assert exact == {"drift/token_divergence_20_over_real"}
    assert {resampled for _, resampled in drawn.values()} == {"", "episodes"}
    assert drawn["drift/frozen_real"] == drawn["drift/variety_20"] == (6, "episodes")


def test_a_frozen_world_is_caught_and_a_collapsed_one_too(store, tokens):
    frozen = measured(Frozen(), store, tokens).metrics
    assert frozen["drift/frozen"].low == 1 and frozen["drift/frozen_real"].mean < 0.2
    assert frozen["drift/collapsed"].mean < 0.5
    blank = measured(Blank(good=15), store, tokens).metrics
    assert blank["drift/frozen"].low == blank["drift/collapsed"].low == 1
    assert blank["drift/collapsed_real"].mean < 0.2
    assert blank["drift/variety_60"].mean == 0 and blank["drift/sharpness_60_over_10"].high == 0
    assert blank["drift/token_divergence_60_over_real"].low > 2
    assert blank["drift/token_divergence@60"].low > 3 * blank["drift/token_divergence@10"].high


def test_the_divergence_of_real_tokens_is_the_floor(store, tokens):
    metrics = measured(TrueMaze(), store, tokens).metrics
    floor, early = metrics["drift/token_divergence_floor"], metrics["drift/token_divergence@10"]
    assert 0 < floor.low < floor.mean < floor.high < 0.2
    assert early.mean < 2 * floor.high
    late, over = metrics["drift/token_divergence@60"], metrics["drift/token_divergence_60_over_10"]
    assert over.mean == pytest.approx(late.mean / early.mean) and over.low <= over.mean <= over.high
    assert metrics["drift/token_divergence_60_over_real"].mean < 1


def test_a_dream_that_freezes_late_is_frozen_late(store, tokens):
    longer = replace(SMALL, steps=100)
    curve = drift(Blank(good=55), store, tokens, [0, 1, 2], [3, 4], longer, SHORT).curves["drift/frozen"]
    assert curve.steps == (50, 100) and curve.mean[0] < 0.3 and curve.mean[1] == 1


@pytest.mark.parametrize("stride", [1, 2])
def test_a_real_world_is_followed_through_its_latents(stride, tmp_path):
    world, config = small_world(stride), DriftConfig(dreams=9, steps=20, real_frames=5)
    store = noise_store(tmp_path / "episodes")
    options = {"dreams": 3, "context": 3, "moments": (10, 20), "sampler": SamplerConfig(), "seed": 0}
    trace = trace_dreams(world, store, [0, 1], **options)
    assert trace.tokens.shape == (3, 20, 2, 3) and trace.sharpness.shape == trace.bits.shape == (3, 20)
    assert trace.frames.shape == (2, 3, 16, 24, 3) and trace.video.shape[:2] == (20, 3)
    tokens = tokenize(world.tokenizer, store, tmp_path / "tokens", show=False)
    section = drift(world, store, tokens, [0], [1], config, SHORT)
    assert {(each.count, each.resampled) for each in section.curves.values()} == {(9, "dreams")}
    assert all(np.isfinite([x.mean, x.low, x.high]).all() for x in section.metrics.values())
    assert section.clips["drift/dreams"].shape == (20, 16, 4 * 24, 3)


def test_too_few_steps_to_compare_are_refused():
    with pytest.raises(ValueError, match="steps: expected at least 20"):
        DriftConfig(steps=19)
    assert DriftConfig(steps=1000).moments == (10, 20, 50, 100, 200, 500, 1000)

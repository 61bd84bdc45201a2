"""What is said of rewards and ends, against values computed by hand."""

import numpy as np
import pytest
import torch

from tests.helpers_evaluate import brightening, brightening_tokens, brightening_world
from tests.helpers_models import REWARDS
from worldmodel.data.clips.token_batches import TokenBatches
from worldmodel.evaluate.sections.reward_termination import (
    event_metrics,
    predict_outcomes,
    reward_metrics,
    reward_termination,
)
from worldmodel.evaluate.statistics.bootstrap import Resampler

FOUR = Resampler.by_row(4, "latents")


def test_events_predicted_rightly_predicted_wrongly_and_missed_are_counted_by_hand():
    chance, happened = np.array([0.9, 0.8, 0.1, 0.2]), np.array([True, False, True, False])
    found = event_metrics(FOUR, chance, happened)
    assert found["precision"].mean == found["recall"].mean == found["rate"].mean == 0.5
    assert found["count"].mean == 2 and found["mean_chance"].mean == pytest.approx(0.5)
    assert found["calibration_error"].mean == pytest.approx((0.1 + 0.8 + 0.9 + 0.2) / 4)  # each in a group of its own


def test_latents_of_one_episode_are_drawn_together_and_count_as_one_sample():
    rng = np.random.default_rng(0)
    happened = np.repeat(rng.random(20) < 0.5, 16)
    together = event_metrics(Resampler.by_episode(np.repeat(np.arange(20), 16)), np.full(320, 0.5), happened)["rate"]
    alone = event_metrics(Resampler.by_row(320, "latents"), np.full(320, 0.5), happened)["rate"]
    assert together.mean == pytest.approx(alone.mean) == happened.mean() and together.count == 20
    assert together.high - together.low > 3 * (alone.high - alone.low)  # √16 times, in the limit


def test_an_event_that_never_came_and_was_never_predicted_has_no_precision_and_no_recall():
    found = event_metrics(Resampler.by_row(20, "latents"), np.full(20, 0.01), np.zeros(20, bool))
    assert not found.keys() & {"precision", "recall"} and found["count"].mean == 0


def test_the_reward_is_explained_wholly_partly_or_not_at_all():
    rewards = np.array([0.0, 1.0, 0.0, 1.0])
    assert reward_metrics(FOUR, rewards, rewards)["reward_explained"].mean == 1
    assert reward_metrics(FOUR, np.full(4, 0.5), rewards)["reward_explained"].mean == pytest.approx(0)
    half = reward_metrics(FOUR, np.array([0.5, 1.0, 0.0, 1.0]), rewards)
    assert half["reward_rmse"].mean == pytest.approx(0.25) and half["reward_explained"].mean == pytest.approx(0.75)
    assert "reward_explained" not in reward_metrics(FOUR, rewards, np.ones(4))


def test_what_the_head_tells_is_of_every_real_latent_but_the_first_of_each_clip(tmp_path):
    world, store = brightening_world(rewards=REWARDS), brightening(tmp_path, episodes=6)
    batches = TokenBatches(brightening_tokens(world, store, tmp_path), store, range(6), length=4, batch_size=5, seed=0)
    found = predict_outcomes(world.prior, batches, count=2)
    real = torch.cat([batches[step].mask[:, 1:] for step in (0, 1)])
    assert len(found.table) == int(real.sum()) and found.table.sum((1, 2)) == pytest.approx(1)
    section = reward_termination(world.prior, batches, count=2)
    assert {"reward_rmse", "end_rate", "rare_reward_mean_chance"} <= set(section.metrics)
    assert all(np.isfinite([metric.low, metric.high]).all() for metric in section.metrics.values())


def test_a_world_without_rewards_says_so(tmp_path):
    world, store = brightening_world(), brightening(tmp_path)
    batches = TokenBatches(brightening_tokens(world, store, tmp_path), store, [1], length=4, batch_size=2, seed=0)
    section = reward_termination(world.prior, batches, count=1)
    assert not section.metrics and "outcome_width" in section.notes[0]

"""Metrics against values computed by hand, and on worlds whose answers are known."""

import math

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from helpers_models import small_prior, small_tokenizer

from worldmodel.data.clips import ClipBatches
from worldmodel.data.episode import Episode
from worldmodel.data.store import DatasetInfo, EpisodeStore
from worldmodel.data.tokens import TokenBatches, TokenStore
from worldmodel.evaluate import (
    copy_accuracy,
    likelihood,
    marginal_bits,
    open_loop,
    psnr,
    reconstruction,
    squared_error,
)
from worldmodel.evaluate.metrics import real_clips
from worldmodel.evaluate.report import ReportConfig, measure
from worldmodel.prior import SamplerConfig
from worldmodel.tokenizer import tokenize
from worldmodel.world import WorldInfo, WorldModel


@pytest.fixture
def store(tmp_path) -> EpisodeStore:
    """Four episodes of 12 steps of a frame that the action makes brighter or darker."""
    store = EpisodeStore.create(tmp_path / "episodes", DatasetInfo(Discrete(2), (16, 24, 3), seed=0))
    for index in range(4):
        rng = np.random.default_rng(index)
        actions = rng.integers(0, 2, 12)
        level = 100 + 8 * np.cumsum(np.r_[0, 2 * actions - 1])
        frames = np.broadcast_to(level[:, None, None, None], (13, 16, 24, 3)).astype(np.uint8)
        store.write(Episode(frames, actions, np.zeros(12, np.float32), False, True, seed=index, index=index))
    return store


@pytest.fixture
def world() -> WorldModel:
    return WorldModel(small_tokenizer(), small_prior(actions=2), WorldInfo((16, 24, 3), Discrete(2)))


def test_psnr_and_squared_error_are_those_computed_by_hand():
    a, b = torch.zeros(1, 2, 2, 2, 3, dtype=torch.uint8), torch.zeros(1, 2, 2, 2, 3, dtype=torch.uint8)
    b[0, 1] = 51
    error = squared_error(a, b)
    assert error.tolist() == [[0.0, 2601.0]]
    assert psnr(error[0, 1]) == pytest.approx(20 * math.log10(255 / 51)) and np.isfinite(psnr(error[0, 0]))


def test_reconstruction_is_what_encoding_and_decoding_give(store):
    tokenizer = small_tokenizer()
    batches = ClipBatches(store, [1, 2], length=5, batch_size=3, seed=0)
    figures = reconstruction(tokenizer, batches, count=2)
    frames = torch.cat([batches[0].frames, batches[1].frames])
    expected = psnr(squared_error(tokenizer.decode(tokenizer.encode(frames)), frames).mean())
    assert figures["psnr"] == pytest.approx(expected)
    assert 1 <= figures["perplexity"] <= figures["codes_used"] <= 19


def filled(tmp_path, tokens: dict[int, list[int]], codes: int) -> TokenStore:
    store = TokenStore.create(tmp_path / "t", key="k", codes=codes, grid=(1, 1), time_stride=1)
    for index, values in tokens.items():
        store.write(index, np.array(values).reshape(-1, 1, 1))
    return store


def test_the_marginal_coder_and_copying_are_known_by_hand(tmp_path):
    tokens = filled(tmp_path, {0: [0, 0, 0, 1, 1], 1: [0, 1, 1, 1]}, codes=3)
    counts = np.array([4.0, 3.0, 1.0])  # one added to each
    expected = -(np.log2(counts / 8)[[0, 1, 1, 1]]).mean()
    assert marginal_bits(tokens, [0], [1]) == pytest.approx(expected)
    assert copy_accuracy(tokens, [0, 1]) == pytest.approx(5 / 7)


def test_likelihood_is_the_mean_of_all_latents_but_the_first_of_each_clip(store, world, tmp_path):
    tokens = tokenize(world.tokenizer, store, tmp_path / "tokens", show=False)
    batches = TokenBatches(tokens, store, [1, 2], length=4, batch_size=5, seed=0)
    with torch.no_grad():
        nats = world.prior.nats(batches[0].tokens, batches[0].actions)
    figures = likelihood(world.prior, batches, count=1)
    assert figures["bits_per_token"] == pytest.approx(float(nats[:, 1:].mean()) / math.log(2), rel=1e-5)
    assert figures["bits_per_frame"] == pytest.approx(6 * figures["bits_per_token"])
    assert figures["bits_per_token_shuffled_actions"] != figures["bits_per_token"]


def test_a_perfect_world_has_no_error_and_the_wrong_actions_cost(store, world, monkeypatch):
    def simulate(given, actions, horizon, sampler, seed):
        moves = np.cumsum(2 * actions[:, given.shape[1] - 1 :].astype(int) - 1, axis=1) * 8
        level = given[:, -1:].int() + torch.from_numpy(moves)[:, :horizon, None, None, None]
        return level.to(torch.uint8)

    monkeypatch.setattr(world, "imagine", simulate)
    settings = {"context": 3, "horizon": 5, "clips": 8, "sampler": SamplerConfig(), "seed": 0}
    curves = open_loop(world, store, [0, 1, 2, 3], **settings)
    assert (curves["dream"] > 100).all()
    assert (curves["copy_last_frame"] < 40).all() and (curves["shuffled_actions"] < 60).all()


def test_clips_hold_the_actions_between_their_frames_and_a_horizon_beyond_all_is_refused(store):
    frames, actions = real_clips(store, [2, 3], length=6, clips=4, seed=0)
    level = frames[:, :, 0, 0, 0].numpy().astype(int)
    assert np.array_equal(np.diff(level, axis=1), 8 * (2 * actions - 1))
    with pytest.raises(ValueError, match="longest has 13"):
        real_clips(store, [2, 3], length=14, clips=4, seed=0)


def test_the_report_is_deterministic_and_complete(store, world, tmp_path):
    tokens = tokenize(world.tokenizer, store, tmp_path / "tokens", show=False)
    config = ReportConfig(batches=2, clips=2, context=3, horizons=(1, 3))
    once, again = (measure(world, store, tokens, config) for _ in range(2))
    assert once == again and all(np.isfinite(list(once.values())))
    assert {"tokenizer/psnr", "prior/bits_per_token", "open_loop_psnr/copy_last_frame@3"} <= set(once)

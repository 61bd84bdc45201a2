"""What is said of a prior: against the prior itself, and on worlds that foretell everything or nothing."""

import math

import numpy as np
import pytest
import torch

from tests.helpers_evaluate import brightening, brightening_tokens, brightening_world
from worldmodel.evaluate.baselines.coders import CopyCoder, ResidualCoder
from worldmodel.evaluate.baselines.marginal_action import ActionMarginal
from worldmodel.evaluate.sections.likelihood import Baselines, predict, token_likelihood
from worldmodel.evaluate.testbed.held_out import decode, sample_clips


@pytest.fixture
def world():
    return brightening_world()


@pytest.fixture
def case(tmp_path, world):
    """Clips of six episodes, and rivals that learned from them too."""
    store = brightening(tmp_path, episodes=6)
    tokens = brightening_tokens(world, store, tmp_path)
    clips = sample_clips(store, tokens, range(6), latents=5, count=20, seed=0)
    residual = ResidualCoder.learn(clips.frames.numpy(), decode(world.tokenizer, clips).numpy())
    return clips, Baselines(CopyCoder.learn(tokens, range(6)), residual, ActionMarginal.learn(store, range(6), 1))


def test_predictions_are_the_priors_own_likelihood_of_all_latents_but_the_first(world, case):
    clips, _ = case
    predictions = predict(world.prior, clips.tokens, clips.action_inputs)
    with torch.no_grad():
        scores = world.prior(clips.tokens, clips.action_inputs)[:, 1:].log_softmax(-1).double()
    true = scores.gather(-1, clips.tokens[:, 1:, ..., None])[..., 0].numpy()
    assert predictions.bits == pytest.approx(-true / math.log(2), abs=1e-4)
    assert predictions.entropy == pytest.approx(-(scores.exp() * scores).sum(-1).numpy() / math.log(2), abs=1e-4)
    assert predictions.every[:, 1].sum() == pytest.approx(true.size, rel=1e-4)  # probabilities of all codes sum to one


def test_figures_are_means_over_episodes_of_the_predictions(world, case):
    clips, baselines = case
    section = token_likelihood(world, clips, baselines)
    bits = clips.unit_means(predict(world.prior, clips.tokens, clips.action_inputs).bits.mean((1, 2, 3)))
    assert section.metrics["bits_per_token"].mean == pytest.approx(bits.mean())
    assert section.metrics["bits_per_frame"].mean == pytest.approx(6 * bits.mean())
    assert section.metrics["compression"].mean == pytest.approx(16 * 24 * 3 * 8 / (6 * bits.mean()))
    against = section.metrics["bits_per_token/marginal_coder"].mean - section.metrics["bits_per_token"].mean
    assert section.metrics["bits_saved/marginal_coder"].mean == pytest.approx(against)


def test_knowing_the_action_saves_less_than_the_action_itself_holds(world, case):
    clips, baselines = case
    metrics = token_likelihood(world, clips, baselines).metrics
    assert metrics["action_entropy"].mean == pytest.approx(1.0, abs=0.01)  # two of them, taken alike
    saved = metrics["bits_saved_per_frame/any_action"].mean
    assert saved == pytest.approx(6 * metrics["bits_saved/any_action"].mean) and saved < 1.1


def test_bits_of_all_pixels_are_those_of_the_tokens_and_of_what_decoding_left_out(world, case):
    clips, baselines = case
    section = token_likelihood(world, clips, baselines)
    rest = baselines.residual.bits(clips.frames.numpy(), decode(world.tokenizer, clips).numpy())[:, 1:].mean(1)
    tokens = section.metrics["bits_per_frame"].mean
    expected = (tokens + clips.unit_means(rest).mean()) / (16 * 24 * 3)
    assert section.metrics["bits_per_dim_bound"].mean == pytest.approx(expected)


def certain(self, tokens, actions):
    """Scores of a prior that knows every token."""
    return 50.0 * torch.nn.functional.one_hot(tokens, self.codes).float()


def ignorant(self, tokens, actions):
    """Scores of a prior that holds all codes alike."""
    return torch.zeros(*tokens.shape, self.codes)


def test_a_prior_that_knows_every_token_takes_no_bits_and_is_calibrated(world, case, monkeypatch):
    clips, baselines = case
    monkeypatch.setattr(type(world.prior), "forward", certain)
    section = token_likelihood(world, clips, baselines)
    assert section.metrics["bits_per_token"].high < 1e-6 and section.metrics["entropy_per_token"].high < 1e-6
    assert section.metrics["calibration_error/top_code"].mean == pytest.approx(0, abs=1e-6)
    assert section.metrics["bits_saved/copy_coder"].low > 0


def test_a_prior_that_knows_nothing_takes_log2_k_bits_and_loses_to_every_coder(world, case, monkeypatch):
    clips, baselines = case
    monkeypatch.setattr(type(world.prior), "forward", ignorant)
    section = token_likelihood(world, clips, baselines)
    assert section.metrics["bits_per_token"].mean == pytest.approx(math.log2(19))
    assert section.metrics["bits_saved/marginal_coder"].high < 0 and section.metrics["bits_saved/copy_coder"].high < 0
    assert section.metrics["bits_saved/shuffled_actions"].mean == pytest.approx(0)


def test_a_world_whose_actions_cannot_be_summed_over_says_so(world, case):
    clips, baselines = case
    section = token_likelihood(world, clips, Baselines(baselines.copy, baselines.residual, None))
    assert "bits_per_token/any_action" not in section.metrics and "any_action" in section.notes[0]
    assert np.ptp(section.images["bits of each token"]) > 100

"""Coders of tokens and pixels, and whether probabilities hold, against values computed by hand."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from tests.helpers_evaluate import brightening
from tests.helpers_models import small_prior, some_tokens
from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.episodes.store import DatasetInfo, EpisodeStore
from worldmodel.evaluate.baselines.coders import CopyCoder, ResidualCoder
from worldmodel.evaluate.baselines.marginal_action import ActionMarginal
from worldmodel.evaluate.measures.calibration import BINS, binned, calibration_error, reliability
from worldmodel.evaluate.statistics.bootstrap import Resampler


def filled(folder, tokens: dict[int, list[int]], codes: int) -> TokenStore:
    store = TokenStore.create(folder / "t", key="k", codes=codes, grid=(1, 1), time_stride=1)
    for index, values in tokens.items():
        store.write(index, np.array(values).reshape(-1, 1, 1))
    return store


def test_the_marginal_coder_is_known_by_hand(tmp_path):
    tokens = filled(tmp_path, {0: [0, 0, 0, 1, 1], 1: [0, 1, 1, 1]}, codes=3)
    marginal = CopyCoder.learn(tokens, [0]).marginal()
    counts = np.array([4.0, 3.0, 1.0])  # one added to each
    expected = -np.log2(counts / 8)[[1, 1, 1]]
    assert marginal.bits(tokens.tokens(1)[None])[0, :, 0, 0] == pytest.approx(expected)


def test_the_copy_coder_has_the_weight_at_which_no_other_gives_fewer_bits(tmp_path):
    rng = np.random.default_rng(0)
    code = np.cumsum(rng.random(400) < 0.3) % 4  # three of ten change
    tokens = filled(tmp_path, {0: code.tolist()}, codes=4)
    coder, given = CopyCoder.learn(tokens, [0]), tokens.tokens(0)[None]
    total = {w: CopyCoder(coder.frequency, w).bits(given).sum() for w in np.linspace(0, 0.999, 1000)}
    assert min(total, key=total.__getitem__) == pytest.approx(coder.weight) and 0.5 < coder.weight < 0.7
    assert coder.bits(given).mean() < coder.marginal().bits(given).mean()


@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_the_probabilities_of_all_codes_sum_to_one(weight):
    coder = CopyCoder(np.array([0.5, 0.3, 0.2]), weight)
    pairs = np.array([[1, code] for code in range(3)]).reshape(3, 2, 1, 1)
    assert (2 ** -coder.bits(pairs)).sum() == pytest.approx(1)


def test_the_residual_coder_takes_as_many_bits_as_its_errors_are_rare():
    decoded = np.zeros((1, 1, 2, 2, 1), np.uint8)
    frames = np.array([0, 0, 0, 5], np.uint8).reshape(decoded.shape)
    coder = ResidualCoder.learn(frames, decoded)
    share = np.array([4, 4, 4, 2]) / (511 + 4)
    assert coder.bits(frames, decoded)[0, 0] == pytest.approx(-np.log2(share).sum())
    assert coder.bits(frames + 1, decoded)[0, 0] > coder.bits(frames, decoded)[0, 0]


def test_calibration_of_two_bins_is_that_computed_by_hand():
    chance, happened = np.array([[0.12, 0.18, 0.95, 0.95]]), np.array([[True, False, True, False]])
    sums = binned(chance, happened)
    assert sums[0, :, 1].tolist() == [2, pytest.approx(0.3), 1] and sums[0, :, 9].tolist() == [2, 1.9, 1]
    assert calibration_error(Resampler.by_row(1, "clips"), sums, events=4).mean == pytest.approx((0.7 + 0.9) / 4)
    curve = reliability(Resampler.by_row(1, "clips"), sums)
    assert curve.steps == (15, 95) and curve.mean == pytest.approx((50, 50))
    assert binned(np.array([[1.0]]), np.array([[True]]))[0, 0, BINS - 1] == 1


def test_honest_probabilities_have_no_calibration_error_and_boasts_have_theirs():
    rng = np.random.default_rng(0)
    chance = rng.random((20, 3000))
    happened = rng.random(chance.shape) < chance
    twenty = Resampler.by_row(20, "clips")
    honest = calibration_error(twenty, binned(chance, happened), 3000)
    boast = calibration_error(twenty, binned(chance.clip(0.8), happened), 3000)
    assert honest.mean < 0.01 and boast.mean == pytest.approx(np.mean(chance.clip(0.8) - chance), abs=0.01)


def action_marginal(tmp_path, stride=1) -> ActionMarginal:
    found = ActionMarginal.learn(brightening(tmp_path), [0, 1, 2], stride)
    assert found is not None
    return found


def test_shares_of_actions_are_their_frequencies_in_the_training_episodes(tmp_path):
    found, store = action_marginal(tmp_path), EpisodeStore.open(tmp_path / "episodes")
    taken = np.concatenate([store.actions(i) for i in (0, 1, 2)])
    assert found.vectors.tolist() == [[1, 0], [0, 1]]
    assert found.share.numpy() == pytest.approx((np.bincount(taken) + 1) / (len(taken) + 2))
    pairs = ActionMarginal.learn(store, [0], stride=2)
    chunks = np.bincount(store.actions(0).reshape(-1, 2) @ [2, 1], minlength=4) + 1
    assert pairs is not None and pairs.vectors[2].tolist() == [0, 1, 1, 0]
    assert pairs.share.numpy() == pytest.approx(chunks / chunks.sum())


def test_an_unknown_action_is_summed_over_exactly(tmp_path):
    prior, tokens, found = small_prior(actions=2), some_tokens(b=3, s=4), action_marginal(tmp_path)
    leading = torch.eye(2)[torch.randint(2, (3, 4))]
    likelihood = torch.zeros(3, 3, dtype=torch.float64)
    for s in range(1, 4):
        for vector, share in zip(found.vectors, found.share, strict=True):
            changed = leading.clone()
            changed[:, s] = vector
            with torch.no_grad():
                nats = prior.nats(tokens, changed)[:, s].double().sum((1, 2))
            likelihood[:, s - 1] += share * torch.exp(-nats)
    assert torch.allclose(found.bits(prior, tokens, leading), -likelihood.log2(), atol=1e-4)


def test_actions_that_cannot_be_tried_one_by_one_have_no_such_sum(tmp_path):
    continuous = EpisodeStore.create(tmp_path / "a", DatasetInfo(Box(-1, 1, (2,)), (16, 24, 3), seed=0))
    many = EpisodeStore.create(tmp_path / "b", DatasetInfo(Discrete(9), (16, 24, 3), seed=0))
    assert ActionMarginal.learn(continuous, [], 1) is None and ActionMarginal.learn(many, [], 2) is None

"""Laws of the prior: what a logit may depend on, exact likelihoods, and samplers that agree token for token."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from tests.helpers_models import clip_of, perturbed, small_prior, some_actions, some_tokens
from worldmodel.data.clips.token_batches import TokenClip
from worldmodel.prior import PixelCNN, PriorConfig, SamplerConfig, uniform
from worldmodel.prior.layers import recall
from worldmodel.prior.noise import plain_uniform

INT64 = st.integers(-(2**63), 2**63 - 1)


@torch.no_grad()
def test_changing_a_token_leaves_the_logits_up_to_it_bit_identical_and_changes_the_next():
    prior, tokens, actions = small_prior(), some_tokens(), some_actions()
    before = prior(tokens, actions).flatten(1, 3)
    for place in range(tokens[0].numel()):
        changed = tokens.clone()
        changed.view(2, -1)[:, place] = (changed.view(2, -1)[:, place] + 5) % 19
        after = prior(changed, actions).flatten(1, 3)
        assert torch.equal(after[:, : place + 1], before[:, : place + 1])
        if place + 1 < tokens[0].numel():
            assert not torch.equal(after[:, place + 1 :], before[:, place + 1 :])


@torch.no_grad()
def test_every_earlier_token_of_the_frame_and_of_the_frame_before_is_seen():
    prior, tokens, actions = small_prior(), some_tokens(1, 2), some_actions(1, 2)
    before = prior(tokens, actions).flatten(1, 3)[0, -1]
    for place in range(11):
        changed = tokens.clone()
        changed.view(-1)[place] = (changed.view(-1)[place] + 5) % 19
        assert not torch.equal(prior(changed, actions).flatten(1, 3)[0, -1], before), place


@torch.no_grad()
def test_changing_an_action_leaves_earlier_latents_alone_and_changes_its_own():
    prior, tokens, actions = small_prior(), some_tokens(s=4), some_actions(s=4)
    changed = actions.clone()
    changed[:, 2] += 1
    before, after = prior(tokens, actions), prior(tokens, changed)
    assert torch.equal(before[:, :2], after[:, :2]) and not torch.equal(before[:, 2], after[:, 2])


@torch.no_grad()
def test_probabilities_of_all_frames_sum_to_one():
    prior = small_prior(codes=3, grid=(1, 3), actions=0)
    every = torch.cartesian_prod(*[torch.arange(3)] * 3).view(27, 1, 1, 3)
    nats = prior.nats(every, torch.zeros(27, 1, 0)).sum((1, 2, 3))
    assert torch.exp(-nats.double()).sum() == pytest.approx(1, abs=1e-5)


@torch.no_grad()
def test_the_context_frame_by_frame_equals_the_context_in_one_pass():
    prior, tokens, actions = small_prior(), some_tokens(s=5), some_actions(s=5)
    whole, _ = prior.context(prior.embed_past(tokens[:, :-1], first=True), actions)
    past = None
    for s in range(5):
        embedded = prior.embed_past(tokens[:, s - 1 : s] if s else tokens[:, :0], first=s == 0)
        step, past = prior.context(embedded, actions[:, s : s + 1], past)
        torch.testing.assert_close(step[:, :, 0], whole[:, :, s], rtol=1e-5, atol=1e-5)


def test_a_memory_takes_what_its_gate_lets_in_and_else_keeps_what_it_has():
    candidates, h, z = torch.randn(2, 3, 7, 1, 2), torch.randn(2, 3, 1, 1, 2), torch.rand(2, 3, 7, 1, 2)
    z[:, :, 1], z[:, :, 4] = 1.0, 0.0
    kept = recall(z, candidates, h)
    assert torch.equal(kept[:, :, 1], candidates[:, :, 1]) and torch.equal(kept[:, :, 4], kept[:, :, 3])
    seen = torch.cat([h, candidates], dim=2)
    assert (kept <= seen.amax(2, keepdim=True)).all() and (kept >= seen.amin(2, keepdim=True)).all()
    assert torch.equal(recall(z[:, :, 3:], candidates[:, :, 3:], kept[:, :, 2:3]), kept[:, :, 3:])


@pytest.mark.parametrize(("memory", "bits"), [(8, (0.0, 0.1)), (0, (1.8, 9.0))])
def test_what_was_seen_30_latents_ago_is_known_with_a_memory_and_without_one_is_not(memory, bits):
    torch.manual_seed(0)
    prior = PixelCNN(PriorConfig(8, 16, 2, 2, 6, 1, 0.0, memory=memory), codes=5, grid=(1, 1), actions=0).train()
    optimizer = torch.optim.Adam(prior.parameters(), 1e-2)
    nats = torch.tensor(torch.inf)
    for _ in range(250):
        tokens = torch.full((16, 32, 1, 1), 4)  # nothing to see, but for the first and the last
        tokens[:, 0] = tokens[:, -1] = torch.randint(0, 4, (16, 1, 1))
        nats = prior.nats(tokens, torch.zeros(16, 32, 0))[:, -1].mean()
        optimizer.zero_grad(), nats.backward(), optimizer.step()
    assert bits[0] <= nats / math.log(2) < bits[1]


def test_noise_depends_on_its_key_alone():
    dreams, steps = torch.tensor([4, 9, 2**40]), torch.tensor([0, 3, 3])
    together = uniform(11, dreams, steps, 50)
    for i in range(3):
        assert torch.equal(uniform(11, dreams[i : i + 1], steps[i : i + 1], 50)[0], together[i])
    assert not torch.equal(together[1], uniform(12, dreams, steps, 50)[1])
    many = uniform(0, torch.arange(2000), torch.zeros(2000).long(), 20)
    assert many.min() >= 0 and many.max() < 1 and abs(many.mean() - 0.5) < 0.01
    assert abs(torch.corrcoef(many[:, :2].T)[0, 1]) < 0.1


@given(seed=INT64, dream=INT64, step=INT64)
def test_compiled_noise_is_the_noise(seed, dream, step):
    keys = torch.tensor([dream, 0, -1]), torch.tensor([step, step, 0])
    assert torch.equal(uniform(seed, *keys, 7), plain_uniform(seed, *keys, 7))


def test_context_noise_roughens_training_only():
    prior, tokens, actions = small_prior(noise=0.9), some_tokens(), some_actions()
    assert torch.equal(prior(tokens, actions), prior(tokens, actions))
    prior.train()
    torch.manual_seed(0)
    assert not torch.equal(prior(tokens, actions), prior(tokens, actions))


def test_the_prior_learns_that_the_action_says_what_the_next_token_is():
    torch.manual_seed(0)
    prior = PixelCNN(PriorConfig(8, 12, 1, 2, 6, 1, 0.0), codes=4, grid=(1, 2), actions=4).train()
    optimizer = torch.optim.Adam(prior.parameters(), 1e-2)

    def batch() -> TokenClip:
        choice = torch.randint(0, 4, (16, 3))
        return clip_of(choice[..., None, None].expand(-1, -1, 1, 2), one_hot(choice, 4).float())

    for _ in range(150):
        loss, _ = prior.loss(batch())
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    clip = batch()
    assert prior.loss(clip)[1]["bits_per_token"] < 0.1
    prior.eval()
    assert prior.nats(clip.tokens, clip.actions.roll(1, 0)).mean() > 10 * prior.nats(clip.tokens, clip.actions).mean()


def test_what_does_not_fit_is_refused():
    prior = small_prior()
    with pytest.raises(ValueError, match=r"grid of \(2, 3\), got \(3, 2\)"):
        prior(some_tokens(grid=(3, 2)), some_actions())
    with pytest.raises(ValueError, match="expected actions of shape"):
        prior(some_tokens(), some_actions(a=3))
    with pytest.raises(ValueError, match=r"tokens in \[0, 19\)"):
        prior(some_tokens() + 15, some_actions())
    cases: list[dict[str, Any]] = [{"temperature": -1.0}, {"temperature_until": 9}, {"top_k": -1}, {"top_p": 0.0}]
    for wrong in cases:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SamplerConfig(**wrong)


def test_similar_codes_start_with_similar_embeddings():
    prior = perturbed(PixelCNN(PriorConfig(8, 12, 1, 2, 6, 1), 4, (1, 2), 0))
    prior.init_embedding(torch.tensor([[0.0, 0.0], [0.1, 0.0], [5.0, 5.0], [9.0, 9.0]]))
    e = prior.core.embedding.weight[:, :2]
    assert (e[0] - e[1]).norm() < 0.1 * (e[0] - e[2]).norm()

"""Laws of the samplers: four ways to the same tokens, in any batch and any slot, with the likelihood of the model."""

import math
import os
import subprocess
import sys
import warnings

import pytest
import torch
from helpers_models import random_frames, small_prior, small_tokenizer, small_world, some_actions, some_tokens

from worldmodel import compiled, kernels
from worldmodel.prior import SamplerConfig, sample, uniform
from worldmodel.prior.choose import choose
from worldmodel.prior.fused import next_context
from worldmodel.tape import pack, padded
from worldmodel.tokenizer.fused import next_frames

SHAPES = [(1, (8, 8), 4), (3, (5, 7), 4), (64, (2, 3), 4), (2, (4, 1), 8), (3, (3, 5), 0)]
KINDS = ("naive", "cached", "fused", "predictive")


def some_draw(kind: str, b: int, grid: tuple[int, int], actions: int, rows=slice(None), **cut):
    """A draw of dreams `rows` of b, by the prior of that shape."""
    prior = small_prior(grid=grid, actions=actions)
    context = torch.randn(b, 10, *grid, generator=torch.Generator().manual_seed(0))[rows]
    noise = uniform(5, torch.arange(b), torch.zeros(b).long(), math.prod(grid))[rows]
    return sample(prior.core, context, some_actions(b, 1, actions)[rows, 0], noise, SamplerConfig(kind, **cut))


@pytest.mark.parametrize(("b", "grid", "actions"), SHAPES)
@pytest.mark.parametrize("cut", [{}, {"temperature": 0.7, "top_k": 5}, {"top_p": 0.6}, {"temperature": 0.0}])
def test_all_samplers_draw_the_same_tokens(b, grid, actions, cut):
    naive, *others = (some_draw(kind, b, grid, actions, **cut) for kind in KINDS)
    assert naive.tokens.unique().numel() > 1
    for other in others:
        assert torch.equal(other.tokens, naive.tokens)
        torch.testing.assert_close(other.nats, naive.nats, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("stride", "actions"), [(1, 4), (2, 4), (1, 0)])
def test_all_samplers_dream_the_same_dream(kind, stride, actions):
    world, given = small_world(stride, actions), 1 + 2 * stride
    frames, taken = random_frames(3, given), torch.randint(0, 4, (3, given - 1 + 6 * stride)).numpy()
    reference, dreamt = (world.imagine(frames, taken, 6 * stride, SamplerConfig(k)) for k in ("cached", kind))
    assert (reference.int() - dreamt.int()).abs().max() <= 1  # a pixel may round otherwise, where a token may not
    assert reference[:, 1:].ne(reference[:, :-1]).any()


@pytest.mark.parametrize("slot", [0, 40, 63])
def test_fused_draws_to_the_last_bit_the_same_alone_and_among_64(slot):
    together = some_draw("fused", 64, (3, 5), 4)
    alone = some_draw("fused", 64, (3, 5), 4, rows=slice(slot, slot + 1))
    assert torch.equal(alone.tokens[0], together.tokens[slot]) and torch.equal(alone.nats[0], together.nats[slot])


def test_a_fused_dream_is_to_the_last_bit_the_same_alone_and_among_others():
    world, frames, actions = small_world(), random_frames(1, 3), torch.randint(0, 4, (9, 12)).numpy()
    state = world.start(frames, actions[:1, :2], seed=1, dreams=[6])
    many = state.rows(torch.zeros(9, dtype=torch.long))
    for i in range(2, 12):
        state, alone = world.step(state, actions[:1, i])
        many, together = world.step(many, actions[[0] * 9, i])
        assert torch.equal(together.frames, alone.frames.expand_as(together.frames))
        assert torch.equal(together.bits, alone.bits.expand(9))
        assert torch.equal(together.tokens, alone.tokens.expand_as(together.tokens))


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_the_sampler_reports_the_likelihood_that_the_parallel_pass_gives(kind):
    prior, context = small_prior(), torch.randn(4, 10, 2, 3)
    action, noise = some_actions(4, 1)[:, 0], uniform(1, torch.arange(4), torch.zeros(4).long(), 6)
    draw = sample(prior.core, context, action, noise, SamplerConfig(kind, temperature=0.5, top_k=3))
    logits = prior.core(draw.tokens, context, action)
    nats = -logits.log_softmax(-1).gather(-1, draw.tokens[..., None])[..., 0]
    torch.testing.assert_close(draw.nats, nats, rtol=1e-4, atol=1e-5)


def test_predictive_needs_one_pass_for_a_frame_that_was_guessed_and_never_more_than_tokens_and_one():
    prior, context = small_prior(grid=(4, 4)), torch.randn(5, 10, 4, 4)
    noise, config = uniform(1, torch.arange(5), torch.zeros(5).long(), 16), SamplerConfig("predictive")
    action = some_actions(5, 1)[:, 0]
    draw = sample(prior.core, context, action, noise, config)
    assert 1 < draw.passes.max() <= 17
    again = sample(prior.core, context, action, noise, config, guess=draw.tokens)
    assert again.passes.tolist() == [1] * 5 and torch.equal(again.tokens, draw.tokens)


@torch.no_grad()
def test_compiled_context_and_frames_are_those_of_the_modules():
    prior, tokens, actions = small_prior(grid=(5, 7)), some_tokens(2, 4, (5, 7)), some_actions(2, 4)
    _, past = prior.context(prior.embed_past(tokens[:, :2], first=True), actions[:, :3])
    features, after = prior.context(prior.embed_past(tokens[:, 2:3], first=False), actions[:, 3:], past)
    compiled, compiled_after = next_context(prior, tokens[:, 2], actions[:, 3], past)
    torch.testing.assert_close(compiled, features[:, :, 0], rtol=1e-4, atol=1e-4)
    for one, other in zip(compiled_after, after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("space", [4, 8, 16])
@pytest.mark.parametrize("time", [1, 2, 4])
def test_the_compiled_decoder_gives_the_frames_of_the_decoder_for_every_stride(space, time):
    tokenizer = small_tokenizer(space, time, frame=(32, 48, 3))
    tokens = some_tokens(2, 5, tokenizer.grid)
    _, past = tokenizer.decode_chunk(tokens[:, :3], None)
    for s in (3, 4):
        frames, after = tokenizer.decode_chunk(tokens[:, s : s + 1], past)
        compiled, past = next_frames(tokenizer, tokens[:, s], past)
        assert compiled.shape == frames.shape and (compiled.int() - frames.int()).abs().max() <= 1
    again, _ = next_frames(tokenizer, tokens[:, 0], after)  # a past of the modules will do
    assert again.shape == frames.shape


def test_weights_that_change_are_packed_anew():
    world, frames = small_world(), random_frames(1, 3)
    state = world.start(frames, [[0, 1]])
    _, before = world.step(state, [1])
    with torch.no_grad():
        world.prior.core.bias += torch.linspace(0, 50, 19)
        world.tokenizer.quantizer.codebook.neg_()
    _, after = world.step(state, [1])
    assert (after.tokens == 18).all() and not torch.equal(before.frames, after.frames)


def test_without_its_package_fused_runs_as_cached_and_says_so_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "worldmodel.kernels", None)
    compiled.available.cache_clear()
    with pytest.warns(UserWarning, match="nothing compiled is to be had"):
        draw = some_draw("auto", 2, (2, 3), 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(some_draw("fused", 2, (2, 3), 4).tokens, draw.tokens)
    compiled.available.cache_clear()


def test_draws_follow_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    n = 20_000
    noise = uniform(3, torch.arange(n), torch.zeros(n).long(), 1)[:, 0]
    counts = torch.bincount(choose(logits.expand(n, -1), noise, SamplerConfig()), minlength=4)
    expected = logits[0].softmax(0)
    assert ((counts / n - expected).abs() < 4 * (expected * (1 - expected) / n).sqrt()).all()


def test_top_k_and_top_p_leave_out_what_they_say():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log().expand(5000, -1)
    noise = uniform(3, torch.arange(5000), torch.zeros(5000).long(), 1)[:, 0]
    drawn = lambda **cut: set(choose(logits, noise, SamplerConfig(**cut)).tolist())  # noqa: E731
    assert drawn(top_k=2) == {0, 1} and drawn(top_p=0.65) == {0, 1} and drawn(top_p=0.71) == {0, 1, 2}
    assert drawn(temperature=0.0) == {0} and drawn() == {0, 1, 2, 3}


@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 16), (5, 7, 48), (8, 96, 96), (19, 33, 112), (3, 4, 272)])
def test_the_compiled_product_is_a_product(m, k, n):
    a, w, out = torch.randn(m, k), torch.randn(k, n), torch.randn(m, n)
    expected = out.double() + a.double() @ w.double()
    kernels.product(out.data_ptr(), n, a.data_ptr(), k, w.data_ptr(), m, k, n)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-4)


def test_packing_pads_with_zeros():
    assert padded(16) == 16 and padded(17) == 32
    values = pack(torch.ones(2, 3), rows=4)
    assert values.shape == (4, 16) and values.sum() == 6


@pytest.mark.slow
def test_a_dream_does_not_depend_on_the_width_of_vectors(tmp_path):
    """AVX2 and AVX-512 sum in the same order: a processor without the latter dreams the same, to the last bit."""
    if kernels.LANES != 16:
        pytest.skip("this processor has but one width")
    program = (
        "import sys; sys.path.insert(0, 'tests'); import torch; from test_samplers import some_draw;"
        "from worldmodel import kernels; print(kernels.LANES, some_draw('fused', 3, (5, 7), 4).nats.double().tolist())"
    )
    narrow = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+sse4.2,+bmi,+bmi2,+popcnt"}
    found = []
    for extra in ({}, narrow):
        env = {**os.environ, **extra, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": "."}
        result = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
        found.append(result.stdout.split(maxsplit=1))
    assert found[0][0] != found[1][0] and found[0][1] == found[1][1]

"""Laws of the samplers: four ways to the same tokens, in any batch and any slot, with the likelihood of the model."""

import math
import sys
import time
import warnings
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import nn

from tests.helpers_models import (
    pixelcnn_of,
    quantizer_of,
    random_frames,
    small_prior,
    small_tokenizer,
    small_world,
    some_actions,
    some_tokens,
    vqvae_of,
)
from worldmodel import kernels as kernels_package
from worldmodel.backends.cpu.prior import CompiledCore, CompiledPrior
from worldmodel.backends.cpu.tokenizer import CompiledTokenizer
from worldmodel.kernels import compiled as kernels
from worldmodel.kernels.arrays import in_threads, pack, padded
from worldmodel.prior import FrameInputs, SamplerConfig, sample, uniform
from worldmodel.prior.categorical import SamplerKind, sample_categorical
from worldmodel.tokenizer import nearest
from worldmodel.world import WorldModel

SHAPES = [(1, (8, 8), 4), (3, (5, 7), 4), (64, (2, 3), 4), (2, (4, 1), 8), (3, (3, 5), 0)]
KINDS = ("naive", "cached", "compiled", "predictive")


def draw(core, context, action, noise, config, guess=None):
    """The tokens of a frame, by any sampler."""
    nothing = torch.zeros(len(context), *context.shape[2:], dtype=torch.long)
    warmth = torch.full((len(context),), config.effective_temperature, dtype=torch.float64)
    inputs = FrameInputs(context, action, noise, warmth, nothing if guess is None else guess)
    return CompiledCore(core).sample(inputs, config) if config.kind == "compiled" else sample(core, inputs, config)


def some_draw(kind: SamplerKind, b: int, grid: tuple[int, int], actions: int, rows=slice(None), **cut):
    """A draw of dreams `rows` of b, by the prior of that shape."""
    prior = small_prior(grid=grid, actions=actions)
    context = torch.randn(b, 10, *grid, generator=torch.Generator().manual_seed(0))[rows]
    noise = uniform(5, torch.arange(b), torch.zeros(b).long(), math.prod(grid))[rows]
    action = some_actions(b, 1, actions)[rows, 0]
    return draw(prior.core, context, action, noise, SamplerConfig(kind, **cut))


@pytest.mark.parametrize(("b", "grid", "actions"), SHAPES)
@pytest.mark.parametrize("cut", [{}, {"temperature": 0.7, "top_k": 5}, {"top_p": 0.6}, {"temperature": 0.0}])
def test_all_samplers_draw_the_same_tokens(b, grid, actions, cut):
    naive, *others = (some_draw(kind, b, grid, actions, **cut) for kind in KINDS)
    assert naive.tokens.unique().numel() > 1
    for other in others:
        assert torch.equal(other.tokens, naive.tokens)
        torch.testing.assert_close(other.nats, naive.nats, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["naive", "compiled", "predictive"])
@pytest.mark.parametrize(("b", "stride", "actions"), [(1, 1, 4), (3, 2, 4), (64, 1, 4), (3, 1, 0)])
def test_all_samplers_dream_the_same_dream(kind, b, stride, actions):
    world, given = small_world(stride, actions), 1 + 2 * stride
    frames, taken = random_frames(b, given), torch.randint(0, 4, (b, given - 1 + 6 * stride)).numpy()
    reference, dreamt = (world.imagine(frames, taken, 6 * stride, SamplerConfig(k)) for k in ("cached", kind))
    assert (reference.int() - dreamt.int()).abs().max() <= 1  # a pixel may round otherwise, where a token may not
    assert reference[:, 1:].ne(reference[:, :-1]).any()


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_dreams_spread_over_threads_are_to_the_last_bit_those_of_one_thread(three_threads):
    spread_out, z = some_draw("compiled", 64, (3, 5), 4), torch.randn(9001, 5)
    world, taken = small_world(), torch.randint(0, 4, (7, 12)).numpy()
    dreamt, codes = world.imagine(random_frames(7, 3), taken, 10), nearest(z, z[:50])
    torch.set_num_threads(1)
    alone = some_draw("compiled", 64, (3, 5), 4)
    assert torch.equal(spread_out.tokens, alone.tokens) and torch.equal(spread_out.nats, alone.nats)
    assert torch.equal(world.imagine(random_frames(7, 3), taken, 10), dreamt)
    assert torch.equal(nearest(z, z[:50]), codes)


def test_an_error_in_one_thread_is_raised_when_all_have_ended(three_threads):
    ended = []

    def work(first: int, last: int) -> None:
        if first == 0:
            raise OSError("this one")
        time.sleep(0.1)
        ended.append((first, last))

    with pytest.raises(OSError, match="this one"):
        in_threads(work, 9)
    assert sorted(ended) == [(3, 6), (6, 9)]


@pytest.mark.parametrize("slot", [0, 40, 63])
def test_fused_draws_to_the_last_bit_the_same_alone_and_among_64(slot):
    together = some_draw("compiled", 64, (3, 5), 4)
    alone = some_draw("compiled", 64, (3, 5), 4, rows=slice(slot, slot + 1))
    assert torch.equal(alone.tokens[0], together.tokens[slot]) and torch.equal(alone.nats[0], together.nats[slot])


def test_a_fused_dream_is_to_the_last_bit_the_same_alone_and_among_others():
    world, frames, actions = small_world(), random_frames(1, 3), torch.randint(0, 4, (9, 12)).numpy()
    state = world.start(frames, actions[:1, :2], seed=1, dreams=[6])
    many = state.select(torch.zeros(9, dtype=torch.long))
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
    drawn = draw(prior.core, context, action, noise, SamplerConfig(kind, temperature=0.5, top_k=3))
    logits = prior.core(drawn.tokens, context, action)
    nats = -logits.log_softmax(-1).gather(-1, drawn.tokens[..., None])[..., 0]
    torch.testing.assert_close(drawn.nats, nats, rtol=1e-4, atol=1e-5)


def test_predictive_needs_one_pass_for_a_frame_that_was_guessed_and_never_more_than_tokens_and_one():
    prior, context = small_prior(grid=(4, 4)), torch.randn(5, 10, 4, 4)
    noise, config = uniform(1, torch.arange(5), torch.zeros(5).long(), 16), SamplerConfig("predictive")
    action = some_actions(5, 1)[:, 0]
    drawn = draw(prior.core, context, action, noise, config)
    assert 1 < drawn.passes.max() <= 17
    again = draw(prior.core, context, action, noise, config, guess=drawn.tokens)
    assert again.passes.tolist() == [1] * 5 and torch.equal(again.tokens, drawn.tokens)


@torch.no_grad()
@pytest.mark.parametrize(("time_kernel", "memory"), [(1, 3), (2, 0), (2, 16), (3, 19)])
def test_the_compiled_context_is_that_of_the_modules(time_kernel, memory):
    prior = small_prior(grid=(5, 7), time_kernel=time_kernel, memory=memory)
    tokens, actions = some_tokens(2, 5, (5, 7)), some_actions(2, 5)
    _, past = prior.context(prior.embed_past(tokens[:, :2], first=True), actions[:, :3])
    for s in (3, 4):
        features, after = prior.context(
            prior.embed_past(tokens[:, s - 1 : s], first=False), actions[:, s : s + 1], past
        )
        compiled, past = CompiledPrior(prior).context.features(tokens[:, s - 1], actions[:, s], past)
        torch.testing.assert_close(compiled, features, rtol=1e-4, atol=1e-4)
        for one, other in zip(past, after, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("space", "stride", "kernel"), [*product((4, 8, 16), (1, 2, 4), (2,)), (8, 1, 1), (8, 2, 3)])
def test_the_compiled_decoder_gives_the_frames_of_the_decoder(space, stride, kernel):
    tokenizer = small_tokenizer(space, stride, frame=(32, 48, 3), time_kernel=kernel)
    tokens = some_tokens(2, 5, tokenizer.grid)
    _, past = tokenizer.decode_chunk(tokens[:, :3], None)
    for s in (3, 4):
        frames, after = tokenizer.decode_chunk(tokens[:, s : s + 1], past)
        compiled, past = CompiledTokenizer(tokenizer).decode_chunk(tokens[:, s : s + 1], past)
        assert compiled.shape == frames.shape and (compiled.int() - frames.int()).abs().max() <= 1
    again, _ = CompiledTokenizer(tokenizer).decode_chunk(tokens[:, :1], after)  # a past of the modules will do
    assert again.shape == frames.shape


def in_place(world: WorldModel) -> None:
    pixelcnn_of(world).core.bias.add_(torch.linspace(0, 5000, 19))
    quantizer_of(vqvae_of(world)).codebook.neg_()


def in_the_place_of_others(world: WorldModel) -> None:
    pixelcnn_of(world).core.bias = nn.Parameter(torch.linspace(0, 5000, 19))
    quantizer_of(vqvae_of(world)).codebook = -quantizer_of(vqvae_of(world)).codebook


def through_data(world: WorldModel) -> None:
    pixelcnn_of(world).core.bias.data += torch.linspace(0, 5000, 19)
    quantizer_of(vqvae_of(world)).codebook.data.neg_()
    world.coder.forget(), world.predictor.forget()


@torch.no_grad()
@pytest.mark.parametrize("change", [in_place, in_the_place_of_others, through_data])
def test_weights_that_change_are_packed_anew(change):
    world, frames = small_world(), random_frames(1, 3)
    state = world.start(frames, [[0, 1]])
    _, before = world.step(state, [1])
    change(world)
    _, after = world.step(state, [1])
    assert (after.tokens == 18).all() and not torch.equal(before.frames, after.frames)


def test_a_world_made_in_inference_mode_dreams():
    with torch.inference_mode():
        world = small_world()
        video = world.imagine(random_frames(1, 3), [[0, 1, 2, 3]], 2)
    assert torch.equal(video, small_world().imagine(random_frames(1, 3), [[0, 1, 2, 3]], 2))


def test_a_dream_that_started_in_lower_precision_goes_on():
    world = small_world()
    with torch.autocast("cpu", torch.bfloat16):
        state = world.start(random_frames(2, 3), [[0, 1], [2, 3]])
    _, step = world.step(state, [1, 2])
    _, plain = world.step(state, [1, 2], SamplerConfig("cached"))
    assert torch.equal(step.tokens, plain.tokens)


def test_what_is_not_the_models_is_refused_before_it_reaches_the_kernels():
    world = small_world()
    state = world.start(random_frames(2, 3), [[0, 1], [2, 3]])
    with pytest.raises(ValueError, match=r"tokens in \[0, 19\)"):
        world.step(replace(state, tokens=state.tokens + 19), [0, 0])
    with pytest.raises(ValueError, match="past of shapes"):
        world.step(replace(state, context=state.select(torch.tensor([0])).context), [0, 0])
    core, context, noise = small_prior().core, torch.randn(2, 10, 2, 3), torch.rand(2, 6, dtype=torch.float64)
    for wrong in ((context[:, :9], noise), (context, noise[:, :5])):
        with pytest.raises(ValueError, match="context width, action, noise and temp"):
            draw(core, wrong[0], torch.zeros(2, 4), wrong[1], SamplerConfig("compiled"))


@pytest.fixture
def nothing_to_compile_with(monkeypatch):
    monkeypatch.setitem(sys.modules, "worldmodel.kernels.compiled", None)
    kernels_package.available.cache_clear()
    yield
    kernels_package.available.cache_clear()


def test_without_its_package_fused_runs_as_cached_and_says_so_once(nothing_to_compile_with):
    taken = [[0, 1, 2, 3]]
    with pytest.warns(UserWarning, match="plain PyTorch"):
        world = small_world()
        video = world.imagine(random_frames(1, 3), taken, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("compiled", "cached"):
            assert torch.equal(world.imagine(random_frames(1, 3), taken, 2, SamplerConfig(kind)), video)
        assert world.predictor() is world.prior and world.coder() is world.tokenizer
        assert nearest(torch.tensor([[0.9]]), torch.tensor([[0.0], [1.0]])).item() == 1


def test_draws_follow_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    n = 20_000
    noise = uniform(3, torch.arange(n), torch.zeros(n).long(), 1)[:, 0]
    ones = torch.ones(n, dtype=torch.float64)
    counts = torch.bincount(sample_categorical(logits.expand(n, -1), noise, ones, SamplerConfig()), minlength=4)
    expected = logits[0].softmax(0)
    assert ((counts / n - expected).abs() < 4 * (expected * (1 - expected) / n).sqrt()).all()


def test_top_k_and_top_p_leave_out_what_they_say():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log().expand(5000, -1)
    noise = uniform(3, torch.arange(5000), torch.zeros(5000).long(), 1)[:, 0]

    def drawn(**cut) -> set[int]:
        config = SamplerConfig(**cut)
        warmth = torch.full((5000,), config.effective_temperature, dtype=torch.float64)
        return set(sample_categorical(logits, noise, warmth, config).tolist())

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

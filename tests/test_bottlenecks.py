"""Laws of the bottlenecks: tokens and vectors agree, each trains, streams, is sampled by every sampler and saved."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete

from tests.helpers_models import perturbed, random_frames, small_prior
from worldmodel.backends.cpu.tokenizer import CompiledTokenizer
from worldmodel.prior import SamplerConfig
from worldmodel.tokenizer import VQVAE, QuantizerConfig, TokenizerConfig, load_tokenizer, save_tokenizer
from worldmodel.tokenizer.bottlenecks import BOTTLENECKS
from worldmodel.tokenizer.bottlenecks.fsq import LEVELS, FiniteScalarQuantizer, levels_for
from worldmodel.world import WorldInfo, WorldModel

KINDS = sorted(BOTTLENECKS)
CONFIG = QuantizerConfig(codes=16, code_width=5)
FRAME = (16, 24, 3)


def bottleneck(kind: str, config: QuantizerConfig = CONFIG):
    torch.manual_seed(2)
    made = BOTTLENECKS[kind](config)
    made.init_from_data(vectors())
    return made.eval()


def vectors(n: int = 400) -> torch.Tensor:
    """Encoder outputs whose entries differ less and less, as principal components do."""
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1])


def tokenizer_with(kind: str, time_stride: int = 1) -> VQVAE:
    torch.manual_seed(3)
    config = TokenizerConfig(8, time_stride, width=6, bottleneck=kind, quantizer=CONFIG)
    tokenizer = VQVAE(config, FRAME)
    tokenizer.init_from_data(random_frames(8, 1, FRAME))
    return perturbed(tokenizer, 0.02).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_in_the_vocabulary_and_their_vectors_are_those_of_the_forward_pass(kind):
    made, z = bottleneck(kind), vectors().view(4, 20, 5, 5)
    quantized = made(z)
    tokens = made.quantize(z)
    assert torch.equal(quantized.tokens, tokens) and tokens.shape == (4, 20, 5 * made.tokens_per_site)
    assert int(tokens.min()) >= 0 and int(tokens.max()) < made.codes and tokens.unique().numel() > 8
    torch.testing.assert_close(made.vectors(tokens), quantized.vectors, rtol=1e-4, atol=1e-5)
    error = (made.vectors(tokens) - z).square().mean()
    assert error < 0.5 * z.square().mean()  # also FSQ, which keeps two numbers of five


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_goes_straight_through_to_the_encoder(kind):
    z = vectors(50).requires_grad_()
    bottleneck(kind)(z).vectors.square().sum().backward()
    assert z.grad is not None and z.grad.isfinite().all() and z.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_have_mean_zero_and_deviation_one_over_the_codes_of_a_codebook(kind):
    made = bottleneck(kind)
    every = made.embed(torch.arange(made.codes))
    for part in every.split(made.codes // made.tokens_per_site):
        torch.testing.assert_close(part.mean(0), torch.zeros(part.shape[1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(part.std(0), torch.ones(part.shape[1]), atol=1e-4, rtol=0)


def test_every_code_of_fsq_is_the_token_of_its_own_point():
    for codes, levels in LEVELS.items():
        made = FiniteScalarQuantizer(replace(CONFIG, codes=codes, code_width=len(levels)))
        with torch.no_grad():
            made.in_proj.weight.copy_(torch.eye(len(levels)))
            made.in_proj.bias.zero_()
        assert levels_for(codes) == levels and made.codes == np.prod(levels) <= 1.1 * codes
        every = torch.arange(made.codes)
        digits = every[:, None] // made.strides % made.levels
        rounded = made._normalize((digits - made.levels // 2).float()) * (made.levels // 2)
        assert torch.equal(made._tokens(rounded), every)
    assert levels_for(3) == LEVELS[16] and levels_for(300) == LEVELS[256]


def test_a_second_code_says_what_the_first_one_left():
    one, two, z = bottleneck("vq"), bottleneck("rvq"), vectors()
    errors = [(made.vectors(made.quantize(z[:, None]))[:, 0] - z).square().mean() for made in (one, two)]
    assert errors[1] < 0.5 * errors[0]
    coarse, fine = two.quantize(z[:, None]).unbind(-1)
    assert int(coarse.max()) < 16 <= int(fine.min()) and int(fine.max()) < 32


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("time_stride", [1, 2])
def test_video_streams_through_any_bottleneck_and_the_kernels_agree(kind, time_stride):
    tokenizer = tokenizer_with(kind, time_stride)
    frames = random_frames(2, 1 + 4 * time_stride, FRAME)
    tokens = tokenizer.encode(frames)
    assert tokens.shape == (2, 5, *tokenizer.grid) and tokenizer.grid == (2, 3 * tokenizer.bottleneck.tokens_per_site)
    whole, compiled = tokenizer.decode(tokens), CompiledTokenizer(tokenizer)
    past, ours = (None, None), ([], [])
    for latent in tokens.split(1, dim=1):
        for i, coder in enumerate((tokenizer, compiled)):
            part, after = coder.decode_chunk(latent, past[i])
            ours[i].append(part)
            past = (after, past[1]) if i == 0 else (past[0], after)
    assert torch.equal(torch.cat(ours[0], dim=1), whole)
    assert (torch.cat(ours[1], dim=1).int() - whole.int()).abs().max() <= 1
    assert torch.equal(compiled.encode_chunk(frames, None)[0], tokens)


@dataclass
class Frames:
    frames: torch.Tensor


def blocks(seed: int) -> Frames:
    """Clips of a few colors, each a block of the size of a token."""
    colors = random_frames(4, 3, (2, 3, 3), seed) // 128 * 200
    return Frames(colors.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3))


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_trains_with_any_bottleneck_and_comes_back_from_disk(kind, tmp_path):
    torch.manual_seed(0)
    tokenizer = VQVAE(TokenizerConfig(8, 1, width=6, bottleneck=kind, quantizer=CONFIG), FRAME)
    optimizer = torch.optim.Adam(tokenizer.parameters(), 3e-3)
    losses, metrics = [], {}
    for step in range(60):
        loss, metrics = tokenizer.train().loss(blocks(step % 4))
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8]) and metrics["psnr"].isfinite()
    save_tokenizer(tokenizer.eval(), tmp_path)
    back = load_tokenizer(tmp_path)
    frames = random_frames(2, 3, FRAME)
    assert back.config == tokenizer.config and torch.equal(back.encode(frames), tokenizer.encode(frames))


@pytest.mark.parametrize("kind", KINDS)
def test_every_sampler_dreams_the_same_dream_with_any_bottleneck_also_after_the_disk(kind, tmp_path):
    tokenizer = tokenizer_with(kind)
    prior = small_prior(codes=tokenizer.codes, grid=tokenizer.grid)
    world = WorldModel(tokenizer, prior, WorldInfo(FRAME, Discrete(4)))
    world.save(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())["config"]
    assert saved["tokenizer"]["bottleneck"] == kind and saved["prior"]["kind"] == "pixelcnn"
    frames, actions = random_frames(2, 3, FRAME), np.zeros((2, 8), int)
    reference = world.imagine(frames, actions, 6, SamplerConfig("cached"))
    assert reference[:, 1:].ne(reference[:, :-1]).any()
    for sampler in ("naive", "predictive", "compiled"):
        assert torch.equal(world.imagine(frames, actions, 6, SamplerConfig(sampler)), reference)
    assert torch.equal(WorldModel.load(tmp_path).imagine(frames, actions, 6), world.imagine(frames, actions, 6))


def test_an_unknown_bottleneck_is_refused_by_its_key():
    with pytest.raises(ValueError, match=r"tokenizer\.bottleneck: expected one of vq, fsq, rvq, got 'vae'"):
        TokenizerConfig(bottleneck="vae")

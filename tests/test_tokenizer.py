"""Laws of the tokenizer: causality, streaming, and a codebook that learns what the paper says."""

from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from torch.nn import functional as F

from tests.helpers_models import random_frames, small_tokenizer
from worldmodel.nn.causal_conv import CausalConv3d
from worldmodel.tokenizer import (
    VQVAE,
    QuantizerConfig,
    TokenizerConfig,
    load_tokenizer,
    nearest,
    perplexity,
    save_tokenizer,
)
from worldmodel.tokenizer.bottlenecks.vq import VectorQuantizer, plain_nearest
from worldmodel.tokenizer.layers import Activation, LinearPatches, StreamingSequential
from worldmodel.tokenizer.storage import fingerprint
from worldmodel.tokenizer.vqvae import focal_error

STRIDES = [(4, 1), (8, 1), (8, 2), (16, 4)]


def frame_for(space: int) -> tuple[int, int, int]:
    return (space * 2, space * 3, 3)


@pytest.mark.parametrize(("space", "time"), STRIDES)
def test_shapes_follow_the_strides_and_the_first_frame_has_its_own_latent(space, time):
    tokenizer = small_tokenizer(space, time, frame_for(space))
    frames = random_frames(2, 1 + 2 * time, frame_for(space))
    tokens = tokenizer.encode(frames)
    assert tokens.shape == (2, 3, 2, 3)
    assert tokenizer.decode(tokens).shape == frames.shape


@pytest.mark.parametrize(("space", "time"), STRIDES)
def test_tokens_see_no_later_frame(space, time):
    tokenizer = small_tokenizer(space, time, frame_for(space))
    frames = random_frames(1, 1 + 3 * time, frame_for(space))
    changed = frames.clone()
    changed[:, 1 + time :] = 255 - changed[:, 1 + time :]
    before, after = tokenizer.encode(frames), tokenizer.encode(changed)
    assert torch.equal(before[:, :2], after[:, :2]) and not torch.equal(before[:, 2:], after[:, 2:])


@pytest.mark.parametrize("time", [1, 2, 4])
def test_frames_are_decoded_from_no_later_latent(time):
    tokenizer = small_tokenizer(time_stride=time)
    tokens = torch.randint(0, 19, (1, 4, 2, 3), generator=torch.Generator().manual_seed(1))
    changed = tokens.clone()
    changed[:, 2:] = (changed[:, 2:] + 7) % 19
    before, after = tokenizer.decode(tokens), tokenizer.decode(changed)
    assert torch.equal(before[:, : 1 + time], after[:, : 1 + time]) and not torch.equal(before, after)


@pytest.mark.parametrize(("space", "time"), STRIDES)
def test_encoding_and_decoding_chunk_by_chunk_equals_doing_it_whole(space, time):
    tokenizer = small_tokenizer(space, time, frame_for(space))
    frames = random_frames(3, 1 + 7 * time, frame_for(space))
    tokens, past, decoder_past, pieces, video = tokenizer.encode(frames), None, None, [], []
    for chunk in frames.split([1 + time, time, 3 * time, 2 * time], dim=1):
        codes, past = tokenizer.encode_chunk(chunk, past)
        out, decoder_past = tokenizer.decode_chunk(codes, decoder_past)
        pieces.append(codes), video.append(out)
    assert torch.equal(torch.cat(pieces, 1), tokens)
    difference = torch.cat(video, 1).int() - tokenizer.decode(tokens).int()
    assert difference.abs().max() <= 1  # a rounding of a sum in another order may fall on the other grey level


def test_the_past_of_a_stream_does_not_grow():
    tokenizer, past, sizes = small_tokenizer(time_stride=2), None, set()
    for start, stop in [(0, 1), (1, 9), (9, 11), (11, 31)]:
        _, past = tokenizer.encode_chunk(random_frames(1, 31)[:, start:stop], past)
        sizes.add(sum(p.numel() for p in _tensors(past)))
    assert len(sizes) == 1 and sizes != {0}


def _tensors(past):
    if isinstance(past, tuple):
        return [tensor for part in past for tensor in _tensors(part)]
    return [] if past is None else [past]


def test_what_does_not_fit_is_refused_with_the_setting_to_change():
    with pytest.raises(ValueError, match=r"tokenizer\.space_stride"):
        small_tokenizer(8, 1, (20, 24, 3))
    tokenizer = small_tokenizer(time_stride=2)
    with pytest.raises(ValueError, match=r"1 \+ n \* 2 frames, got 4"):
        tokenizer.encode(random_frames(1, 4))
    with pytest.raises(ValueError, match="expected frames of shape"):
        tokenizer.encode(random_frames(1, 3, (24, 16, 3)))
    with pytest.raises(ValueError, match=r"tokens in \[0, 19\), got 0 to 19"):
        tokenizer.decode(torch.arange(18).clamp_min(0).view(1, 3, 2, 3) + torch.tensor([0, 1, 2]).view(1, 3, 1, 1))


@pytest.mark.parametrize("search", [nearest, plain_nearest])
@pytest.mark.parametrize("vectors", [0, 1, 7, 8, 1001])
@pytest.mark.parametrize("codes", [3, 16, 37])
def test_the_nearest_code_is_the_nearest(search, vectors, codes, monkeypatch):
    monkeypatch.setattr("worldmodel.tokenizer.bottlenecks.vq.SEARCH_FLOATS", 37 * 11)
    z, book = torch.randn(vectors, 5), torch.randn(codes, 5)
    found = search(z, book)
    assert torch.equal(found, torch.cdist(z.double(), book.double()).argmin(1))


@pytest.mark.parametrize("search", [nearest, plain_nearest])
def test_a_tie_falls_to_the_lowest_code_wherever_the_equal_ones_are(search):
    book = torch.randn(70, 4)
    for low, high in ((3, 4), (3, 20), (20, 35), (0, 69), (15, 16)):
        tied = book.clone()
        tied[high] = tied[low]
        assert search(tied[[low, high]], tied).tolist() == [low, low]


def ready(learning: Literal["ema", "loss"] = "ema", **settings) -> VectorQuantizer:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(QuantizerConfig(codes=8, code_width=3, learning=learning, **settings))
    quantizer.train()(torch.randn(64, 3))  # draws the codebook
    return quantizer


@pytest.mark.parametrize("learning", ["ema", "loss"])
def test_the_straight_through_gradient_is_all_ones(learning):
    quantizer = ready(learning)
    z = torch.randn(10, 3, requires_grad=True)
    quantizer(z).vectors.sum().backward()
    assert z.grad is not None and torch.equal(z.grad, torch.ones_like(z))


@pytest.mark.parametrize("learning", ["ema", "loss"])
def test_evaluation_leaves_the_codebook_alone(learning):
    quantizer = ready(learning).eval()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer(torch.randn(50, 3))
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


def test_the_loss_is_that_of_the_paper():
    quantizer, z = ready("loss", commitment=0.25), torch.randn(20, 3)
    codebook = quantizer.codebook.detach().clone()
    quantized = quantizer.eval()(z)
    error = F.mse_loss(codebook[quantized.tokens], z)
    torch.testing.assert_close(quantized.loss, 1.25 * error)
    quantized.loss.backward()
    assert quantizer.codebook.grad is not None and quantizer.codebook.grad.abs().sum() > 0


def test_patches_of_few_components_come_back_whole_before_anything_is_learned():
    linear = LinearPatches(4, 3, 5)
    flat = torch.randn(60, 5) @ torch.randn(5, 48) + torch.randn(48)  # 60 patches of five components
    video = linear.unfold(flat.view(1, 5, 3, 4, 48).movedim(-1, 1))[0]
    linear.init_from_data(video)
    torch.testing.assert_close(linear.decode(linear.encode(video)), video, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("initialized", [False, True])
def test_a_vector_that_is_off_by_some_mean_square_leaves_its_pixels_off_by_the_same(initialized):
    linear = LinearPatches(4, 3, 16)
    if initialized:
        linear.init_from_data(torch.randn(2, 3, 4, 8, 8))
    z, off = torch.randn(2, 16, 3, 2, 2), torch.randn(2, 16, 3, 2, 2)
    torch.testing.assert_close(F.mse_loss(linear.decode(z + off), linear.decode(z)), off.square().mean())


@pytest.mark.parametrize("time", [1, 2])
def test_before_training_a_latent_shows_the_patches_of_its_last_frame_in_all_its_frames(time):
    tokenizer = VQVAE(TokenizerConfig(4, time, width=6), (8, 12, 3))
    vectors = torch.randn(2, tokenizer.config.quantizer.code_width, 3, 2, 3)
    still = tokenizer.linear.decode(vectors)
    expected = torch.cat([still[:, :, :1], still[:, :, 1:].repeat_interleave(time, dim=2)], dim=2)
    torch.testing.assert_close(tokenizer._pixels(vectors, None)[0], expected)


def test_convolutions_hand_on_as_much_variance_as_comes_in():
    chain = StreamingSequential(
        CausalConv3d(64, 64), Activation(), CausalConv3d(64, 64), Activation(), CausalConv3d(64, 64)
    )
    x = torch.randn(1, 64, 2, 16, 16)
    for layer in chain.layers[:-1]:
        x, _ = layer(x)
        if isinstance(layer, CausalConv3d):
            assert 0.7 < x[..., 2:-2, 2:-2].std() < 1.4


def test_errors_weigh_by_a_power_of_their_own_size():
    pixels, truth = torch.zeros(1, 3, 1, 1, 2), torch.tensor([[1.0, 3.0]] * 3).view(1, 3, 1, 1, 2)
    assert focal_error(pixels, truth, 0) == (1 + 9) / 2
    torch.testing.assert_close(focal_error(pixels, truth, 1), torch.tensor((1 * 1 + 9 * 3) / (1 + 3)))
    torch.testing.assert_close(focal_error(pixels, truth, 2), torch.tensor((1 * 1 + 9 * 9) / (1 + 9.0)))


def test_the_moving_averages_are_those_of_appendix_a1():
    quantizer, z = ready(decay=0.9, restart_below=0.0), torch.randn(40, 3)
    mass, sums = quantizer.cluster_size.clone(), quantizer.embedding_sum.clone()
    codes = quantizer(z).tokens
    hot = F.one_hot(codes, 8).float()
    torch.testing.assert_close(quantizer.cluster_size, 0.9 * mass + 0.1 * hot.sum(0))
    torch.testing.assert_close(quantizer.embedding_sum, 0.9 * sums + 0.1 * hot.T @ z)
    torch.testing.assert_close(quantizer.codebook, quantizer.embedding_sum / quantizer.cluster_size[:, None])


@pytest.mark.parametrize("learning", ["ema", "loss"])
def test_a_dead_code_is_put_on_an_encoder_output_with_both_averages_reset(learning):
    quantizer = ready(learning)
    with torch.no_grad():
        quantizer.codebook[5] = 1000.0
        quantizer.cluster_size[5], quantizer.embedding_sum[5] = 1e-9, 1e-6
    z = torch.randn(30, 3)
    quantizer(z)
    assert (z == quantizer.codebook[5]).all(1).any()
    torch.testing.assert_close(quantizer.embedding_sum[5] / quantizer.cluster_size[5], quantizer.codebook[5].detach())


def test_a_codebook_starts_where_k_means_finds_clusters():
    torch.manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 20.0]])
    z = centres.repeat_interleave(torch.tensor([40, 20, 20]), 0) + 0.1 * torch.randn(80, 2)
    quantizer = VectorQuantizer(QuantizerConfig(codes=12, code_width=2)).train()
    quantizer.init_from_data(z)
    assert F.mse_loss(quantizer.vectors(quantizer(z).tokens), z) < 0.01  # the noise of a coordinate, or less
    assert float(quantizer.cluster_size.mean()) == pytest.approx(1, abs=0.1)


def test_an_uninitialized_codebook_starts_from_the_first_batch_of_a_training_and_no_other():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(QuantizerConfig(codes=9, code_width=2, decay=1.0, restart_below=0.0))
    start = quantizer.codebook.clone()
    quantizer.eval()(torch.randn(40, 2))
    assert torch.equal(quantizer.codebook, start)
    quantizer.train()(torch.randn(40, 2))
    initialized = quantizer.codebook.clone()
    assert not torch.equal(initialized, start)
    quantizer(torch.randn(40, 2) + 5)
    torch.testing.assert_close(quantizer.codebook[quantizer.cluster_size > 0], initialized[quantizer.cluster_size > 0])


def test_a_short_training_lowers_the_error_and_uses_several_codes():
    tokenizer = small_tokenizer(codes=16).train()
    torch.manual_seed(1)
    ramp = torch.linspace(0, 255, 24).to(torch.uint8).view(1, 1, 1, 24, 1).expand(4, 3, 16, 24, 3)
    clip: Any = SimpleNamespace(frames=torch.stack([ramp[0].roll(6 * i, 2) for i in range(4)]))
    optimizer = torch.optim.Adam(tokenizer.parameters(), 3e-3)
    losses, metrics = [], {}
    for _ in range(60):
        loss, metrics = tokenizer.loss(clip)
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0] and metrics["psnr"] > 15
    assert tokenizer.eval().encode(clip.frames).unique().numel() >= 3


def test_standard_code_vectors_have_mean_zero_and_deviation_one_in_every_entry():
    quantizer = VectorQuantizer(QuantizerConfig(codes=50, code_width=3)).eval()
    quantizer.codebook.mul_(torch.tensor([100.0, 1.0, 0.01])).add_(5)
    seen = quantizer.embed(torch.arange(50))
    torch.testing.assert_close(seen.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.std(0), torch.ones(3), atol=1e-4, rtol=0)


def test_perplexity_is_the_number_of_codes_in_even_use():
    assert perplexity(torch.tensor([5.0, 5.0, 0.0, 5.0])) == pytest.approx(3)


def test_saving_then_loading_gives_the_same_tokens(tmp_path):
    tokenizer = small_tokenizer()
    save_tokenizer(tokenizer, tmp_path)
    loaded, frames = load_tokenizer(tmp_path), random_frames(2, 3)
    assert torch.equal(loaded.encode(frames), tokenizer.encode(frames))
    assert fingerprint(loaded) == fingerprint(tokenizer) != fingerprint(small_tokenizer(time_stride=2))


def test_the_error_for_frames_that_do_not_divide_into_tokens_names_every_key_that_helps():
    with pytest.raises(ValueError, match=r"30x32.*env\.height.*size=.*tokenizer\.space_stride"):
        VQVAE(TokenizerConfig(), (30, 32, 3))

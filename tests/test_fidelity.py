"""What is said of a tokenizer: against the paper's arithmetic, values computed by hand, and a broken one."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.helpers_evaluate import clips_of
from tests.helpers_models import random_frames, small_tokenizer, some_tokens
from worldmodel.evaluate.measures.images import make_frame_metrics
from worldmodel.evaluate.sections.fidelity import encode_decode, fidelity, perplexities, size, usage, uses
from worldmodel.evaluate.testbed.held_out import HeldOut


def test_the_papers_32_by_32_codes_of_512_are_42_6_times_smaller_than_its_pixels():
    found = size((128, 128, 3), (32, 32), 512, time_stride=1)
    assert found["raw_bits_per_frame"].mean == 128 * 128 * 3 * 8 and found["token_bits_per_frame"].mean == 32 * 32 * 9
    assert found["compression"].mean == pytest.approx(42.6, abs=0.1)
    assert size((128, 128, 3), (32, 32), 512, time_stride=4)["compression"].mean == pytest.approx(4 * 128 / 3)


def test_uses_perplexity_and_usage_are_those_counted_by_hand():
    counts = uses(torch.tensor([[[[0, 0, 1, 1]]], [[[3, 3, 3, 3]]]]), codes=5)
    assert counts.tolist() == [[2, 2, 0, 0, 0], [0, 0, 0, 4, 0]]
    assert perplexities(counts) == pytest.approx([2.0, 1.0]) and usage(counts) == pytest.approx([0.4, 0.2])


def held_out(frames: torch.Tensor) -> HeldOut:
    return dataclasses.replace(clips_of(some_tokens(b=6, s=4), tuple(range(6))), frames=frames)


def test_figures_of_a_tokenizer_are_those_of_its_decoded_frames_one_by_one():
    tokenizer = small_tokenizer()
    clips = held_out(random_frames(6, 4))
    section = fidelity(tokenizer, clips, make_frame_metrics())
    tokens, decoded = encode_decode(tokenizer, clips.frames)
    error = (decoded.double() - clips.frames.double()).square().mean((2, 3, 4)).numpy()
    assert section.metrics["psnr"].mean == pytest.approx(10 * np.log10(255**2 / error.mean()))
    assert section.curves["psnr_by_frame"].mean == pytest.approx(10 * np.log10(255**2 / error.mean(0)))
    assert section.metrics["psnr_first_frame"].mean == pytest.approx(section.curves["psnr_by_frame"].mean[0])
    assert section.metrics["usage"].mean == pytest.approx(len(tokens.unique()) / 19)


def test_a_tokenizer_with_a_broken_decoder_is_found_out_by_every_likeness():
    good, bad = small_tokenizer(), small_tokenizer()
    clips = held_out(good.decode(some_tokens(b=6, s=4)))  # what it can draw
    with torch.no_grad():  # it draws the negative of what it should
        for parameter in (*bad.decoder.layers[-2].parameters(), *bad.linear.out_proj.parameters()):
            parameter.neg_()
    right, broken = (fidelity(tokenizer, clips, make_frame_metrics()).metrics for tokenizer in (good, bad))
    assert right["psnr"].low > broken["psnr"].high and right["ssim"].low > broken["ssim"].high


def test_intervals_of_perplexity_hold_the_value_although_every_draw_has_fewer_codes():
    tokenizer = small_tokenizer()
    found = fidelity(tokenizer, held_out(random_frames(6, 4)), {}).metrics
    for name in ("perplexity", "usage"):
        assert found[name].low <= found[name].mean <= found[name].high, name

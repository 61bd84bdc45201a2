"""What training watches, and the clips that everything else is measured on."""

import math

import numpy as np
import pytest
import torch

from tests.helpers_evaluate import STEP, brightening, brightening_tokens, brightening_world, clips_of
from tests.helpers_models import small_tokenizer, some_tokens
from worldmodel.data.clips.clips import ClipBatches, ClipSampler
from worldmodel.data.clips.token_batches import TokenBatches
from worldmodel.data.clips.token_store import TokenStore
from worldmodel.evaluate import likelihood, psnr, reconstruction, squared_error
from worldmodel.evaluate.testbed.held_out import decode, reach, sample_clips


@pytest.fixture
def store(tmp_path):
    return brightening(tmp_path)


def test_reconstruction_is_what_encoding_and_decoding_give(store):
    tokenizer = small_tokenizer()
    batches = ClipBatches(store, [1, 2], length=5, batch_size=3, seed=0)
    metrics = reconstruction(tokenizer, batches, count=2)
    frames = torch.cat([batches[0].frames, batches[1].frames])
    expected = psnr(squared_error(tokenizer.decode(tokenizer.encode(frames)), frames).mean())
    assert metrics["psnr"] == pytest.approx(expected)
    assert 1 <= metrics["perplexity"] <= metrics["codes_used"] <= 19


def test_likelihood_is_the_mean_of_all_latents_but_the_first_of_each_clip(store, tmp_path):
    world = brightening_world()
    tokens = brightening_tokens(world, store, tmp_path)
    batches = TokenBatches(tokens, store, [1, 2], length=4, batch_size=5, seed=0)
    with torch.no_grad():
        nats = world.prior.nats(batches[0].tokens, batches[0].actions)
    metrics = likelihood(world.prior, batches, count=1)
    assert metrics["bits_per_token"] == pytest.approx(float(nats[:, 1:].mean()) / math.log(2), rel=1e-5)
    assert metrics["bits_per_frame"] == pytest.approx(6 * metrics["bits_per_token"])
    assert metrics["bits_per_token_shuffled_actions"] != metrics["bits_per_token"]


def test_clips_hold_the_actions_between_their_frames_and_a_horizon_beyond_all_is_refused(store):
    clips = ClipSampler(store, [2, 3], length=6, seed=0, setting="horizon").sample_distinct(4)
    level = clips.frames[:, :, 0, 0, 0].numpy().astype(int)
    assert np.array_equal(np.diff(level, axis=1), STEP * (2 * clips.actions - 1))
    with pytest.raises(ValueError, match=r"longest of 2 has 13\): lower horizon"):
        ClipSampler(store, [2, 3], length=14, seed=0, setting="horizon")


def test_held_out_clips_agree_in_frames_actions_and_tokens_and_know_their_episode(store, tmp_path):
    tokens = brightening_tokens(brightening_world(), store, tmp_path)
    clips = sample_clips(store, tokens, [1, 3], latents=5, count=7, seed=0)
    level = clips.frames[:, :, 0, 0, 0].numpy().astype(int)
    assert np.array_equal(np.diff(level, axis=1), STEP * (2 * clips.actions - 1))
    assert (
        torch.equal(clips.action_inputs[:, 1:].argmax(-1), torch.from_numpy(clips.actions))
        and not clips.action_inputs[:, 0].any()
    )
    assert list(clips.episodes) == sorted(clips.episodes) and set(clips.episodes) == {1, 3}
    whole = {i: tokens.tokens(i) for i in (1, 3)}
    windows = {i: [x[j : j + 5].tolist() for j in range(len(x) - 4)] for i, x in whole.items()}
    assert all(clip.tolist() in windows[i] for i, clip in zip(clips.episodes, clips.tokens, strict=True))
    with pytest.raises(ValueError, match="no episode has 14 latents"):
        sample_clips(store, tokens, [1, 3], latents=14, count=1, seed=0)


def test_episodes_are_drawn_as_wholes_where_there_are_five_and_clips_where_there_are_fewer():
    few, many = (clips_of(some_tokens(b=6, s=2), episodes) for episodes in ((0, 0, 1, 2, 3, 3), (0, 1, 2, 3, 4, 4)))
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 7.0])
    assert few.unit_means(values).tolist() == values.tolist()
    assert many.unit_means(values).tolist() == [1.0, 2.0, 3.0, 4.0, 6.0]
    assert [(each.resampler.name, len(each.resampler)) for each in (few, many)] == [("clips", 6), ("episodes", 5)]


def test_the_other_clip_is_never_the_clip_itself_nor_of_its_episode_where_two_have_half_each():
    clips = clips_of(some_tokens(b=7, s=2), (0, 0, 0, 1, 1, 1, 1))
    assert sorted(clips.others()) == list(range(7)) and all(i != other for i, other in enumerate(clips.others()))
    halves = clips_of(some_tokens(b=6, s=2), (0, 0, 0, 1, 1, 1))
    assert all(halves.episodes[i] != halves.episodes[other] for i, other in enumerate(halves.others()))


def test_clips_decode_to_what_their_tokens_show():
    tokenizer, clips = small_tokenizer(), clips_of(some_tokens(b=9, s=3), tuple(range(9)))
    assert torch.equal(decode(tokenizer, clips), tokenizer.decode(clips.tokens))


def test_a_horizon_reaches_as_far_as_half_of_the_episodes(tmp_path):
    tokens = TokenStore.create(tmp_path, key="k", codes=2, grid=(1, 1), time_stride=1)
    for index, latents in enumerate((3, 5, 10)):
        tokens.write(index, np.zeros((latents, 1, 1), np.int64))
    assert [reach(tokens, [0, 1, 2], latents) for latents in (3, 5, 9)] == [3, 5, 5]

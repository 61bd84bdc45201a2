"""Laws of tokens on disk and in batches: whole, never stale, beside the actions that led to them."""

import pickle

import numpy as np
import pytest
import torch

from tests.helpers_env import CounterEnv, counter_info
from worldmodel.data.clips.token_batches import TokenBatches, latent_actions
from worldmodel.data.clips.token_store import TokenStore, token_key
from worldmodel.data.collect.collect import collect
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.nn.actions import ActionEncoder

GRID = (2, 3)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = EpisodeStore.create(tmp_path_factory.mktemp("episodes"), counter_info(seed=4))
    collect(CounterEnv, store, 5, seed=4, info_keys=("now",))
    return store


def make_tokens(folder, store, stride=1, codes=512, key="k"):
    """Token (0, 0) of latent j is j; token (0, 1) is the episode."""
    made = TokenStore.create(folder, key=key, codes=codes, grid=GRID, time_stride=stride)
    for index in store.indices:
        tokens = np.zeros((1 + (store.length(index) - 1) // stride, *GRID), np.int64)
        tokens[:, 0, 0], tokens[:, 0, 1] = np.arange(len(tokens)), index
        made.write(index, tokens)
    return made


def test_row_j_of_latent_actions_is_what_leads_into_latent_j():
    encoded = np.arange(14, dtype=np.float32).reshape(7, 2)
    np.testing.assert_array_equal(latent_actions(encoded, 3, 3), [[0] * 6, [0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]])
    np.testing.assert_array_equal(latent_actions(encoded, 1, 3), [[0, 0], [0, 1], [2, 3]])
    assert latent_actions(encoded[:0], 2, 1).tolist() == [[0] * 4]
    with pytest.raises(ValueError, match="4 latents of 3 frames need 9 actions, got 7"):
        latent_actions(encoded, 3, 4)


@pytest.mark.parametrize(("codes", "dtype"), [(2**15, np.int16), (2**15 + 1, np.int32)])
def test_tokens_are_read_as_they_were_written_from_a_map_of_a_plain_npy(tmp_path, codes, dtype):
    made = TokenStore.create(tmp_path, key="k", codes=codes, grid=GRID, time_stride=1)
    tokens = np.random.default_rng(0).integers(0, codes, (9, *GRID))
    tokens[0, 0, 0] = codes - 1
    made.write(3, tokens)
    back = TokenStore.open(tmp_path, "k").tokens(3)
    assert isinstance(back, np.memmap)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, tokens)
    np.testing.assert_array_equal(np.load(made.path(3)), tokens)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(made)).tokens(3), tokens)
    assert made.indices == (3,)


def test_tokens_of_another_tokenizer_or_dataset_are_stale(tmp_path, store):
    key = token_key("tokenizer", store.fingerprint())
    make_tokens(tmp_path, store, key=key)
    assert TokenStore.open(tmp_path, key).indices == store.indices
    for other in (token_key("other", store.fingerprint()), token_key("tokenizer", "other")):
        with pytest.raises(ValueError, match=r"stale.*make the tokens again"):
            TokenStore.open(tmp_path, other)
    with pytest.raises(ValueError, match=r"no readable tokens\.json"):
        TokenStore.open(tmp_path / "nowhere", key)


def test_creating_goes_on_with_equal_tokens_and_clears_stale_ones(tmp_path, store):
    make_tokens(tmp_path, store)
    same = {"key": "k", "codes": 512, "grid": GRID, "time_stride": 1}
    assert TokenStore.create(tmp_path, **same).indices == store.indices
    assert TokenStore.create(tmp_path, **{**same, "key": "new"}).indices == ()


def test_creating_leaves_a_folder_of_other_things_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("my only copy")
    with pytest.raises(ValueError, match=r"thesis\.txt"):
        TokenStore.create(tmp_path, key="k", codes=9, grid=GRID, time_stride=1)
    assert (tmp_path / "thesis.txt").exists()


def test_every_flipped_bit_and_every_cut_of_a_token_file_is_refused(tmp_path, store):
    path = make_tokens(tmp_path, store).path(0)
    content = path.read_bytes()
    flipped = {place: bytearray(content) for place in range(0, len(content), 3)}
    for place, damaged in flipped.items():
        damaged[place] ^= 1 << place % 8
    for damaged in (*flipped.values(), content[:-1], content[:50], b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"tokens_000000\.npy: missing or damaged"):
            TokenStore.open(tmp_path, "k").tokens(0)


@pytest.mark.parametrize(
    ("tokens", "error"),
    [
        (np.full((4, 2, 3), 512), "expected 0 to 511, got 512"),
        (np.full((4, 2, 3), -1), "got -1"),
        (np.zeros((4, 3, 2), int), "shape"),
        (np.zeros((0, 2, 3), int), "shape"),
    ],
)
def test_tokens_that_do_not_fit_are_not_written(tmp_path, tokens, error):
    made = TokenStore.create(tmp_path, key="k", codes=512, grid=GRID, time_stride=1)
    with pytest.raises(ValueError, match=error):
        made.write(0, tokens)
    assert made.indices == ()


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_actions_rewards_and_ends_are_those_that_lead_into_each_latent(tmp_path, store, stride):
    tokens = make_tokens(tmp_path, store, stride)
    batches = TokenBatches(tokens, store, store.indices, length=4, batch_size=64, seed=0)
    encoder, starts, ended = ActionEncoder(store.info.action_space), set(), 0
    for clip in (batches[step] for step in range(4)):
        for row in range(64):
            first, index = clip.tokens[row, 0, 0].tolist()[:2]
            episode, latents = store.read(index), slice(first, first + 4)
            every = len(tokens.tokens(index))
            actions = latent_actions(encoder.encode(episode.actions), stride, every)[latents]
            np.testing.assert_array_equal(clip.actions[row], actions)
            frame = stride * np.arange(first, first + 4)  # the reward of a step is its next frame's number
            sums = [sum(range(max(1, now - stride + 1), now + 1)) for now in frame]
            np.testing.assert_array_equal(clip.rewards[row], sums)
            np.testing.assert_array_equal(clip.terminated[row], frame == len(episode))
            starts.add(first)
            ended += int(clip.terminated[row].sum())
    assert 0 in starts
    assert ended > 0


def test_the_first_latent_of_an_episode_has_nothing_before_it(tmp_path, store):
    tokens = make_tokens(tmp_path, store, 2)
    clip = TokenBatches(tokens, store, store.indices, length=1, batch_size=256, seed=0)[0]
    first = clip.tokens[:, 0, 0, 0] == 0
    assert first.any()
    assert not clip.actions[first].any()
    assert not clip.rewards[first].any()
    assert (clip.actions[~first].sum(-1) == 2).all()


def test_a_batch_of_tokens_is_a_function_of_seed_and_step(tmp_path, store):
    tokens = make_tokens(tmp_path, store)
    one, two = (TokenBatches(tokens, store, store.indices, length=5, batch_size=8, seed=1) for _ in range(2))
    _ = one[0]
    assert torch.equal(one[7].tokens, two[7].tokens)
    assert not torch.equal(one[7].tokens, one[8].tokens)
    assert one[7].tokens.dtype == torch.int64


def test_tokens_that_are_not_those_of_their_episode_are_refused(tmp_path, store):
    tokens = make_tokens(tmp_path, store)
    tokens.write(2, np.zeros((3, *GRID), int))
    with pytest.raises(ValueError, match=rf"expected {store.length(2)} latents .*got 3"):
        TokenBatches(tokens, store, store.indices, length=2, batch_size=8, seed=1)


def test_every_latent_is_drawn_alike_so_also_the_last_where_an_episode_ends(tmp_path, store):
    tokens = make_tokens(tmp_path, store)
    index = store.indices[0]
    batches = TokenBatches(tokens, store, [index], length=5, batch_size=512, seed=0)
    places = torch.cat([batches[step].tokens[:, :, 0, 0].flatten() for step in range(8)])
    counts = torch.bincount(places).double()
    middle = counts[9:-9].mean().item()
    assert len(counts) == len(tokens.tokens(index))
    assert counts[-1].item() == pytest.approx(middle, rel=0.2) and counts[0].item() == pytest.approx(middle, rel=0.2)
    assert counts.max() < 2.2 * middle


def test_an_episode_shorter_than_the_clip_takes_part_and_what_fills_up_is_not_real(tmp_path, store):
    tokens = make_tokens(tmp_path, store)
    index = store.indices[0]
    latents = len(tokens.tokens(index))
    clip = TokenBatches(tokens, store, [index], length=latents + 3, batch_size=2, seed=1)[0]
    assert clip.mask.tolist() == [[True] * latents + [False] * 3] * 2
    for values in (clip.tokens, clip.actions, clip.rewards, clip.terminated):
        assert not values[:, latents:].any()
    assert clip.terminated[0, latents - 1] and clip.rewards[0, latents - 1] == latents - 1


def test_the_outcomes_of_all_episodes_are_those_of_their_steps(tmp_path, store):
    rewards, ends = TokenBatches(
        make_tokens(tmp_path, store), store, store.indices, length=2, batch_size=1, seed=0
    ).all_outcomes()
    np.testing.assert_array_equal(rewards, np.concatenate([store.rewards(i) for i in store.indices]))
    assert ends.sum() == sum(store.header(i).terminated for i in store.indices)

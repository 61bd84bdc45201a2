"""Laws of clips: uniform, aligned, inside one episode, and a function of (seed, step)."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.helpers_env import NO_ACTION, CounterEnv, counter_info
from worldmodel.data.clips.clips import ClipBatches, ClipSampler
from worldmodel.data.clips.split import train_validation_split
from worldmodel.data.clips.windows import WindowSampler
from worldmodel.data.collect.collect import collect
from worldmodel.data.episodes.store import EpisodeStore


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = EpisodeStore.create(tmp_path_factory.mktemp("episodes"), counter_info(seed=2))
    collect(CounterEnv, store, 5, seed=2, info_keys=("now",))
    return store


def batches(store, **changes):
    settings = {"length": 6, "batch_size": 32, "seed": 0, **changes}
    return ClipBatches(store, store.indices, **settings)


def assert_equal(one, two):
    for name in ("frames", "actions", "rewards", "terminated"):
        assert torch.equal(getattr(one, name), getattr(two, name))


def test_the_action_of_a_clip_is_the_one_that_its_next_frame_shows(store):
    clip = batches(store)[0]
    shown = clip.frames[:, :, 0, 0].long()  # seed, step, last action
    assert clip.frames.shape == (32, 6, 6, 5, 3)
    assert clip.actions.shape == (32, 5, 3)
    assert torch.equal(clip.actions.argmax(-1), shown[:, 1:, 2])
    assert torch.equal(clip.rewards, shown[:, 1:, 1].float())
    assert (clip.actions.sum(-1) == 1).all()


def test_a_clip_is_consecutive_frames_of_one_episode(store):
    shown = batches(store)[1].frames[:, :, 0, 0].long()
    assert (shown[:, :, 0] == shown[:, :1, 0]).all()
    assert (shown[:, 1:, 1] - shown[:, :-1, 1] == 1).all()


def test_ends_are_true_exactly_where_the_episode_terminated(store):
    last_frame = {store.header(index).seed % 251: store.length(index) - 1 for index in store.indices}
    clips = [batches(store)[step] for step in range(20)]
    shown = torch.cat([clip.frames[:, 1:, 0, 0] for clip in clips]).long()
    expected = torch.tensor([[last_frame[int(seed)] == int(now) for seed, now, _ in row] for row in shown])
    assert expected.any()
    assert torch.equal(torch.cat([clip.terminated for clip in clips]), expected)


def test_an_episode_that_was_cut_off_has_no_end(tmp_path):
    store = EpisodeStore.create(tmp_path, counter_info(max_steps=9))
    collect(CounterEnv, store, 1, max_steps=9, info_keys=("now",))
    whole = batches(store, length=10)[0]
    assert whole.frames[0, 0, 0, 0, 2] == NO_ACTION
    assert not whole.terminated.any()


def test_a_batch_is_a_function_of_seed_and_step(store):
    one, again = batches(store), batches(store)
    for step in (9, 2, 9):
        assert_equal(one[step], again[step])
    assert not torch.equal(one[2].frames, one[3].frames)
    assert not torch.equal(one[2].frames, batches(store, seed=1)[2].frames)


def test_every_place_is_drawn_equally_often():
    windows = WindowSampler({7: 4, 2: 9, 5: 3}, 3, 0, item="frames", setting="length")
    counts = {}
    for place in windows.sample(0, 20_000):
        counts[place] = counts.get(place, 0) + 1
    places = {(7, start) for start in range(2)} | {(2, start) for start in range(7)} | {(5, 0)}
    assert counts.keys() == places
    assert len(windows) == 10
    assert 1850 < min(counts.values()) <= max(counts.values()) < 2150  # 2000 +- 3.5 standard deviations


def test_short_episodes_are_passed_over_and_an_impossible_length_is_refused(store):
    longest, other = sorted(set(store.lengths.values()))[-1:-3:-1]
    seeds = {store.header(index).seed % 251 for index in store.indices if store.length(index) > other}
    assert set(batches(store, length=longest)[0].frames[:, 0, 0, 0, 0].tolist()) == seeds
    with pytest.raises(ValueError, match=f"no episode has {longest + 1} frames .*has {longest}.*clip length"):
        batches(store, length=longest + 1)


def test_a_clip_of_one_frame_has_no_actions(store):
    clip = batches(store, length=1)[0]
    assert clip.frames.shape[:2] == (32, 1)
    assert clip.actions.shape == (32, 0, 3)


def test_no_more_frames_are_read_than_the_clips_have(store, monkeypatch):
    read = []
    frames = EpisodeStore.frames
    monkeypatch.setattr(EpisodeStore, "read", None)
    monkeypatch.setattr(EpisodeStore, "frames", lambda self, i, a, b: read.append(b - a) or frames(self, i, a, b))
    _ = batches(store)[0]
    assert read == [6] * 32


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # the test process has threads of its own
def test_the_loader_gives_the_batches_in_order_whatever_reads_them(store, workers):
    source = batches(store, batch_size=3)
    loaded = list(DataLoader(source, batch_size=None, sampler=range(4, 9), num_workers=workers))
    assert len(loaded) == 5
    for step, clip in zip(range(4, 9), loaded, strict=True):
        assert_equal(clip, source[step])


def test_a_batch_moves_as_one(store):
    moved = batches(store)[0].to("meta")
    assert {tensor.device.type for tensor in vars(moved).values()} == {"meta"}


class _Indices(EpisodeStore):
    """Knows of episodes that nobody collected."""

    def __init__(self, *indices: int):
        self._collected = indices

    @property
    def indices(self) -> tuple[int, ...]:
        return self._collected


def test_growing_a_dataset_moves_no_episode_between_the_sides():
    small, large = (train_validation_split(_Indices(*range(n)), 0.2) for n in (50, 1000))
    assert set(small[0]) < set(large[0])
    assert set(small[1]) < set(large[1])
    assert sorted(large[0] + large[1]) == list(range(1000))
    assert 150 < len(large[1]) < 250


@pytest.mark.parametrize("indices", [(0, 1), (0, 2), (1, 3), (4, 5, 6)])
def test_both_sides_have_an_episode_when_there_are_two(indices):
    train, validation = train_validation_split(_Indices(*indices), 0.1)
    assert train
    assert validation
    assert sorted(train + validation) == list(indices)


def test_a_split_of_nothing_keeps_all_for_training_and_nonsense_is_refused(store):
    assert train_validation_split(store, 0.0) == (list(store.indices), [])
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        train_validation_split(store, 1.0)


def test_too_short_episodes_are_refused_with_the_key_to_lower_or_none():
    for setting, advice in (
        ("clip_latents", "lower clip_latents, or collect longer"),
        ("", r"has 3\): collect longer"),
    ):
        with pytest.raises(ValueError, match=rf"no episode has 9 latents \(.*{advice} episodes"):
            WindowSampler({0: 3}, 9, 0, item="latents", setting=setting)


def test_distinct_windows_are_all_different_and_no_more_than_there_are():
    windows = WindowSampler({7: 4, 2: 9, 5: 3}, 3, 0, item="frames", setting="length")
    places = [(index, start) for index, count in ((7, 2), (2, 7), (5, 1)) for start in range(count)]
    assert sorted(windows.sample_distinct(99)) == sorted(places)
    order = np.random.default_rng(0).choice(10, 4, replace=False)
    assert windows.sample_distinct(4) == [places[i] for i in order]


@pytest.mark.parametrize("stride", [2, 3])
def test_clips_of_whole_latents_start_and_end_where_latents_do(store, stride):
    sampler = ClipSampler(store, store.indices, length=3, seed=1, setting="", time_stride=stride)
    clips = sampler.sample(0, 64)
    assert clips.frames.shape[1] == 1 + 2 * stride and clips.actions.shape == (64, 2 * stride)
    for row, (index, start) in enumerate(zip(clips.episodes, clips.starts, strict=True)):
        assert start % stride == 0
        np.testing.assert_array_equal(clips.frames[row], store.frames(index, start, start + 1 + 2 * stride))
        np.testing.assert_array_equal(clips.actions[row], store.actions(index)[start : start + 2 * stride])
    with pytest.raises(ValueError, match="no episode has 99 latents"):
        ClipSampler(store, store.indices, length=99, seed=1, setting="", time_stride=stride)

"""Laws of the episode store: what was written is what is read, or there is an error that names the file."""

import errno
import multiprocessing
import os
import pickle
import time
from dataclasses import replace

import h5py
import jaxtyping
import numpy as np
import pytest

from tests.helpers_env import counter_info
from worldmodel.data.episodes import episode_file, hdf5
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.episode import Episode
from worldmodel.data.episodes.repair import find_damaged, quarantine, quarantine_damaged
from worldmodel.data.episodes.store import EpisodeError, EpisodeStore


def make_episode(index=0, steps=40, **fields):
    rng = np.random.default_rng(index)
    values = {
        "frames": rng.integers(0, 256, (steps + 1, 6, 5, 3), dtype=np.uint8),
        "actions": rng.integers(0, 3, steps),
        "rewards": rng.normal(size=steps).astype(np.float32),
        "infos": {"now": np.arange(steps + 1)},
    }
    return Episode(**{**values, "terminated": True, "truncated": False, "seed": 9, "index": index, **fields})


def assert_same(one, two):
    for name in ("frames", "actions", "rewards"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), strict=True)
    assert one.infos.keys() == two.infos.keys()
    assert all(np.array_equal(one.infos[key], two.infos[key]) for key in one.infos)
    for name in ("terminated", "truncated", "seed", "index"):
        assert getattr(one, name) == getattr(two, name)


@pytest.fixture
def store(tmp_path):
    store = EpisodeStore.create(tmp_path / "episodes", counter_info())
    for index, steps in ((0, 40), (3, 1), (1, 33)):
        store.write(make_episode(index, steps))
    return store


@pytest.fixture
def unchecked_shapes():
    """As outside the tests: shapes in signatures are not checked, so that our own messages come first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("frames", np.zeros((40, 6, 5, 3), np.uint8), "40 frames need 39 actions"),
        ("frames", np.zeros((41, 6, 5), np.uint8), "4 axes"),
        ("frames", np.zeros((41, 6, 5, 3), np.float32), "uint8"),
        ("rewards", np.zeros(40), "float32"),
        ("rewards", np.zeros(41, np.float32), "40 rewards"),
        ("infos", {"now": np.arange(40)}, "41 rows"),
        ("infos", {"now": np.array(["x"] * 41)}, "numbers"),
        ("seed", -1, ">= 0"),
    ],
)
def test_an_episode_whose_parts_do_not_fit_is_refused(unchecked_shapes, field, value, error):
    with pytest.raises((ValueError, TypeError), match=error):
        make_episode(**{field: value})


def test_an_episode_without_an_action_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        make_episode(steps=0)


def test_what_is_written_is_read(store):
    assert store.indices == (0, 1, 3)
    assert store.lengths == {0: 41, 1: 34, 3: 2}
    for index, steps in ((0, 40), (1, 33), (3, 1)):
        assert_same(store.read(index), make_episode(index, steps))
        assert len(store.read(index)) == steps
    assert find_damaged(store) == {}


def test_a_slice_of_frames_is_that_slice_also_across_chunks(store):
    frames = make_episode(0).frames
    for start, stop in ((0, 41), (3, 19), (15, 17), (40, 41), (7, 7)):
        np.testing.assert_array_equal(store.frames(0, start, stop), frames[start:stop])
    for start, stop in ((-1, 3), (0, 42), (5, 4)):
        with pytest.raises(IndexError, match="41"):
            store.frames(0, start, stop)


def test_actions_and_rewards_that_are_shared_cannot_be_written_to(store):
    np.testing.assert_array_equal(store.actions(0), make_episode(0).actions)
    with pytest.raises(ValueError, match="read-only"):
        store.rewards(0)[0] = 1


def test_equal_episodes_give_equal_bytes_at_any_time():
    first = bytes(hdf5.to_bytes(make_episode()))
    time.sleep(1.1)  # HDF5 dates objects by the second, unless track_times is off
    assert bytes(hdf5.to_bytes(make_episode())) == first


def test_every_flipped_bit_is_harmless_or_an_episode_error(tmp_path):
    store = EpisodeStore.create(tmp_path, counter_info())
    store.write(make_episode(steps=17))  # two chunks of frames
    path, right = store.path(0), make_episode(steps=17)
    content = path.read_bytes()
    assert_same(EpisodeStore.open(tmp_path).read(0), right)
    refused = 0
    for place in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            assert_same(EpisodeStore.open(tmp_path).read(0), right)
        except EpisodeError as error:
            refused += 1
            assert path.name in str(error)
    assert refused > len(content) / 14  # the rest is unused space, which HDF5 leaves in small files


def test_a_flipped_bit_in_frames_is_noticed_by_a_slice_that_touches_it_alone(store):
    path = store.path(0)
    with h5py.File(path) as file:
        place = file["frames"].id.get_chunk_info(1).byte_offset + 100
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    fresh = EpisodeStore.open(store.folder)
    np.testing.assert_array_equal(fresh.frames(0, 0, 16), make_episode(0).frames[:16])
    with pytest.raises(EpisodeError, match=r"episode_000000\.h5.*`worldmodel data repair`"):
        fresh.frames(0, 10, 20)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(store, part):
    path = store.path(0)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(EpisodeError, match="damaged"):
        EpisodeStore.open(store.folder).read(0)


def test_a_damaged_episode_is_listed_and_the_others_stay_usable(store):
    store.path(1).write_bytes(b"not an episode")
    fresh = EpisodeStore.open(store.folder)
    assert list(find_damaged(fresh)) == [1]
    assert_same(fresh.read(0), make_episode(0))
    with pytest.raises(EpisodeError, match="episode_000001"):
        _ = fresh.lengths


def test_files_that_are_not_that_episode_are_refused(store):
    store.path(3).replace(store.path(7))
    with pytest.raises(EpisodeError, match=r"expected episode 7 .* got episode 3"):
        store.read(7)
    with h5py.File(store.path(8), "w") as file:
        file["frames"] = np.zeros((3, 6, 5, 3), np.float32)
    for index in (8, 9):
        with pytest.raises(EpisodeError, match=f"episode_00000{index}"):
            store.read(index)


def test_an_episode_that_does_not_fit_the_dataset_is_not_written(store):
    for wrong in (make_episode(9, actions=np.zeros((40, 2), int)), make_episode(9, infos={})):
        with pytest.raises(ValueError, match=r"dataset\.json"):
            store.write(wrong)
    assert 9 not in store.indices


def test_a_full_disk_leaves_no_trace_and_the_old_episode(store, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(path.name for path in store.folder.iterdir())
    monkeypatch.setattr(os, "fsync", full)
    for index in (0, 5):
        with pytest.raises(OSError, match="No space"):
            store.write(make_episode(index, 2))
    assert sorted(path.name for path in store.folder.iterdir()) == before
    assert_same(EpisodeStore.open(store.folder).read(0), make_episode(0))


def test_the_fingerprint_follows_content_and_not_place_or_time(store, tmp_path):
    twin = EpisodeStore.create(tmp_path / "twin", counter_info())
    for index in store.indices:
        twin.write(store.read(index))
    assert twin.fingerprint() == store.fingerprint()
    twin.write(replace(make_episode(3, 1), rewards=np.ones(1, np.float32)))
    assert twin.fingerprint() != store.fingerprint()


def _read_elsewhere(store, index, queue):
    queue.put(store.frames(index, 3, 9))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # the test process has threads of its own
def test_other_processes_read_through_a_store_with_open_files(store, method):
    store.frames(0, 0, 1)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=_read_elsewhere, args=(store, 0, queue))
    process.start()
    np.testing.assert_array_equal(queue.get(timeout=60), make_episode(0).frames[3:9])
    process.join()
    assert process.exitcode == 0


def test_few_files_stay_open_and_a_pickled_store_carries_none(tmp_path, monkeypatch):
    monkeypatch.setattr("worldmodel.data.episodes.store.OPEN_FILES", 2)
    store = EpisodeStore.create(tmp_path, counter_info())
    for index in range(5):
        store.write(make_episode(index, 4))
    handles = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        for index in range(5):
            np.testing.assert_array_equal(store.frames(index, 1, 3), make_episode(index, 4).frames[1:3])
    assert len(os.listdir("/proc/self/fd")) <= handles + 2
    assert_same(pickle.loads(pickle.dumps(store)).read(4), make_episode(4, 4))


def test_a_folder_of_other_settings_is_refused_with_their_names(tmp_path):
    EpisodeStore.create(tmp_path, counter_info(env={"name": "maze", "size": 5}))
    EpisodeStore.create(tmp_path, counter_info(env={"name": "maze", "size": 5})).write(make_episode())
    other = counter_info(env={"name": "maze", "size": 7}, seed=1)
    with pytest.raises(ValueError, match=r"seed: 0 -> 1; env\.size: 5 -> 7.*another run="):
        EpisodeStore.create(tmp_path, other)


def test_the_description_of_a_dataset_survives_its_file(tmp_path):
    info = counter_info(env={"id": "x", "list": [1, 2]}, frame_skip=4, max_steps=300)
    EpisodeStore.create(tmp_path, info)
    assert DatasetInfo.load(tmp_path) == info


def test_folders_without_data_say_how_to_get_some(tmp_path):
    with pytest.raises(ValueError, match=r"`worldmodel collect`"):
        EpisodeStore.open(tmp_path / "nowhere")
    EpisodeStore.create(tmp_path, counter_info())
    with pytest.raises(ValueError, match=r"no finished episode; `worldmodel collect`"):
        EpisodeStore.open(tmp_path)


def test_a_broken_description_is_named(tmp_path):
    (tmp_path / "dataset.json").write_text('{"schema": 1')
    with pytest.raises(ValueError, match=r"dataset\.json: damaged"):
        EpisodeStore.open(tmp_path)
    (tmp_path / "dataset.json").write_text('{"schema": 99}')
    with pytest.raises(ValueError, match="expected schema 1, got 99"):
        EpisodeStore.open(tmp_path)


def test_what_a_killed_writer_left_is_swept_and_a_living_one_is_spared(store, tmp_path):
    from worldmodel.io.files import _lock

    dead, alive = (store.folder / f".episode_00000{i}.h5.1-ab.partial" for i in (5, 6))
    dead.write_bytes(b"half")
    with open(alive, "wb") as file:
        _lock(file.fileno())
        assert store.remove_partial() == 1
    assert alive.exists()
    assert not dead.exists()
    assert store.indices == (0, 1, 3)


def test_damaged_episodes_are_found_by_several_processes_and_moved_away_never_deleted(store):
    for index in (0, 3):
        store.path(index).write_bytes(b"not an episode")
    assert all(list(find_damaged(store, workers)) == [0, 3] for workers in (0, 1, 2))
    assert quarantine(store, 0) == store.folder / "quarantine/episode_000000.h5"
    store.write(make_episode(0, 4))
    assert quarantine(store, 0).name == "episode_000000.h5.1"
    assert (store.folder / "quarantine/episode_000000.h5").read_bytes() == b"not an episode"
    assert store.indices == (1, 3)


@pytest.mark.parametrize("error", [MemoryError(), PermissionError(errno.EACCES, "no"), OSError(errno.EMFILE, "many")])
def test_an_episode_that_the_machine_cannot_read_is_not_called_damaged(tmp_path, monkeypatch, error):
    store = EpisodeStore.create(tmp_path, counter_info())
    store.write(make_episode())

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(episode_file, "ByteSource", fail)
    for work in (lambda: store.read(0), lambda: store.verify(0), lambda: quarantine_damaged(store)):
        with pytest.raises(type(error)):
            work()
    assert store.path(0).exists() and not (tmp_path / "quarantine").exists()

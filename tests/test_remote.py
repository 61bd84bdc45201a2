"""Datasets behind a URL: read like any others, fetched once, checked before they are kept."""

import multiprocessing
import os
import pickle

import fsspec
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from tests.helpers_data import SPACES, odd_store
from tests.helpers_env import counter_info
from tests.helpers_scripts import run
from tests.test_episode_store import assert_same, make_episode
from tests.test_scripts import TINY
from worldmodel.data.clips.clips import ClipBatches
from worldmodel.data.convert.convert import import_episodes
from worldmodel.data.episodes import remote
from worldmodel.data.episodes.remote import RemoteStore, cache_folder, push
from worldmodel.data.episodes.repair import find_damaged
from worldmodel.data.episodes.store import EpisodeError, EpisodeStore
from worldmodel.data.open import open_episodes

URL = "s3://bucket/runs/x"


@pytest.fixture(scope="module")
def server():
    """An S3 of one's own, on this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(server, tmp_path, monkeypatch):
    """An empty bucket, reached by the environment as users reach theirs, and an empty cache."""
    access = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**access, "AWS_ENDPOINT_URL": server, "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    system = fsspec.filesystem("s3")
    system.invalidate_cache()
    if system.exists("bucket"):
        system.rm("bucket", recursive=True)
    system.mkdir("bucket")
    return system


@pytest.fixture
def store(tmp_path):
    store = EpisodeStore.create(tmp_path / "episodes", counter_info())
    for index, steps in ((0, 40), (3, 1), (1, 33)):
        store.write(make_episode(index, steps))
    return store


def kept(url=URL):
    return sorted(path.name.split(".")[0] for path in cache_folder(url).glob("*.h5"))


def test_what_was_pushed_is_what_is_read(bucket, store):
    push(store, URL)
    there = open_episodes(URL + "/")
    assert (there.indices, there.info, there.fingerprint()) == (store.indices, store.info, store.fingerprint())
    assert_same(there.read(1), store.read(1))
    assert find_damaged(there) == {}


def test_an_episode_is_fetched_when_it_is_first_asked_for_and_only_then(bucket, store, monkeypatch):
    push(store, URL)
    there, fetched = open_episodes(URL), []
    monkeypatch.setattr(remote, "_fetch", lambda url, fetch=remote._fetch: fetched.append(url) or fetch(url))
    assert kept() == []
    np.testing.assert_array_equal(there.frames(3, 0, 2), store.frames(3, 0, 2))
    assert kept() == ["episode_000003"]
    for reader in (there, pickle.loads(pickle.dumps(there))):
        reader.read(3)
    assert fetched == [f"{URL}/episode_000003.h5"]


def test_downloading_all_episodes_shows_progress_and_none_if_they_are_here(bucket, store, monkeypatch, capsys):
    push(store, URL)
    monkeypatch.setattr(remote, "SLOW", 0.0)
    there = RemoteStore.connect(URL)
    assert there.fingerprint() == store.fingerprint() and len(kept()) == 3
    assert "download: 100%" in capsys.readouterr().err
    there.fetch()
    assert "download" not in capsys.readouterr().err


def test_what_is_kept_can_be_read_when_the_bucket_is_gone(bucket, store):
    push(store, URL)
    there = open_episodes(URL)
    there.length(0)
    bucket.rm("bucket/runs", recursive=True)
    assert_same(there.read(0), store.read(0))
    with pytest.raises(OSError, match=f"{URL}/episode_000001.h5 cannot be reached"):
        there.read(1)


@pytest.fixture
def unplug(bucket, monkeypatch):
    """Sends requests for the bucket where nobody answers; file systems keep the place that they began with."""

    def send(place: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", place)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        type(bucket).clear_instance_cache()

    yield send
    type(bucket).clear_instance_cache()


@pytest.mark.parametrize("place", ["http://127.0.0.1:9", "http://s3.invalid"])
def test_without_a_network_the_cache_is_used_with_a_word(store, unplug, place):
    push(store, URL)
    there = open_episodes(URL)
    there.read(0)
    unplug(place)
    with pytest.warns(RuntimeWarning, match=rf"{URL} cannot be reached: .*the cache is used, which holds 1 of its 3"):
        offline = open_episodes(URL)
    assert (offline.indices, offline.info) == (there.indices, there.info)
    assert_same(offline.read(0), store.read(0))
    with pytest.raises(OSError, match=f"{URL}/episode_000001.h5 cannot be reached"):
        offline.read(1)
    with pytest.raises(OSError, match=f"{URL}/other cannot be reached"):
        open_episodes(f"{URL}/other")


def test_a_damaged_file_at_the_url_is_refused_by_name_and_never_kept(bucket, store):
    push(store, URL)
    content = bytearray(store.path(1).read_bytes())
    content[len(content) // 2] ^= 1
    bucket.pipe_file("bucket/runs/x/episode_000001.h5", bytes(content))
    bucket.pipe_file("bucket/runs/x/episode_000003.h5", store.path(0).read_bytes())
    there = open_episodes(URL)
    with pytest.raises(EpisodeError, match=rf"{URL}/episode_000001\.h5: damaged, or cut short"):
        there.length(1)
    with pytest.raises(EpisodeError, match=r"episode_000003\.h5.*expected episode 3.*got episode 0"):
        there.length(3)
    assert list(find_damaged(there)) == [1, 3] and kept() == ["episode_000000"]


@pytest.mark.parametrize("part", [0, 0.5, 0.99])
def test_an_interrupted_download_leaves_nothing_and_the_next_one_succeeds(bucket, store, monkeypatch, part):
    push(store, URL)
    there = open_episodes(URL)
    with monkeypatch.context() as patch:
        patch.setattr(remote, "_fetch", lambda url, fetch=remote._fetch: (c := fetch(url))[: int(part * len(c))])
        with pytest.raises(EpisodeError, match="cut short on its way"):
            there.read(0)
    assert [path.name for path in cache_folder(URL).iterdir()] == ["dataset.json"]
    assert_same(there.read(0), store.read(0))


def test_a_stop_while_a_file_is_being_kept_leaves_nothing(bucket, store, monkeypatch):
    def stop(*names):
        raise KeyboardInterrupt

    push(store, URL)
    there = open_episodes(URL)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", stop)
        there.read(0)
    assert [path.name for path in cache_folder(URL).iterdir()] == ["dataset.json"]
    assert_same(there.read(0), store.read(0))


def test_a_file_that_was_replaced_is_fetched_anew_by_whoever_opens_the_url_after(bucket, store):
    push(store, URL)
    before = open_episodes(URL)
    before.read(0)
    store.write(make_episode(0, 7))
    push(store, URL)
    assert open_episodes(URL).length(0) == 8
    assert before.length(0) == 41


def _read_all(store, queue):
    queue.put(store.fingerprint())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # the test process has threads of its own
def test_several_processes_fill_one_cache_at_once(bucket, store):
    push(store, URL)
    there, context = open_episodes(URL), multiprocessing.get_context("fork")  # as data workers start
    queue = context.Queue()
    processes = [context.Process(target=_read_all, args=(there, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    assert {queue.get(timeout=60) for _ in processes} == {store.fingerprint()}
    for process in processes:
        process.join()
    assert kept() == ["episode_000000", "episode_000001", "episode_000003"]
    assert sorted(path.suffix for path in cache_folder(URL).iterdir()) == [".h5"] * 3 + [".json"]


def test_batches_from_a_url_are_those_of_the_folder(bucket, store):
    push(store, URL)
    shape = {"length": 4, "batch_size": 3, "seed": 0}
    one, other = (ClipBatches(each, (0, 1), **shape)[5] for each in (store, open_episodes(URL)))
    assert one.frames.equal(other.frames) and one.actions.equal(other.actions)


def test_half_a_push_is_no_dataset_and_other_episodes_are_not_mixed_in(bucket, store, tmp_path):
    bucket.pipe_file("bucket/runs/x/episode_000000.h5", store.path(0).read_bytes())
    with pytest.raises(ValueError, match=r"holds no dataset\.json; `worldmodel data export"):
        open_episodes(URL)
    push(store, URL)
    with pytest.raises(ValueError, match=r"other settings \(.*seed: 0 -> 3.*in to="):
        push(odd_store(tmp_path / "odd", SPACES["choices"]), URL)
    assert open_episodes(URL).fingerprint() == store.fingerprint()


def test_a_damaged_episode_is_not_pushed(bucket, store):
    store.path(1).write_bytes(b"no episode")
    with pytest.raises(EpisodeError, match="episode_000001"):
        push(store, URL)
    with pytest.raises(ValueError, match=r"no dataset\.json"):
        open_episodes(URL)


def test_what_is_behind_a_url_is_only_read_and_can_be_imported_as_it_is(bucket, store, tmp_path):
    push(store, URL)
    there = open_episodes(URL)
    with pytest.raises(ValueError, match="only read"):
        there.write(make_episode(0))
    with pytest.raises(EpisodeError, match="no such episode"):
        there.read(7)
    assert import_episodes(URL, tmp_path / "mine").fingerprint() == store.fingerprint()
    assert isinstance(there, RemoteStore)


def test_any_file_system_that_fsspec_knows_will_do(store, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    push(store, "memory://x/y")
    assert open_episodes("memory://x/y").fingerprint() == store.fingerprint()
    with pytest.raises(OSError, match="nonsense://x cannot be reached"):
        open_episodes("nonsense://x")


@pytest.mark.slow
def test_models_train_on_episodes_behind_a_url(bucket, tmp_path):
    run("collect", "env=maze", "env.height=16", "env.width=24", *TINY["collect"], folder=tmp_path / "a")
    run("data", "export", f"to={URL}", folder=tmp_path / "a")
    for name in ("train_tokenizer", "train_prior"):
        run(name, f"episodes={URL}", *TINY[name], folder=tmp_path / "b")
    assert (tmp_path / "b/world/weights.safetensors").is_file() and not (tmp_path / "b/episodes").exists()
    assert kept() == [f"episode_00000{i}" for i in range(4)]

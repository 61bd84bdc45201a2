"""One writer for the episodes of a run, and one dataset of one kind: nothing is mixed, lost or left behind."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from tests.helpers_env import CounterEnv, counter_info
from tests.test_episode_store import make_episode
from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.collect.collect import collect
from worldmodel.data.convert.convert import import_episodes
from worldmodel.data.episodes.repair import find_damaged, quarantine_damaged
from worldmodel.data.episodes.store import EpisodeError, EpisodeStore
from worldmodel.data.merge import merge
from worldmodel.data.summary import summarize
from worldmodel.io import files
from worldmodel.io.files import atomic_folder
from worldmodel.io.lock import FolderInUse, writer_lock
from worldmodel.io.model_folder import save_weights
from worldmodel.io.video import write_png

ROOT = Path(__file__).parents[1]


def gather(folder: Path, episodes: int = 2, make_env: Callable[[], CounterEnv] = CounterEnv, **settings):
    values = {"seed": 0, "info_keys": ("now",), **settings}
    store = EpisodeStore.create(folder, counter_info(**values))
    return store, collect(make_env, store, episodes, progress=False, **values)


def filled(folder: Path, indices=(0, 1), **settings) -> EpisodeStore:
    store = EpisodeStore.create(folder, replace(counter_info(), **settings))
    for index in indices:
        store.write(make_episode(index, 5))
    return store


class WaitingEnv(CounterEnv):
    """Waits in its first step until the test lets it go."""

    def __init__(self, reached: threading.Event, go: threading.Event):
        super().__init__()
        self.reached, self.go = reached, go

    def step(self, action):
        self.reached.set()
        assert self.go.wait(60)
        return super().step(action)


@pytest.fixture
def busy(tmp_path):
    """A folder into which another thread collects with seed 0."""
    reached, go = threading.Event(), threading.Event()
    folder = tmp_path / "episodes"
    thread = threading.Thread(target=lambda: gather(folder, 1, lambda: WaitingEnv(reached, go)))
    thread.start()
    assert reached.wait(60)
    yield folder
    go.set()
    thread.join()
    assert EpisodeStore.open(folder).indices == (0,) and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("seed", [0, 1])
def test_second_collector_is_refused_with_the_same_settings_and_with_others(busy, seed):
    with pytest.raises(FolderInUse, match="writes there already"):
        gather(busy, 2, seed=seed)


def test_nothing_else_writes_while_episodes_are_collected(busy, tmp_path):
    store = EpisodeStore(busy, counter_info())
    other = filled(tmp_path / "other")
    for write in (
        lambda: quarantine_damaged(store),
        lambda: store.link_from(other),
        lambda: merge([other], busy),
        lambda: import_episodes(other.folder, busy),
    ):
        with pytest.raises(FolderInUse):
            write()
    assert find_damaged(store) == {}  # reading needs no lock


def test_collector_in_another_process_is_named(tmp_path):
    code = "import sys, time; from worldmodel.io.lock import writer_lock\n"
    code += "with writer_lock(sys.argv[1], 'collection'): print(flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(tmp_path / "episodes")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline()
            with pytest.raises(FolderInUse, match=rf"process {holder.pid} on .* \(collection\) writes there"):
                gather(tmp_path / "episodes")
        finally:
            holder.kill()
    gather(tmp_path / "episodes")


def test_settings_that_another_process_replaced_stop_a_collection(tmp_path):
    store = EpisodeStore.create(tmp_path, counter_info(seed=1))
    gather(tmp_path, seed=2)
    with pytest.raises(ValueError, match="seed: 2 -> 1"):
        collect(CounterEnv, store, 5, seed=1, info_keys=("now",), progress=False)
    assert {episode.seed for episode in map(store.read, store.indices)} == {
        episode.seed for episode in map(store.read, range(2))
    }


def test_settings_that_change_during_a_collection_stop_it(tmp_path):
    """As on a disk without locks."""

    class Meddling(CounterEnv):
        def step(self, action):
            (tmp_path / "dataset.json").unlink(missing_ok=True)
            counter_info(seed=9).save(tmp_path)
            return super().step(action)

    with pytest.raises(ValueError, match="seed: 9 -> 0"):
        gather(tmp_path, 1, Meddling)
    assert EpisodeStore(tmp_path, counter_info()).indices == ()


def test_threads_that_create_one_store_with_different_settings_agree_on_one(tmp_path):
    for number in range(20):
        folder, made, refused = tmp_path / str(number), [], []

        def create(seed: int, folder=folder, made=made, refused=refused) -> None:
            try:
                gather(folder, 1, seed=seed)
                made.append(seed)
            except ValueError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=create, args=(seed,)) for seed in range(3)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(made) <= 1 or len(refused) >= 2, (made, refused)
        store = EpisodeStore.open(folder)
        assert made == [store.info.seed] and len(refused) == 2


# --- settings that made nothing ---


def test_settings_that_made_no_episode_are_replaced(tmp_path):
    EpisodeStore.create(tmp_path, counter_info(seed=1))
    (tmp_path / ".episode_000000.h5.1-ab.partial").write_bytes(b"half")
    assert EpisodeStore.create(tmp_path, counter_info(seed=2)).info.seed == 2
    assert os.listdir(tmp_path) == ["dataset.json"]


@pytest.mark.parametrize("name", ["quarantine", "notes.txt"])
def test_settings_beside_anything_else_are_kept(tmp_path, name):
    EpisodeStore.create(tmp_path, counter_info(seed=1))
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match="seed: 1 -> 2"):
        EpisodeStore.create(tmp_path, counter_info(seed=2))


def test_a_file_of_somebody_else_is_no_setting(tmp_path):
    (tmp_path / "dataset.json").write_text('{"mine": 1}')
    with pytest.raises(ValueError, match="damaged or not readable"):
        EpisodeStore.create(tmp_path, counter_info())
    with pytest.raises(ValueError, match="is there already"):
        merge([filled(tmp_path.with_name("other"))], tmp_path)
    assert (tmp_path / "dataset.json").read_text() == '{"mine": 1}'


@pytest.mark.parametrize(
    "bring", [lambda store, to: merge([store], to), lambda store, to: import_episodes(store.folder, to)]
)
def test_import_and_merge_replace_settings_that_made_no_episode(tmp_path, bring):
    store = filled(tmp_path / "a")
    EpisodeStore.create(tmp_path / "b", counter_info(seed=7))
    assert bring(store, tmp_path / "b").indices == (0, 1)


# --- folders that are links or mount points, and what kills leave ---


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/episodes").symlink_to(tmp_path / "disk")
    (tmp_path / "run/later").symlink_to(tmp_path / "not_there")
    store = filled(tmp_path / "a")
    for name, target in (("episodes", "disk"), ("later", "not_there")):
        assert merge([store], tmp_path / "run" / name).indices == (0, 1)
        assert (tmp_path / "run" / name).is_symlink() and (tmp_path / target / "episode_000001.h5").is_file()
    assert sorted(os.listdir(tmp_path)) == ["a", "disk", "not_there", "run"]


def test_a_link_to_a_folder_that_is_not_there_yet_is_followed_by_every_writer(tmp_path):
    for name in ("episodes", "tokens", "agent"):
        (tmp_path / name).symlink_to(f"disk/{name}")
    gather(tmp_path / "episodes")
    TokenStore.create(tmp_path / "tokens", key="x", codes=4, grid=(1, 1), time_stride=1)
    with writer_lock(tmp_path / "agent", "training"):
        assert (tmp_path / "disk/agent").is_dir()
    assert (tmp_path / "disk/episodes/episode_000001.h5").is_file() and (tmp_path / "disk/tokens/tokens.json").is_file()


def test_links_to_places_that_are_not_there_yet_are_followed_by_every_writer(tmp_path):
    (tmp_path / "runs").symlink_to("disk/runs")
    (tmp_path / "run").symlink_to(tmp_path / "runs/mine")
    assert gather(tmp_path / "run/episodes")[0].indices == (0, 1)
    for name in ("deep", "weights", "tokens", "image"):
        (tmp_path / "run" / name).symlink_to(tmp_path / "elsewhere" / name / "x")
    assert gather(tmp_path / "run/deep")[0].indices == (0, 1)
    save_weights(tmp_path / "run/weights", {}, {})
    TokenStore.create(tmp_path / "run/tokens", key="k", codes=4, grid=(2, 3), time_stride=1)
    write_png(tmp_path / "run/image/0.png", np.zeros((4, 4, 3), np.uint8))
    with writer_lock(tmp_path / "run/prior", "training"):
        assert sorted(os.listdir(tmp_path / "disk/runs/mine")) == [
            ".prior.lock", "deep", "episodes", "image", "prior", "tokens", "weights"
        ]  # fmt: skip
    assert sorted(os.listdir(tmp_path / "elsewhere")) == ["deep", "image", "tokens", "weights"]


@pytest.mark.parametrize("what", ["file", "file above", "loop", "loop above"])
def test_what_is_no_folder_is_named(tmp_path, what):
    there = tmp_path / "run"
    there.symlink_to("run") if "loop" in what else there.write_text("notes")
    folder = there / "episodes" if "above" in what else there
    found = "a link that leads back to itself" if "loop" in what else "a file in .*run"
    with pytest.raises(NotADirectoryError, match=f"expected a folder, got {found}"):
        gather(folder)
    with pytest.raises(NotADirectoryError, match=f"expected a folder, got {found}"), writer_lock(folder, "training"):
        pass


def test_a_folder_that_cannot_be_replaced_is_refused_before_the_work(tmp_path, monkeypatch):
    def busy(source, target):
        raise OSError(16, "Device or resource busy", str(source), None, str(target))

    monkeypatch.setattr(files.os, "replace", busy)
    worked = []
    words = r"cannot be replaced .*busy.*name a folder within it"
    with pytest.raises(ValueError, match=words), atomic_folder(tmp_path / "mount"):
        worked.append(1)
    assert not worked and os.listdir(tmp_path) == []


def test_what_killed_imports_left_is_swept_and_nothing_else(tmp_path):
    code = "import os, signal, sys; from pathlib import Path; from worldmodel.io.files import atomic_folder\n"
    code += "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # ignored under nohup
    code += "with atomic_folder(Path(sys.argv[1])) as x: (x / 'half').touch(); os.kill(os.getpid(), int(sys.argv[2]))"
    kept = [tmp_path / ".episodes.mine", tmp_path / ".episodes.x.partial"]
    kept[0].mkdir()
    kept[1].write_text("a file")
    for signum in (signal.SIGKILL, signal.SIGHUP):
        subprocess.run([sys.executable, "-c", code, tmp_path / "episodes", str(int(signum))], cwd=ROOT)
    assert len(list(tmp_path.glob(".episodes.*.partial"))) == 2  # the second call swept what the first one left
    gather(tmp_path / "episodes", 1)
    assert sorted(path for path in tmp_path.iterdir() if path.name != "episodes") == sorted(kept)


def test_an_error_leaves_the_folder_as_it_was(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("there", "new"):
        with pytest.raises(KeyError), atomic_folder(tmp_path / name) as aside:
            (aside / "half").touch()
            raise KeyError
    assert os.listdir(tmp_path) == ["there"] and os.listdir(tmp_path / "there") == []


def test_stale_tokens_behind_a_link_are_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "tokens").symlink_to(tmp_path / "disk")
    for key in ("a", "b"):
        store = TokenStore.create(tmp_path / "tokens", key=key, codes=8, grid=(2, 2), time_stride=1)
        assert store.indices == ()
        store.write(0, np.zeros((3, 2, 2), np.int64))
    assert (tmp_path / "tokens").is_symlink() and (tmp_path / "disk/tokens_000000.npy").is_file()


# --- episodes of other settings ---


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"action_space": Discrete(4)}, r"action_space\.n: 4 -> 3"),
        ({"action_space": Discrete(3, start=1)}, r"action_space\.start: 1 -> 0"),
        ({"action_names": ("up", "down", "jump")}, "action_names"),
        ({"frame_skip": 4}, "frame_skip: 4 -> None"),
        ({"frame_shape": (6, 5, 1)}, "frame_shape"),
        ({"info_keys": ()}, "info_keys"),
        ({"env": {"name": "other"}}, r"env\.name: 'other' -> 'counter'"),
    ],
)
def test_episodes_that_no_one_model_is_made_for_are_not_adopted(tmp_path, settings, error):
    earlier = EpisodeStore.create(tmp_path / "a", replace(counter_info(env={"name": "counter"}), **settings))
    store = EpisodeStore.create(tmp_path / "b", counter_info(env={"name": "counter"}))
    with pytest.raises(ValueError, match=f"a: its episodes cannot start this run: .*{error}"):
        store.link_from(earlier)
    assert store.indices == ()


def test_episodes_of_another_policy_or_seed_keep_their_origin_round_after_round(tmp_path):
    first, _ = gather(tmp_path / "a", 2, seed=3, policy="random")
    second = EpisodeStore.create(tmp_path / "b", counter_info(seed=4, policy="sticky"))
    assert second.link_from(first) == 2
    gather(tmp_path / "b", 3, seed=4, policy="sticky")
    third = EpisodeStore.create(tmp_path / "c", counter_info(seed=4, policy="sticky", max_steps=9))
    third.link_from(second)
    found = {
        index: (origin["policy"], origin["seed"], origin["max_steps"]) for index, origin in third.origins().items()
    }
    assert found == {0: ("random", 3, None), 1: ("random", 3, None), 2: ("sticky", 4, None)}
    assert list(second.origins()) == [0, 1] and first.origins() == {}
    assert summarize(second)["origins"] == {"seed 3, policy random": 2}
    again = import_episodes(second.folder, tmp_path / "copy")
    assert again.origins() == second.origins()


@pytest.mark.parametrize("linked", [True, False])
def test_episodes_behind_links_are_adopted_themselves(tmp_path, monkeypatch, linked):
    first = filled(tmp_path / "first", (0,))
    (tmp_path / "disk").mkdir()
    first.path(0).rename(tmp_path / "disk" / "x.h5")
    first.path(0).symlink_to("../disk/x.h5")
    second = EpisodeStore.create(tmp_path / "deeper" / "second", counter_info())
    if not linked:
        monkeypatch.setattr(os, "link", refuses)
    assert second.link_from(first) == 1
    assert not second.path(0).is_symlink() and find_damaged(second) == {}


def refuses(*_):
    raise OSError(errno.EXDEV, "Invalid cross-device link")


def test_an_adopted_episode_that_is_collected_anew_loses_its_origin(tmp_path):
    first, _ = gather(tmp_path / "a", 2, seed=3)
    second = EpisodeStore.create(tmp_path / "b", counter_info(seed=4))
    second.link_from(first)
    second.path(1).unlink()
    gather(tmp_path / "b", 2, seed=4)
    assert list(second.origins()) == [0]


def test_merged_episodes_keep_their_origin(tmp_path):
    stores = [gather(tmp_path / str(seed), 2, seed=seed)[0] for seed in (1, 2)]
    merged = merge(stores, tmp_path / "both")
    assert [merged.origins()[index]["seed"] for index in range(4)] == [1, 1, 2, 2]
    assert merge([merged, stores[0]], tmp_path / "again").origins() == merged.origins()


def test_a_damaged_list_of_origins_is_named(tmp_path):
    store = filled(tmp_path)
    (tmp_path / "origins.json").write_text('{"schema": 1, "origins": [3]}')
    with pytest.raises(ValueError, match=r"origins\.json: damaged"):
        store.origins()


def test_actions_outside_the_space_are_counted_and_named(tmp_path):
    """As in runs that took over episodes of another action count before that was refused."""
    store = filled(tmp_path / "a", indices=(0,))
    store.write(make_episode(1, actions=np.array([0, 7, 1] + [2] * 37)))
    assert summarize(store)["actions"]["7 (outside the space)"] == 1
    assert sum(summarize(store)["actions"].values()) == 45
    assert "episode_000001.h5, step 1: action 7: expected a finite one in Discrete(3)" in find_damaged(store)[1]
    with pytest.raises(ValueError, match=r"episode_000001\.h5, step 1: action 7"):
        merge([store], tmp_path / "merged")


@pytest.mark.parametrize("reward", [np.nan, np.inf, -np.inf])
def test_rewards_that_are_no_numbers_are_named_by_verify_merge_and_adopt(tmp_path, reward):
    store = filled(tmp_path / "a", indices=())
    rewards = np.zeros(40, np.float32)
    rewards[17] = reward
    store.write(make_episode(3, rewards=rewards))
    words = r"episode_000003\.h5, step 17: reward (nan|-?inf): expected a finite number"
    with pytest.raises(EpisodeError, match=words):
        store.verify(3)
    with pytest.raises(ValueError, match=words):
        EpisodeStore.create(tmp_path / "b", counter_info(seed=2)).link_from(store)
    with pytest.raises(ValueError, match=words):
        merge([store], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_infinite_actions_are_named_by_verify(tmp_path):
    info = counter_info()
    store = EpisodeStore.create(tmp_path, replace(info, action_space=Box(-np.inf, np.inf, (2,), np.float32)))
    actions = np.zeros((40, 2), np.float32)
    actions[5, 1] = np.inf
    store.write(make_episode(0, actions=actions))
    assert "step 5: action [0.0, inf]" in find_damaged(store)[0]


def test_lock_of_the_episodes_is_free_after_every_outcome(tmp_path):
    class Broken(CounterEnv):
        def reset(self, **options):
            raise KeyError("engine")

    gather(tmp_path / "episodes", 1, Broken)
    with pytest.raises(ValueError, match="no"):
        gather(tmp_path / "episodes", 1, info_keys=("health",))
    with writer_lock(tmp_path / "episodes", "test"):
        pass

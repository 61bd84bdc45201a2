"""Looking after episodes: what is damaged is named, moved away and collected again; datasets are counted and merged."""

from dataclasses import replace

import numpy as np
import pytest
from gymnasium.spaces import Discrete
from PIL import Image

from tests.helpers_data import SPACES, odd_store
from tests.helpers_env import counter_info
from tests.helpers_scripts import run
from tests.test_episode_store import make_episode
from tests.test_scripts import TINY
from worldmodel.data.episodes.repair import find_damaged
from worldmodel.data.episodes.store import EpisodeError, EpisodeStore
from worldmodel.data.merge import merge
from worldmodel.data.summary import episode_sheet, summarize

MAZE = ["env=maze", "env.height=16", "env.width=24", "info_keys=[pose]", *TINY["collect"]]


def two_stores(folder, **settings):
    """Two stores of three and two episodes; all are different."""
    stores = [EpisodeStore.create(folder / name, counter_info(**settings)) for name in ("a", "b")]
    for store, indices in zip(stores, ((0, 2, 5), (0, 1)), strict=True):
        for index in indices:
            episode = make_episode(index, 5 + index)
            rewards = episode.rewards + np.float32(store.folder.name == "b")
            store.write(replace(episode, rewards=rewards, seed=index + 10))
    return stores


def test_the_survey_counts_episodes_outcomes_and_actions_by_name(tmp_path):
    store = two_stores(tmp_path)[0]
    found = summarize(store)
    assert (found["episodes"], found["frames"], found["terminated"], found["truncated"]) == (3, 25 - 3 - 2 + 5, 3, 0)
    assert found["lengths"] == {"min": 6, "mean": 25 / 3, "max": 11}
    actions = np.concatenate([store.actions(index) for index in store.indices])
    assert found["actions"] == {name: int((actions == i).sum()) for i, name in enumerate(("left", "right", "jump"))}
    returns = [store.rewards(index).sum() for index in store.indices]
    assert found["returns"]["mean"] == pytest.approx(np.mean(returns), rel=1e-6)
    assert found["megabytes"] == sum(path.stat().st_size for path in store.folder.glob("episode_*")) / 1e6


def test_choices_that_start_elsewhere_have_their_names_and_few_rewards_are_counted_one_by_one(tmp_path):
    store = odd_store(tmp_path, SPACES["choices"])
    for index in store.indices:
        episode = store.read(index)
        actions, rewards = np.full_like(episode.actions, 3), np.zeros_like(episode.rewards)
        rewards[0] = 2.5
        store.write(replace(episode, actions=actions, rewards=rewards))
    found = summarize(store)
    assert found["actions"] == {"a": 0, "b": 12, "c": 0, "d": 0, "e": 0}
    assert found["rewards"] == {"0": 9, "2.5": 3}
    assert summarize(odd_store(tmp_path / "other", SPACES["numbers"]))["actions"] == {}


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_sheet_shows_each_episode_from_its_first_frame_to_its_last(tmp_path, channels):
    store = odd_store(tmp_path, SPACES["choices"], channels)
    sheet = episode_sheet(store)
    shown = sheet[:, -5 * 12 - 2 : -2 : 12].reshape(-1, 5 * 3)  # the last column: frames 5 wide, enlarged, then a gap
    for index in store.indices:
        last = store.read(index).frames[-1]
        row = np.repeat(last[0], 3, axis=-1) if channels == 1 else last[0, :, :3]
        assert (shown == row.reshape(-1)).all(axis=1).any(), index


def test_merged_episodes_are_numbered_anew_keep_their_seeds_and_all_else(tmp_path):
    stores = two_stores(tmp_path)
    merged = merge(stores, tmp_path / "both")
    before = [store.read(index) for store in stores for index in store.indices]
    assert merged.indices == (0, 1, 2, 3, 4) and find_damaged(merged) == {}
    for index, episode in enumerate(before):
        now = merged.read(index)
        np.testing.assert_array_equal(now.frames, episode.frames)
        np.testing.assert_array_equal(now.rewards, episode.rewards)
        assert (now.seed, now.index, list(now.infos)) == (episode.seed, index, ["now"])


def test_an_episode_that_is_there_twice_comes_once(tmp_path):
    stores = two_stores(tmp_path)
    again = EpisodeStore.create(tmp_path / "more", counter_info(seed=9))
    again.link_from(stores[0])
    again.write(make_episode(8))
    assert len(merge([*stores, again], tmp_path / "all").indices) == 3 + 2 + 1
    assert merge([stores[0], again], tmp_path / "two").info.policy == "merged"


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"frame_shape": (6, 5, 1)}, r"frame_shape: \[6, 5, 3\] -> \[6, 5, 1\]"),
        ({"action_space": Discrete(4)}, r"action_space\.n: 3 -> 4"),
        ({"action_names": ("left", "jump", "right")}, "action_names"),
    ],
)
def test_stores_that_no_one_model_is_made_for_are_not_merged(tmp_path, settings, error):
    stores = two_stores(tmp_path)
    other = EpisodeStore.create(tmp_path / "other", replace(counter_info(), **settings))
    with pytest.raises(ValueError, match=f"other: cannot be merged with .*{error}"):
        merge([stores[0], other], tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_imported_and_collected_data_of_the_same_spaces_become_one(tmp_path):
    one, other = two_stores(tmp_path, frame_skip=2)
    unknown = {"frame_skip": None, "action_names": (), "info_keys": (), "policy": "imported"}
    imported = EpisodeStore.create(tmp_path / "imported", replace(counter_info(), **unknown))
    for index in other.indices:
        imported.write(replace(other.read(index), index=index, infos={}))
    said: list[str] = []
    merged = merge([imported, one, other], tmp_path / "all", say=said.append)
    names = one.info.action_names
    assert (merged.info.action_names, merged.info.frame_skip, merged.info.info_keys) == (names, 2, ())
    assert len(merged.indices) == len(one.indices) + len(other.indices)  # the imported ones are duplicates
    assert said == [
        f"action_names: {imported.folder} has none; that of the others is taken",
        f"frame_skip: {imported.folder} has none; that of the others is taken",
        "left out: infos that not all of the datasets have: now",
    ]


def test_two_frame_skips_and_imported_actions_of_another_number_are_not_merged(tmp_path):
    one, _ = two_stores(tmp_path, frame_skip=2)
    other = EpisodeStore.create(tmp_path / "other", counter_info(frame_skip=4))
    with pytest.raises(ValueError, match=r"merged with .*: frame_skip: 2 -> 4$"):
        merge([one, other], tmp_path / "both")
    info = replace(counter_info(), action_space=Discrete(2), policy="imported")
    fewer = EpisodeStore.create(tmp_path / "fewer", info)
    with pytest.raises(ValueError, match=r"action_space\.n: 3 -> 2; the keys actions= and size= of `worldmodel data"):
        merge([one, fewer], tmp_path / "both")


def test_a_damaged_episode_stops_a_merge_and_leaves_nothing(tmp_path):
    stores = two_stores(tmp_path)
    stores[1].path(1).write_bytes(b"no episode")
    with pytest.raises(EpisodeError, match="episode_000001"):
        merge(stores, tmp_path / "both")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_stores_say_differently_the_merged_one_leaves_open(tmp_path):
    one, _ = two_stores(tmp_path, env={"name": "maze", "size": 3}, max_steps=40)
    other = EpisodeStore.create(tmp_path / "c", counter_info(env={"name": "maze", "size": 4}, max_steps=50))
    assert (merge([one], tmp_path / "x").info.env, merge([one], tmp_path / "y").info.max_steps) == (one.info.env, 40)
    info = merge([one, other], tmp_path / "z").info
    assert (info.env, info.max_steps, info.seed) == ({}, None, 0)


@pytest.mark.slow
def test_damage_is_found_moved_away_and_collected_again_as_it_was(tmp_path):
    run("collect", *MAZE, folder=tmp_path)
    store = EpisodeStore.open(tmp_path / "episodes")
    whole = store.fingerprint()
    assert "4 episodes, 0 damaged" in run("data", "verify", folder=tmp_path)
    content = bytearray(store.path(2).read_bytes())
    content[len(content) // 2] ^= 4
    store.path(2).write_bytes(content)
    assert "episode_000002.h5: damaged" in run("data", "verify", folder=tmp_path, ok=False)
    assert "1 episodes moved to quarantine" in run("data", "repair", "workers=1", folder=tmp_path)
    assert (tmp_path / "episodes/quarantine/episode_000002.h5").read_bytes() == bytes(content)
    assert "1 new" in run("collect", *MAZE, folder=tmp_path)
    assert EpisodeStore.open(tmp_path / "episodes").fingerprint() == whole


@pytest.mark.slow
def test_the_script_shows_exports_imports_and_merges(tmp_path):
    run("collect", *MAZE, folder=tmp_path / "a")
    shown = run("data", "info", folder=tmp_path / "a")
    assert "turn_left" in shown and "100" in shown
    with Image.open(tmp_path / "a/episodes.png") as sheet:
        assert sheet.height > 4 * 16
    run("data", "export", "format=npz", f"to={tmp_path / 'out'}", folder=tmp_path / "a")
    run("data", "import", f"from={tmp_path / 'out'}", folder=tmp_path / "b")
    a, b = (EpisodeStore.open(tmp_path / name / "episodes") for name in "ab")
    assert a.fingerprint() == b.fingerprint()
    said = run("data", "merge", f"from=[{tmp_path / 'a'},{tmp_path / 'b'}]", folder=tmp_path / "c")
    assert "4 were duplicates" in said and EpisodeStore.open(tmp_path / "c/episodes").indices == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (["burn"], "command: expected one of 'info', 'verify'"),
        (["import"], "from: expected a folder, a URL or minari:ID"),
        (["export", "format=npz"], "export: expected to=FOLDER"),
        (["merge"], "from: expected folders of runs"),
        (["repair", "episodes=s3://bucket/x"], "episodes: expected a folder on this machine"),
    ],
)
@pytest.mark.slow
def test_the_script_says_what_it_misses(tmp_path, settings, error):
    EpisodeStore.create(tmp_path / "episodes", counter_info()).write(make_episode(0, 3))
    assert error in run("data", *settings, folder=tmp_path, ok=False)


@pytest.mark.slow
def test_models_train_evaluate_and_dream_on_data_of_others(tmp_path):
    run("collect", *MAZE, folder=tmp_path / "maze")
    run("data", "export", "format=frames", f"to={tmp_path / 'videos'}", folder=tmp_path / "maze")
    (tmp_path / "videos/worldmodel.json").unlink()  # now it is a folder like anyone's
    folder = tmp_path / "mine"
    run("data", "import", f"from={tmp_path / 'videos'}", "actions=7", folder=folder)
    assert EpisodeStore.open(folder / "episodes").info.policy == "imported"
    for name in ("train_tokenizer", "train_prior", "evaluate", "rollout"):
        run(name, *TINY[name], folder=folder)
    assert (folder / "rollout/rollout.mp4").is_file() and (folder / "report.json").is_file()

"""There and back is the identity; what others made is taken in as they meant it, or refused with the reason."""

import csv
import shutil
import subprocess
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from minari.data_collector import EpisodeBuffer
from moviepy.config import FFMPEG_BINARY
from PIL import Image

from tests.helpers_data import SPACES, odd_store
from worldmodel.data.convert.convert import SIDECAR, export_episodes, import_episodes
from worldmodel.data.convert.formats import FORMATS
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.episode import Episode
from worldmodel.data.episodes.store import EpisodeError, EpisodeStore
from worldmodel.io.video import write_video

GREYS = np.linspace(20, 230, 12).astype(np.uint8)  # videos of one grey per frame tell which frame is which


def grey_video(frames: int, height: int = 16, width: int = 24) -> np.ndarray:
    return np.broadcast_to(GREYS[:frames, None, None, None], (frames, height, width, 3)).copy()


def write_pictures(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number}.png")  # not padded: 10 comes before 2 in the alphabet


def write_table(folder: Path, columns: list[str], rows: list[list]) -> None:
    with open(folder / "actions.csv", "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def foreign(folder: Path, actions: list, name: str = "one") -> Path:
    """A folder with one episode of pictures under these actions."""
    write_pictures(folder / name, grey_video(len(actions) + 1))
    write_table(folder, ["episode", "action"], [[name, action] for action in actions])
    return folder


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("format", FORMATS)
def test_there_and_back_is_the_identity(tmp_path, format, space):
    store = odd_store(tmp_path / "there", SPACES[space])
    export_episodes(store, tmp_path / "out-v0", format)
    back = import_episodes(tmp_path / "out-v0", tmp_path / "back")
    assert back.fingerprint() == store.fingerprint()  # of every array, seed, number and outcome
    assert back.info == store.info


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_frames_of_other_channels_come_back_too(tmp_path, format, channels):
    store = odd_store(tmp_path / "there", SPACES["choices"], channels)
    export_episodes(store, tmp_path / "out-v0", format)
    assert import_episodes(tmp_path / "out-v0", tmp_path / "back").fingerprint() == store.fingerprint()


def test_frames_that_no_image_file_can_hold_are_refused_and_nothing_is_left(tmp_path):
    store = odd_store(tmp_path / "there", SPACES["choices"], 5)
    with pytest.raises(ValueError, match="5: export to npz or minari"):
        export_episodes(store, tmp_path / "out", "frames")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rewards=arrays.arrays(np.float32, st.integers(1, 4), elements=st.floats(width=32, allow_nan=False)),
    kind=st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.uint8]),
    format=st.sampled_from(sorted(FORMATS)),
    data=st.data(),
)
def test_any_numbers_come_back_to_the_last_bit(tmp_path, rewards, kind, format, data):
    # NaN is no number: it has a sign and bits of its own, which text does not hold; such an export is refused by name.
    numbers = arrays.from_dtype(np.dtype(kind), allow_nan=False)
    actions = data.draw(arrays.arrays(kind, len(rewards), elements=numbers))
    infos = {"x": data.draw(arrays.arrays(kind, len(rewards) + 1, elements=numbers))}
    bounds = (-np.inf, np.inf) if np.dtype(kind).kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    info = DatasetInfo(Box(*bounds, (), kind), (2, 3, 3), seed=0, info_keys=("x",))
    for name in ("there", "out-v0", "back"):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    store = EpisodeStore.create(tmp_path / "there", info)
    frames = np.zeros((len(rewards) + 1, 2, 3, 3), np.uint8)
    store.write(Episode(frames, actions, rewards, False, False, 0, 0, infos))
    export_episodes(store, tmp_path / "out-v0", format)
    back = import_episodes(tmp_path / "out-v0", tmp_path / "back").read(0)
    for one, other in ((back.actions, actions), (back.rewards, rewards), (back.infos["x"], infos["x"])):
        np.testing.assert_array_equal(one, other, strict=True)


def test_minari_itself_finds_an_export_with_its_spaces_and_raw_frames(tmp_path, monkeypatch):
    store = odd_store(tmp_path / "there", SPACES["numbers"])
    export_episodes(store, tmp_path / "odd-v0", "minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = minari.load_dataset("odd-v0")
    assert dataset.action_space == store.info.action_space and dataset.total_steps == 12
    np.testing.assert_array_equal(dataset[0].observations, store.read(0).frames)
    assert dataset[1].terminations.tolist() == [True] and dataset[1].truncations.tolist() == [True]
    assert [each["seed"] for each in dataset.storage.get_episode_metadata([0, 1])] == [2**62, 2**62 + 3]


def test_minari_wants_a_version_in_the_name(tmp_path):
    with pytest.raises(ValueError, match=r"NAME-v0.*got out"):
        export_episodes(odd_store(tmp_path / "there", SPACES["choices"]), tmp_path / "out", "minari")


@pytest.mark.filterwarnings("ignore:.*is set to None:UserWarning", "ignore:env_spec is None:UserWarning")
def test_a_minari_dataset_of_others_keeps_its_space_and_its_images_become_frames(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    spaces = {"rgb": Box(0, 255, (8, 9, 3), np.uint8), "speed": Box(-1, 1, (2,), np.float32)}
    frames = np.arange(4 * 8 * 9 * 3).astype(np.uint8).reshape(4, 8, 9, 3)
    observations = {"rgb": frames, "speed": np.zeros((4, 2), np.float32)}
    steps = {"actions": np.array([5, 0, 3]), "rewards": np.array([0.0, 1.0, 0.5])}
    ends = {"terminations": np.array([False] * 3), "truncations": np.array([False, False, True])}
    spaces = {"observation_space": Dict(spaces), "action_space": Discrete(7)}
    data: dict[str, Any] = {"observations": observations, **steps, **ends}
    buffer = EpisodeBuffer(**data)
    minari.create_dataset_from_buffers("their/set-v1", [buffer], **spaces, jpeg_encoding=False)
    store = import_episodes(tmp_path / "their/set-v1", tmp_path / "mine")
    episode = store.read(0)
    np.testing.assert_array_equal(episode.frames, frames)
    assert store.info.action_space == Discrete(7) and episode.actions.tolist() == [5, 0, 3]
    assert (episode.terminated, episode.truncated, episode.rewards.tolist()) == (False, True, [0.0, 1.0, 0.5])


@pytest.mark.filterwarnings("ignore:.*is set to None:UserWarning", "ignore:env_spec is None:UserWarning")
def test_a_minari_dataset_without_images_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    spaces = {"observation_space": Box(-1, 1, (2,), np.float32), "action_space": Discrete(7)}
    minari.create_dataset_from_buffers("blind-v0", [], **spaces)
    with pytest.raises(ValueError, match="one uint8 image"):
        import_episodes(tmp_path / "blind-v0", tmp_path / "mine")


def test_actions_in_npz_files_lead_into_their_frame_as_in_teco(tmp_path):
    store = odd_store(tmp_path / "there", SPACES["choices"])
    export_episodes(store, tmp_path / "out", "npz")
    with np.load(tmp_path / "out/episode_000000.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["video"], store.read(0).frames)
        np.testing.assert_array_equal(file["actions"][1:], store.read(0).actions)
        assert len(file["actions"]) == len(file["video"])


@pytest.mark.parametrize("given", [[9, 4, 1], [4, 1]])
def test_npz_files_of_others_are_found_at_any_depth_with_a_first_action_that_leads_nowhere_or_without(tmp_path, given):
    (tmp_path / "theirs/train/0").mkdir(parents=True)
    np.savez(tmp_path / "theirs/train/0/x.npz", video=grey_video(3), actions=np.array(given))
    store = import_episodes(tmp_path / "theirs", tmp_path / "mine")
    assert store.actions(0).tolist() == [4, 1]
    np.testing.assert_array_equal(store.frames(0, 0, 3), grey_video(3))


def test_no_code_is_run_from_npz_files_and_broken_ones_are_named(tmp_path):
    (tmp_path / "theirs").mkdir()
    np.savez(tmp_path / "theirs/evil.npz", video=grey_video(3), actions=np.array([print, print], dtype=object))
    with pytest.raises(ValueError, match=r"evil\.npz: damaged, or not an \.npz file of plain arrays"):
        import_episodes(tmp_path / "theirs", tmp_path / "mine")
    (tmp_path / "theirs/evil.npz").write_bytes(b"PK no zip")
    with pytest.raises(ValueError, match=r"evil\.npz: damaged"):
        import_episodes(tmp_path / "theirs", tmp_path / "mine")
    np.savez(tmp_path / "theirs/evil.npz", frames=grey_video(3))
    with pytest.raises(ValueError, match="no actions and no video"):
        import_episodes(tmp_path / "theirs", tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_videos_come_in_frame_by_frame_with_their_actions_and_outcomes(tmp_path):
    for name in ("left", "right"):
        write_video(tmp_path / f"videos/{name}.mp4", grey_video(12), fps=7)
    rows = [[name, i % 3, i / 2, i == 10] for name in ("left", "right") for i in range(11)]
    write_table(tmp_path / "videos", ["episode", "action", "reward", "terminated"], rows)
    store = import_episodes(tmp_path / "videos", tmp_path / "mine")
    episode = store.read(1)
    assert np.abs(episode.frames.mean((1, 2, 3)) - GREYS).max() < 3  # mp4 loses a little, but no frame
    assert episode.actions.tolist() == [i % 3 for i in range(11)] and episode.rewards[3] == 1.5
    assert (episode.terminated, episode.truncated, store.info.action_space) == (True, False, Discrete(3))


def test_a_video_with_uneven_times_gives_each_frame_once(tmp_path):
    even = write_video(tmp_path / "even.mp4", grey_video(12), fps=10)
    (tmp_path / "videos").mkdir()
    times = ["-i", str(even), "-vf", "setpts=(N+4*gt(N\\,5))/(10*TB)", "-fps_mode", "passthrough"]
    subprocess.run([str(FFMPEG_BINARY), *times, str(tmp_path / "videos/gap.mp4")], check=True, capture_output=True)
    write_table(tmp_path / "videos", ["episode", "action"], [["gap", 0]] * 11)
    frames = import_episodes(tmp_path / "videos", tmp_path / "mine").read(0).frames
    assert np.abs(frames.mean((1, 2, 3)) - GREYS).max() < 3


def test_a_video_and_a_table_of_other_lengths_are_refused(tmp_path):
    write_video(tmp_path / "videos/x.mp4", grey_video(12))
    write_table(tmp_path / "videos", ["episode", "action"], [["x", 0]] * 12)
    with pytest.raises(ValueError, match=r"x\.mp4: 12 frames need 11 actions.*got 12"):
        import_episodes(tmp_path / "videos", tmp_path / "mine")
    (tmp_path / "videos/x.mp4").write_bytes(b"no video at all")
    with pytest.raises(ValueError, match=r"x\.mp4: damaged, or not a video"):
        import_episodes(tmp_path / "videos", tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_pictures_are_in_the_order_of_their_numbers_and_come_in_as_they_are(tmp_path):
    store = import_episodes(foreign(tmp_path / "theirs", [0, 1] * 5), tmp_path / "mine")
    np.testing.assert_array_equal(store.read(0).frames, grey_video(11))


def test_pictures_of_16_bits_are_refused_rather_than_clipped(tmp_path):
    theirs = foreign(tmp_path / "theirs", [0, 1])
    Image.fromarray(np.full((16, 24), 40_000, np.uint16)).save(theirs / "one/1.png")
    with pytest.raises(ValueError, match=r"one: expected uint8 images.*got uint16"):
        import_episodes(theirs, tmp_path / "mine")


def test_words_become_choices_of_these_names(tmp_path):
    theirs = foreign(tmp_path / "theirs", ["left", "jump", "left"])
    store = import_episodes(theirs, tmp_path / "mine")
    assert store.info.action_names == ("jump", "left") and store.info.action_space == Discrete(2)
    assert store.actions(0).tolist() == [1, 0, 1]


def test_other_numbers_lie_between_the_least_and_the_greatest_of_the_data_or_the_bounds_given(tmp_path):
    theirs = foreign(tmp_path / "theirs", [0.25, -1.5, 0.1])
    found = import_episodes(theirs, tmp_path / "found")
    assert found.info.action_space == Box(-1.5, 0.25, (), np.float32)
    np.testing.assert_array_equal(found.actions(0), np.array([0.25, -1.5, 0.1], np.float32))
    given = import_episodes(theirs, tmp_path / "given", actions=(-2.0, 2.0))
    assert given.info.action_space == Box(-2, 2, (), np.float32)
    with pytest.raises(ValueError, match=r"one: .*expected finite values inside.*actions= sets"):
        import_episodes(theirs, tmp_path / "narrow", actions=(-1.0, 1.0))


def test_whole_numbers_are_choices_and_may_be_more_than_the_data_has(tmp_path):
    theirs = foreign(tmp_path / "theirs", [0, 2, 1])
    assert import_episodes(theirs, tmp_path / "found").info.action_space == Discrete(3)
    assert import_episodes(theirs, tmp_path / "given", actions=9).info.action_space == Discrete(9)
    with pytest.raises(ValueError, match=r"expected values inside Discrete\(2\), got 2"):
        import_episodes(theirs, tmp_path / "few", actions=2)
    with pytest.raises(ValueError, match="expected choices >= 0, got -1"):
        import_episodes(foreign(tmp_path / "negative", [0, -1]), tmp_path / "mine")
    with pytest.raises(ValueError, match=r"expected choices of Discrete\(3\), got \[0\.5"):
        import_episodes(foreign(tmp_path / "fractions", [0.5, 1]), tmp_path / "mine", actions=3)


def test_actions_of_several_numbers_have_a_column_each(tmp_path):
    write_pictures(tmp_path / "theirs/one", grey_video(3))
    write_table(tmp_path / "theirs", ["episode", "action_1", "action_0"], [["one", 4, 0], ["one", 2, 1]])
    store = import_episodes(tmp_path / "theirs", tmp_path / "mine")
    assert store.info.action_space == MultiDiscrete([2, 5])
    assert store.actions(0).tolist() == [[0, 4], [1, 2]]


def test_each_clip_may_have_a_table_of_its_own(tmp_path):
    for name, actions in (("b2", [3, 1]), ("b10", [0])):
        foreign(tmp_path / name, actions, name)
        rows = (tmp_path / name / "actions.csv").read_text().replace("episode,", "").replace(f"{name},", "")
        (tmp_path / "theirs").mkdir(exist_ok=True)
        (tmp_path / name / name).rename(tmp_path / "theirs" / name)
        (tmp_path / f"theirs/{name}.csv").write_text(rows)
    store = import_episodes(tmp_path / "theirs", tmp_path / "mine")
    assert [store.actions(index).tolist() for index in (0, 1)] == [[3, 1], [0]]
    (tmp_path / "theirs/b2.csv").unlink()
    with pytest.raises(ValueError, match="missing for b2"):
        import_episodes(tmp_path / "theirs", tmp_path / "again")


def test_frames_can_be_made_smaller_and_grey_ones_get_three_channels(tmp_path):
    theirs = foreign(tmp_path / "theirs", [0, 1])
    for number, grey in enumerate(GREYS[:3]):
        Image.fromarray(np.array([[0, grey], [grey, 2 * (grey // 2)]], np.uint8)).save(theirs / f"one/{number}.png")
    store = import_episodes(theirs, tmp_path / "mine", size=(1, 1))
    expected = [[[[round(int(grey) * 2 / 4 + int(grey // 2) * 2 / 4)] * 3]] for grey in GREYS[:3]]
    assert np.abs(store.read(0).frames.astype(int) - expected).max() <= 1
    assert store.info.frame_shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("columns", "rows", "error"),
    [
        (["episode", "action", "rewards"], [["one", 0, 1]] * 2, r"expected columns .*reward.*got episode, action, rew"),
        (["episode", "reward"], [["one", 0]] * 2, "expected columns episode, action"),
        (["episode", "action"], [["two", 0]] * 2, r"missing for one, two"),
        (["episode", "action"], [["one", 0, 3], ["one", 0]], r"line 2: expected 2 fields"),
        (["episode", "action", "reward"], [["one", 0, "much"]] * 2, "expected numbers .*got much"),
        (["episode", "action", "terminated"], [["one", 0, 1]] * 2, "terminated: true before the last step"),
        (["episode", "action", "truncated"], [["one", 0, "maybe"]] * 2, "truncated: expected 0, 1.*'maybe'"),
    ],
)
def test_a_table_that_says_something_else_is_refused(tmp_path, columns, rows, error):
    write_pictures(tmp_path / "theirs/one", grey_video(3))
    write_table(tmp_path / "theirs", columns, rows)
    with pytest.raises(ValueError, match=error):
        import_episodes(tmp_path / "theirs", tmp_path / "mine")


def test_an_export_that_was_changed_is_refused_by_the_episode_until_it_is_declared_ones_own(tmp_path):
    export_episodes(odd_store(tmp_path / "there", SPACES["several"]), tmp_path / "out", "frames")
    table = (tmp_path / "out/actions.csv").read_text()
    (tmp_path / "out/actions.csv").write_text(table.replace("episode_000011,", "episode_000011,1", 1))
    with pytest.raises(EpisodeError, match=r"episode_000011: not what was exported"):
        import_episodes(tmp_path / "out", tmp_path / "back")
    (tmp_path / "out/actions.csv").write_text(table)
    write_pictures(tmp_path / "new", np.zeros((1, 6, 5, 3), np.uint8))
    shutil.copy(tmp_path / "new/0.png", tmp_path / "out/episode_000003/frame_000001.png")
    with pytest.raises(EpisodeError, match=r"episode_000003: not what was exported"):
        import_episodes(tmp_path / "out", tmp_path / "back")
    (tmp_path / "out" / SIDECAR).unlink()
    assert import_episodes(tmp_path / "out", tmp_path / "back").indices == (0, 1, 2)


def test_an_export_with_an_episode_less_is_refused(tmp_path):
    export_episodes(odd_store(tmp_path / "there", SPACES["choices"]), tmp_path / "out", "npz")
    (tmp_path / "out/episode_000003.npz").unlink()
    with pytest.raises(ValueError, match="expected the 3 exported episodes, got 2"):
        import_episodes(tmp_path / "out", tmp_path / "back")
    with pytest.raises(ValueError, match="imported unchanged"):
        import_episodes(tmp_path / "out", tmp_path / "back", size=(8, 8))


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 9}', '{"schema": 1, "info": {}, "episodes": []}'])
def test_a_broken_sidecar_is_named(tmp_path, content):
    theirs = foreign(tmp_path / "theirs", [0, 1])
    (theirs / SIDECAR).write_text(content)
    with pytest.raises(ValueError, match=r"worldmodel\.json: "):
        import_episodes(theirs, tmp_path / "mine")


def test_episodes_of_a_store_are_imported_as_they_are(tmp_path):
    store = odd_store(tmp_path / "there", SPACES["choices"])
    back = import_episodes(store.folder, tmp_path / "back")
    assert (back.fingerprint(), back.info) == (store.fingerprint(), store.info)


def test_nothing_is_written_over_and_an_unknown_folder_says_what_is_known(tmp_path):
    store = odd_store(tmp_path / "there", SPACES["choices"])
    with pytest.raises(ValueError, match="is there already"):
        export_episodes(store, tmp_path / "there", "npz")
    with pytest.raises(ValueError, match="is there already"):
        import_episodes(foreign(tmp_path / "theirs", [0]), tmp_path / "there")
    assert EpisodeStore.open(tmp_path / "there").fingerprint() == store.fingerprint()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"a Minari dataset.*\.npz files.*actions\.csv"):
        import_episodes(tmp_path / "empty", tmp_path / "mine")

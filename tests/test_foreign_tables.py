"""Tables of others: each cell is a number or a word for certain, or its line is named; what is missing is said."""

import os
from pathlib import Path

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from tests.test_convert import foreign, grey_video, write_pictures
from worldmodel.data.clips.split import split_for_training
from worldmodel.data.convert.convert import import_episodes
from worldmodel.data.convert.formats.cells import is_word


def folder_with(tmp_path: Path, table: str | bytes, clips: dict[str, int] | None = None) -> Path:
    """Pictures of so many frames for each clip, beside an actions.csv of this text."""
    for name, frames in (clips or {"one": 4}).items():
        write_pictures(tmp_path / "theirs" / name, grey_video(frames))
    content = table if isinstance(table, bytes) else table.encode()
    (tmp_path / "theirs/actions.csv").write_bytes(content)
    return tmp_path / "theirs"


def rows(*actions: str) -> str:
    return "episode,action\n" + "".join(f"one,{action}\n" for action in actions)


NO_NUMBERS = [
    "",
    "N/A",
    "-",
    '"0,5"',
    "NaN?",
    "1e999",
    "1_000",
    "0x1f",
    '"1,000"',
    "١٢",
    "½",
    "1 000",
    "five",
    "–",
    "−1",
]


@pytest.mark.parametrize("cell", NO_NUMBERS)
@pytest.mark.parametrize("place", [0, 2])
def test_a_cell_that_is_no_number_among_numbers_is_refused_by_line_and_episode(tmp_path, cell, place):
    actions = ["0.0", "0.1", "0.2"]
    actions[place] = cell
    with pytest.raises(ValueError, match=rf"actions\.csv, line {place + 2} \(episode one\): action: "):
        import_episodes(folder_with(tmp_path, rows(*actions)), tmp_path / "mine")


@pytest.mark.parametrize(
    "cell",
    ["", "N/A", "-", "0", "2.5", '"0,5"', "1st", "nan", "NULL", "(5)", "#N/A", "?", "a\0b", "a\u200bb", "\u202eup"],
)
def test_a_cell_that_is_no_word_among_words_is_refused_by_line_and_episode(tmp_path, cell):
    with pytest.raises(ValueError, match=r"actions\.csv, line 4 \(episode one\): action: expected words"):
        import_episodes(folder_with(tmp_path, rows("left", "right", cell)), tmp_path / "mine")


def test_pictures_without_pixels_are_refused_by_their_episode(tmp_path):
    (tmp_path / "theirs").mkdir()
    np.savez(tmp_path / "theirs/a.npz", video=grey_video(4)[:, :, :0], actions=np.array([0, 1, 0]))
    with pytest.raises(ValueError, match=r"a\.npz, frame 0: expected uint8 images"):
        import_episodes(tmp_path / "theirs", tmp_path / "mine")


def test_an_empty_row_of_a_spreadsheet_is_refused_by_its_line(tmp_path):
    with pytest.raises(ValueError, match=r"actions\.csv, line 5: episode: expected a name, got an empty cell"):
        import_episodes(folder_with(tmp_path, rows("0", "1", "0") + ",\n"), tmp_path / "mine")


@pytest.mark.parametrize(
    "cells", [['"0,5"', '"1,5"', '"2,5"'], ["-", "-", "-"], ["", "", ""], ["N/A"] * 3, ["1,", "2,"]]
)
def test_a_column_of_neither_is_refused(tmp_path, cells):
    with pytest.raises(ValueError, match=r"actions\.csv, line 2"):
        import_episodes(folder_with(tmp_path, rows(*cells)), tmp_path / "mine")


@pytest.mark.parametrize("word", ["left", "turn_2", "↑", "<", "前", "True", "none", "jump!", "äh", "no-op", "+"])
def test_words_are_words(word):
    assert is_word(word)


@pytest.mark.parametrize(
    "cell",
    ["#DIV/0!", "#NAME?", "#WERT!", "=A1", "=B2*2", "null", "<NA>", "1e5", "left\0", "up\u200b", "x=0.5", "w" * 101],
)
def test_the_cell_that_is_no_word_is_named_where_most_cells_are_words(tmp_path, cell):
    with pytest.raises(ValueError, match=r"actions\.csv, line 3 \(episode one\): action: expected words in this col"):
        import_episodes(folder_with(tmp_path, rows("left", cell, "right")), tmp_path / "mine")


@pytest.mark.parametrize("wrapped", ["np.float64({})", "tensor({})", "array([{}])", "speed={}", "v: {}", "={}", "$ {}"])
def test_numbers_in_a_wrapping_do_not_become_words(tmp_path, wrapped):
    cells = [wrapped.format(number) for number in ("0.5", "-1", ".25")]
    with pytest.raises(ValueError, match=r"actions\.csv, line 2 \(episode one\): action: expected numbers"):
        import_episodes(folder_with(tmp_path, rows(*cells)), tmp_path / "mine")


def test_words_that_look_the_same_are_one_action(tmp_path):
    table = rows("E\u0301t\u00e9", "\u00c9te\u0301", "turn\u00a0left")
    store = import_episodes(folder_with(tmp_path, table), tmp_path / "mine")
    assert store.info.action_names == ("turn left", "\u00c9t\u00e9")


@pytest.mark.parametrize("words", [("left", "LEFT"), ("True", "TRUE"), ("no-op", "No-Op")])
def test_words_that_differ_in_capitals_alone_are_refused_with_both_episodes(tmp_path, words):
    table = "episode,action\n" + f"one,{words[0]}\n" * 3 + f"two,{words[1]}\n" * 3
    with pytest.raises(ValueError, match=r"in .*(one|two) and .* in .*(one|two) differ in capital letters alone"):
        import_episodes(folder_with(tmp_path, table, {"one": 4, "two": 4}), tmp_path / "mine")
    keys = import_episodes(folder_with(tmp_path / "keys", rows("w", "W", "a")), tmp_path / "keys/mine")
    assert keys.info.action_names == ("W", "a", "w")


ODD_ARRAYS = {
    "actions": [np.array(1), np.zeros((3, 0)), np.array([["a", "b"]] * 3), np.array([0, -1, 1]), np.zeros(3, complex)],
    "rewards": [np.array(1.0), np.ones((3, 1)), np.ones((1, 3)), np.ones(4), np.array(["1"] * 3), np.zeros(3, object)],
    "video": [np.zeros((4, 0, 9, 3), np.uint8), np.zeros((0, 6, 9, 3), np.uint8), np.zeros((4, 6, 9, 3))],
}


@pytest.mark.parametrize(("name", "array"), [(name, array) for name, each in ODD_ARRAYS.items() for array in each])
def test_arrays_of_npz_files_that_are_none_of_an_episode_are_refused_with_file_and_shape(tmp_path, name, array):
    (tmp_path / "npz").mkdir()
    arrays = {"video": grey_video(4), "actions": np.array([0, 1, 1]), name: array}
    np.savez(tmp_path / "npz/a.npz", **arrays)
    with pytest.raises(ValueError, match=r"npz/a\.npz[:,].*expected .*, got") as caught:
        import_episodes(tmp_path / "npz", tmp_path / "mine")
    assert ".partial" not in str(caught.value)


def test_words_in_one_episode_and_numbers_in_another_are_refused_with_both_names(tmp_path):
    table = "episode,action\n" + "one,left\n" * 3 + "two,0\n" * 3
    with pytest.raises(ValueError, match=r"got words \(\) in .*one and numbers \(\) in .*two"):
        import_episodes(folder_with(tmp_path, table, {"one": 4, "two": 4}), tmp_path / "mine")
    text, numbers = np.array(["left", "up", "up"]), np.array([0, 1, 1])
    (tmp_path / "npz").mkdir()
    for name, actions in (("a", text), ("b", numbers)):
        np.savez(tmp_path / f"npz/{name}.npz", video=grey_video(4), actions=actions)
    with pytest.raises(ValueError, match=r"words \(\) in .*a\.npz and numbers \(\) in .*b\.npz"):
        import_episodes(tmp_path / "npz", tmp_path / "mine")


def test_numbers_as_text_in_npz_files_are_numbers(tmp_path):
    (tmp_path / "npz").mkdir()
    np.savez(tmp_path / "npz/a.npz", video=grey_video(4), actions=np.array(["0", "2", "1"]))
    assert import_episodes(tmp_path / "npz", tmp_path / "mine").info.action_space == Discrete(3)
    np.savez(tmp_path / "npz/a.npz", video=grey_video(4), actions=np.array(["0", "", "1"]))
    with pytest.raises(ValueError, match=r"a\.npz.*got an empty cell"):
        import_episodes(tmp_path / "npz", tmp_path / "mine2")


@pytest.mark.parametrize("column", ["reward", "action_1"])
@pytest.mark.parametrize("cell", ["", "-", '"0,5"', "x", "9" * 30])
def test_other_columns_of_numbers_name_the_line_too(tmp_path, column, cell):
    names = {"reward": "action,reward", "action_1": "action_0,action_1"}[column]
    table = f"episode,{names}\none,1,2\none,1,{cell}\none,1,2\n"
    with pytest.raises(ValueError, match=rf"line 3 \(episode one\): {column}: expected numbers"):
        import_episodes(folder_with(tmp_path, table), tmp_path / "mine")


@pytest.mark.parametrize("cell", ["", "yes", "2", "1.0"])
def test_an_outcome_that_is_unclear_is_refused_by_line(tmp_path, cell):
    table = f"episode,action,terminated\none,1,\none,1,0\none,1,{cell}\n"
    with pytest.raises(ValueError, match=r"line 4 \(episode one\): terminated: expected 0, 1, true or false"):
        import_episodes(folder_with(tmp_path, table), tmp_path / "mine")


PLAIN = "episode,action,reward\none,2,0.5\none,0,1\none,1,-2e-3\n"


@pytest.mark.parametrize(
    "table",
    [
        PLAIN,
        "\ufeff" + PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.rstrip("\n"),
        PLAIN.replace(",", " , "),
        PLAIN.replace("one", '"one"'),
        PLAIN.replace("\n", "\n\n"),
        PLAIN.replace("2,0.5", "+2,.5"),
        "reward,episode,action\n0.5,one,2\n1,one,0\n-0.002,one,1\n",
    ],
)
def test_tables_that_say_the_same_in_other_ways_come_in_alike(tmp_path, table):
    episode = import_episodes(folder_with(tmp_path, table), tmp_path / "mine").read(0)
    assert episode.actions.tolist() == [2, 0, 1]
    np.testing.assert_array_equal(episode.rewards, np.array([0.5, 1, -0.002], np.float32))


@pytest.mark.parametrize(
    ("table", "error"),
    [
        (PLAIN.replace(",", ";"), "separate them by commas"),
        (PLAIN.replace(",", "\t"), "separate them by commas"),
        (PLAIN.replace("reward", "action"), "expected each column once"),
        ("episode,action,reward,reward\n" + "one,0,1,2\n" * 3, "expected each column once"),
        (PLAIN.replace("one,0", '"one,0'), r"actions\.csv"),
        (PLAIN.encode("utf-16"), r"actions\.csv.*utf-8"),
        (PLAIN.replace("0.5", "0.5\0"), r"actions\.csv"),
        ("", "got none"),
        (PLAIN.replace("one", " "), "line 2: episode: expected a name"),
        (PLAIN + "# end,0,0\n", r"missing for # end \(actions\.csv, line 5\)"),
        (PLAIN + "# end\n", r"line 5: expected 3 fields, episode, action, reward; got 1"),
        (PLAIN.replace("\n", ",\n"), r"line 1: .*got episode, action, reward, one without a name"),
        ("sep=,\n" + PLAIN, r"line 1: expected columns"),
    ],
)
def test_tables_that_cannot_be_read_for_certain_are_refused(tmp_path, table, error):
    with pytest.raises(ValueError, match=error):
        import_episodes(folder_with(tmp_path, table), tmp_path / "mine")


def test_rows_of_an_episode_in_two_tables_and_two_kinds_of_tables_are_refused(tmp_path):
    theirs = folder_with(tmp_path, PLAIN, {"one": 4, "two": 4})
    (theirs / "one.csv").write_text("episode,action\n" + "one,0\n" * 3 + "two,0\n" * 3)
    with pytest.raises(ValueError, match=r"expected actions\.csv or a table for each clip, got actions\.csv, one\.csv"):
        import_episodes(theirs, tmp_path / "mine")
    (theirs / "actions.csv").rename(theirs / "two.csv")
    with pytest.raises(ValueError, match=r"two\.csv: one has rows in one\.csv as well"):
        import_episodes(theirs, tmp_path / "mine")


@pytest.mark.parametrize("cell", ["nan", "inf", "-inf", "1e39", "NaN"])
@pytest.mark.parametrize("column", ["action", "reward"])
def test_numbers_that_are_none_are_refused_with_episode_and_step(tmp_path, cell, column):
    values = {"action": "0.5", "reward": "0.5", column: cell}
    table = f"episode,action,reward\none,0.5,1\none,{values['action']},{values['reward']}\none,0.5,1\n"
    with pytest.raises(ValueError, match=rf"one, step 1: {column}s: expected finite numbers"):
        import_episodes(folder_with(tmp_path, table), tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
@pytest.mark.parametrize("name", ["actions", "rewards"])
def test_numbers_that_are_none_in_npz_files_too(tmp_path, value, name):
    arrays = {"actions": np.full(3, 0.5), "rewards": np.zeros(3)}
    arrays[name][2] = value
    (tmp_path / "npz").mkdir()
    np.savez(tmp_path / "npz/a.npz", video=grey_video(4), **arrays)
    with pytest.raises(ValueError, match=rf"a\.npz, step 2: {name}: expected finite numbers"):
        import_episodes(tmp_path / "npz", tmp_path / "mine")


@pytest.mark.parametrize("cell", ["4000000000", "65536", "9223372036854775807", "18446744073709551615"])
def test_a_choice_beyond_the_ceiling_is_refused_before_memory_is_taken(tmp_path, cell):
    with pytest.raises(ValueError, match=r"one, step 1: actions: an action with [\d,]+ choices; at most 65,536"):
        import_episodes(folder_with(tmp_path, rows("0", cell, "1")), tmp_path / "mine")
    with pytest.raises(ValueError, match="at most 65,536"):
        import_episodes(foreign(tmp_path / "few", [0, 1]), tmp_path / "mine", actions=4_000_000_000)


@pytest.mark.parametrize("actions", [0, -1, (1.0, 0.0), (-1e39, 1e39), (np.nan, 1.0), (0.0, np.inf)])
def test_what_actions_cannot_be_is_refused_by_that_key(tmp_path, actions):
    with pytest.raises(ValueError, match=r"theirs: actions: expected (1 choice or more|\[least,greatest\], finite)"):
        import_episodes(foreign(tmp_path / "theirs", [0, 1]), tmp_path / "mine", actions=actions)


def test_whole_numbers_beyond_choices_may_be_numbers_where_the_user_says_so(tmp_path):
    theirs = folder_with(tmp_path, rows("0", "4000000", "1"))
    store = import_episodes(theirs, tmp_path / "mine", actions=(0.0, 4e6))
    assert store.info.action_space == Box(0, 4e6, (), np.float32) and store.actions(0).tolist() == [0, 4e6, 1]


def test_what_is_missing_or_left_out_is_said_in_one_line(tmp_path):
    said = []
    import_episodes(foreign(tmp_path / "theirs", [0, 1]), tmp_path / "mine", say=said.append)
    assert said == ["missing: rewards (all 0), terminated (never), truncated (never)"]
    whole = "episode,action,reward,terminated,truncated\n" + "one,0,1,0,0\n" * 3
    import_episodes(folder_with(tmp_path / "whole", whole), tmp_path / "mine2", say=said.append)
    assert len(said) == 1
    (tmp_path / "npz").mkdir()
    arrays = {"video": np.zeros((4, 6, 5, 4), np.uint8), "actions": np.zeros(4, int), "infos/x": np.zeros(4)}
    np.savez(tmp_path / "npz/a.npz", **arrays, rewards=np.zeros(3))
    np.savez(tmp_path / "npz/b.npz", **arrays, depth=np.zeros(4))
    import_episodes(tmp_path / "npz", tmp_path / "mine3", say=said.append)
    expected = "missing: terminated (never), truncated (never), rewards (all 0) in 1 of 2 episodes"
    assert said[1] == f"{expected}; left out: infos/x, alpha channel, depth in 1 of 2 episodes"


def test_hidden_files_are_passed_over_and_upper_case_is_read(tmp_path):
    theirs = foreign(tmp_path / "theirs", [0, 1])
    for path in (theirs / "one/._0.png", theirs / "._actions.csv", theirs / ".DS_Store"):
        path.write_bytes(b"\0\5\26\7 of another system")
    for name in (".ipynb_checkpoints", "__MACOSX"):
        write_pictures(theirs / name, grey_video(2))
        write_pictures(theirs / "one" / name, grey_video(2))
    (theirs / "one/0.png").rename(theirs / "one/0.PNG")
    (theirs / "actions.csv").rename(theirs / "ACTIONS.CSV")
    store = import_episodes(theirs, tmp_path / "mine")
    np.testing.assert_array_equal(store.read(0).frames, grey_video(3))
    (tmp_path / "npz/.cache").mkdir(parents=True)
    np.savez(tmp_path / "npz/a.npz", video=grey_video(4), actions=np.zeros(3, int))
    (tmp_path / "npz/a.npz").rename(tmp_path / "npz/A.NPZ")
    for name in ("._a.npz", ".cache/b.npz"):
        (tmp_path / "npz" / name).write_bytes(b"of another system")
    assert import_episodes(tmp_path / "npz", tmp_path / "mine2").indices == (0,)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("name", ["one/1.png", "actions.csv", "one.mp4", "worldmodel.json", "a.npz"])
def test_pipes_with_the_names_of_files_are_refused_at_once(tmp_path, name):
    theirs = foreign(tmp_path / "theirs", [0, 1])
    if name == "one.mp4":
        (theirs / "one").rename(tmp_path / "one")
    if name == "a.npz":
        (theirs / "actions.csv").unlink()
    (theirs / name).unlink(missing_ok=True)
    os.mkfifo(theirs / name)
    with pytest.raises(ValueError, match=rf"{name}: expected a regular file, got a pipe"):
        import_episodes(theirs, tmp_path / "mine")


def test_one_imported_clip_cannot_be_split_and_the_message_says_what_helps(tmp_path):
    store = import_episodes(foreign(tmp_path / "theirs", [0, 1]), tmp_path / "mine")
    with pytest.raises(ValueError, match=r"cut the clip in two.*import both"):
        split_for_training(store)

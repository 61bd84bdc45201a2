"""Progress in a log file is lines; at a terminal it is a bar."""

import sys

from worldmodel.io.progress import progress


def test_in_a_log_file_progress_is_whole_lines_with_the_time_to_go(capsys, monkeypatch):
    monkeypatch.setattr("worldmodel.io.progress.LINE_EVERY", 0.0)
    assert list(progress(range(3), "work", total=3, unit="step")) == [0, 1, 2]
    written = capsys.readouterr().err
    assert "\r" not in written.replace("\r\n", "") and written.endswith("\n")
    assert "work: 100%" in written.strip().splitlines()[-1]


def test_a_terminal_gets_a_bar_and_a_hidden_one_writes_nothing(capsys, monkeypatch):
    assert list(progress(range(2), total=2, unit="step", shown=False)) == [0, 1]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    list(progress(range(2), "work", total=2, unit="step"))
    assert "\r" in capsys.readouterr().err

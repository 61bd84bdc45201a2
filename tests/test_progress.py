"""Progress in a log file is lines; at a terminal it is a bar."""

import sys
import time

import numpy as np
from gymnasium.spaces import Discrete

from worldmodel.agents import RandomAgent
from worldmodel.cli.agents.evaluate_agent import Counted
from worldmodel.io.progress import progress


def test_in_a_log_file_progress_is_whole_lines_with_the_time_to_go(capsys, monkeypatch):
    monkeypatch.setattr("worldmodel.io.progress.LINE_EVERY", 0.0)
    assert list(progress(range(3), "work", total=3, unit="step")) == [0, 1, 2]
    written = capsys.readouterr().err
    assert "\r" not in written.replace("\r\n", "") and written.endswith("\n")
    assert "work: 100%" in written.strip().splitlines()[-1]


def test_what_takes_less_than_the_delay_shows_nothing(capsys, monkeypatch):
    monkeypatch.setattr("worldmodel.io.progress.LINE_EVERY", 0.0)
    assert list(progress(range(3), "work", total=3, unit="step", delay=60)) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    for _ in progress(range(3), "work", total=3, unit="step", delay=0.01):
        time.sleep(0.02)
    assert "work: 100%" in capsys.readouterr().err


def test_an_evaluation_of_agents_counts_their_episodes():
    with progress(total=3, unit="episode") as bar:
        agent = Counted(RandomAgent(Discrete(2)), bar)
        actions = {int(agent.episode(np.random.default_rng(0))(np.zeros((2, 2, 3)))) for _ in range(3)}
        assert bar.n == 3 and actions <= {0, 1}


def test_a_terminal_gets_a_bar_and_a_hidden_one_writes_nothing(capsys, monkeypatch):
    assert list(progress(range(2), total=2, unit="step", shown=False)) == [0, 1]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    list(progress(range(2), "work", total=2, unit="step"))
    assert "\r" in capsys.readouterr().err

"""scripts/collect.py with environments of strangers: whatever is wrong with one is one line and status 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers_env import counter_info
from tests.helpers_scripts import run
from tests.test_episode_store import make_episode
from worldmodel.data.episodes.store import EpisodeStore

ROOT = Path(__file__).parents[1]
ODD = ["env=gymnasium", "env.id=tests.helpers_env:Odd-v0", "env.height=8", "env.width=8", "max_steps=5"]


def collect(folder: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/collect.py", f"run={folder}", "episodes=2", "workers=1", *settings]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["env=maze", "env.height=abc"], "env.height: expected int, got str 'abc'"),
        ([*ODD, "+env.kwargs.odd=dict actions"], "expected an action space of Discrete, MultiDiscrete"),
        ([*ODD, "+env.kwargs.odd=exit"], "the environment cannot be made: its process ended by itself with status 7"),
        ([*ODD, "+env.kwargs.odd=reset", "episodes=200"], "the first 12 attempts all failed"),
    ],
)
def test_an_environment_that_cannot_be_is_one_line_and_status_two(tmp_path, settings, words):
    done = collect(tmp_path, *settings)
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert done.returncode == 2 and words in line and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 12


def test_another_environment_in_a_run_is_refused_before_it_is_played_and_a_free_run_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["episodes=1", "workers=0", "max_steps=3", "env.height=16", "env.width=16"]
    run("collect", "env=maze", *small)
    for expected in ("cart_pole", "cart_pole_2"):
        refused = run("collect", "env.id=CartPole-v1", *small, ok=False)
        assert refused == (
            f"error: runs/demo/episodes holds episodes of maze; for CartPole-v1 name another run: run=runs/{expected}\n"
        )
        Path(f"runs/{expected}").mkdir()


@pytest.mark.slow
def test_what_is_dropped_cut_or_without_reward_is_said_and_closing_costs_nothing(tmp_path):
    done = collect(tmp_path, *ODD, "+env.kwargs.odd=close")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "warning: not kept of the observation: state." in done.stdout
    assert "cut at max_steps=5: 2 of the 2 new episodes" in done.stdout
    assert "every reward of the new episodes is 0" in done.stdout
    assert "close raised KeyError: 'shut already'" in done.stderr
    again = collect(tmp_path, *ODD, "+env.kwargs.odd=close")
    assert "nothing to do" in again.stdout and "every reward" not in again.stdout


@pytest.mark.slow
def test_a_first_try_that_made_nothing_is_in_nobodys_way(tmp_path):
    first = collect(tmp_path, *ODD, "+env.kwargs.odd=reward", "retries=0")
    assert first.returncode == 1 and "step 0: reward nan: expected a finite number" in first.stderr
    assert collect(tmp_path, *ODD).returncode == 0


@pytest.mark.slow
def test_episodes_of_another_run_are_compared_and_their_origin_is_said(tmp_path):
    assert collect(tmp_path / "a", *ODD).returncode == 0
    done = collect(tmp_path / "b", *ODD, "seed=3", "episodes=3", f"continue_from={tmp_path / 'a'}")
    assert "2 episodes of" in done.stdout and "2 episodes here were made with other settings" in done.stdout
    assert [origin["seed"] for origin in EpisodeStore.open(tmp_path / "b/episodes").origins().values()] == [0, 0]
    EpisodeStore.create(tmp_path / "c/episodes", counter_info()).write(make_episode())
    done = collect(tmp_path / "d", *ODD, f"continue_from={tmp_path / 'c'}")
    assert done.returncode == 2 and "cannot start this run: action_space.n: 3 -> 2" in done.stderr

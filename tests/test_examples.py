"""The examples as a user runs them, on a small world of the maze."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.helpers_models import REWARDS, small_prior, small_tokenizer, some_tokens
from worldmodel.data.clips.start_contexts import StartContexts
from worldmodel.envs.maze import ACTIONS, MazeConfig, MazeEnv
from worldmodel.io.config import to_dict
from worldmodel.world import WorldInfo, WorldModel

ROOT = Path(__file__).parents[1]
MAZE = MazeConfig(height=40, width=48, max_steps=20)  # large enough for Stable-Baselines3's network for images


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    maze_world().save(folder)
    return folder


def maze_world() -> WorldModel:
    """An untrained world that says which environment it is of."""
    n = len(ACTIONS)
    info = WorldInfo((40, 48, 3), MazeEnv(MAZE).action_space, ACTIONS, to_dict(MAZE), longest=20)
    starts = StartContexts(some_tokens(2, 1, (5, 6)), torch.zeros(2, 1, n), torch.ones(2, dtype=torch.long), resets=2)
    prior = small_prior(grid=(5, 6), actions=n, rewards=REWARDS)
    return WorldModel(small_tokenizer(frame=(40, 48, 3)), prior, info, starts)


def run(example: str, folder: Path, *arguments: object) -> str:
    """What it printed, run in `folder`; it must not warn."""
    command = [sys.executable, str(ROOT / "examples" / f"{example}.py"), *map(str, arguments)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stdout + done.stderr
    return done.stdout


def test_a_dream_is_stepped_by_hand_and_branched(world, tmp_path):
    printed = run("step_a_dream", tmp_path, world)
    assert printed.count("surprise") == 60
    with Image.open(tmp_path / "dream.gif") as video, Image.open(tmp_path / "futures.png") as sheet:
        assert getattr(video, "n_frames", 1) > 1 and sheet.height > 3 * 40


def test_ppo_is_trained_in_dreams(world, tmp_path):
    assert "ep_rew_mean" in run("train_ppo_in_a_dream", tmp_path, world, 1)
    assert (tmp_path / "ppo.zip").stat().st_size > 0


def test_a_real_episode_is_planned_in_dreams(world, tmp_path):
    assert "in 3 steps" in run("plan_in_a_real_env", tmp_path, world, 3)
    assert (tmp_path / "planned.mp4").stat().st_size > 0

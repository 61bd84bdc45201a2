"""A newcomer's first minutes: a wheel in an empty folder, an environment of two files, a world, a page to play it."""

import os
import re
import subprocess
import sys
import sysconfig
import urllib.request
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import worldmodel  # noqa: F401  (registers the dream with Gymnasium)
from tests.helpers_wheel import build_wheel, copy_source

COLUMNS = 8
DOOR = '''
import gymnasium
import numpy as np
from gymnasium import spaces


class Door(gymnasium.Env):
    """A white bar walks along a corridor; the door at its right end is worth a point, and ends the episode."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    action_names = ("right", "left", "stay")

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0, 255, (32, 32, 3), np.uint8)
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.column = int(self.np_random.integers(7))
        return self.render(), {}

    def step(self, action):
        self.column = max(0, self.column + (1, -1, 0)[action])
        there = self.column == 7
        return self.render(), float(there), there, False, {}

    def render(self):
        frame = np.full((32, 32, 3), (20, 60, 120), np.uint8)
        frame[:, 28:] = (200, 120, 40)
        frame[10:22, 4 * self.column : 4 * self.column + 4] = 255
        return frame
'''
REGISTER = 'import gymnasium\n\ngymnasium.register("Door-v0", entry_point="door:Door", max_episode_steps=60)\n'


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The command of a wheel in an environment of its own, which sees the libraries of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    found = build_wheel(copy_source(folder), folder)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv/bin/python"
    site = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True)
    libraries = Path(site.stdout.decode().strip()) / "libraries.pth"
    libraries.write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "-q"]
    subprocess.run([*install, str(found)], check=True, capture_output=True)
    return folder / "venv/bin/worldmodel"


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Path:
    """A folder with nothing but the two files of an environment."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "door.py").write_text(DOOR)
    (folder / "register_door.py").write_text(REGISTER)
    return folder


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMP_NUM_THREADS")}


@pytest.mark.long
def test_an_own_environment_becomes_a_dream_whose_rewards_and_ends_fall_at_the_right_step(installed, empty):
    size = ("env.height=32", "env.width=32")
    command = [installed, "make", "env.id=register_door:Door-v0", *size, "preset=quick", "run=runs/door"]
    done = subprocess.run(command, cwd=empty, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "plan: " in done.stdout and (empty / "runs/door/run.html").is_file()
    dream = gymnasium.make("worldmodel/Dream-v0", world=str(empty / "runs/door/world"))
    assert sum(walks_to_the_door(dream, seed) for seed in range(20)) >= 17


def walks_to_the_door(dream: gymnasium.Env, seed: int) -> bool:
    """Whether a dream of walking right ends, with its one reward, just when the bar reaches the door."""
    frame, _ = dream.reset(seed=seed)
    column = int(np.argmax(frame[12:20].mean((0, 2)).reshape(COLUMNS, 4).mean(1)))
    rewards, ended = list[float](), False
    while not ended and len(rewards) < 2 * COLUMNS:
        _, reward, terminated, truncated, _ = dream.step(0)
        rewards.append(float(reward))
        ended = terminated or truncated
    return rewards == [0.0] * (COLUMNS - 2 - column) + [1.0] and ended


@pytest.mark.long
def test_a_world_of_the_wheel_is_played_in_the_browser(installed, empty):
    command = [installed, "play", "world=maze", "open=false", "port=8917"]
    with subprocess.Popen(command, cwd=empty, env=environment(), stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            match = re.search(r"http://\S+", server.stdout.readline())
            assert match is not None
            page = urllib.request.urlopen(match[0], timeout=60).read().decode()
            assert "<title>" in page and "play.js" in page
        finally:
            server.terminate()
            server.wait(30)
    assert not [path for path in empty.rglob("*") if "hydra" in path.name]

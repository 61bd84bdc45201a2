"""ViZDoom: reproducible episodes, honest ends, and a clean working directory."""

import copy
import gc
import hashlib
import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Discrete

from worldmodel import envs
from worldmodel.envs.vizdoom import VizdoomConfig, VizdoomEnv, scenarios

FRESH = """
import sys; sys.path[:0] = ["tests", "."]
from test_envs_vizdoom import episode
print(episode("HealthGatheringSupreme", [3])[0])
"""


def made(**settings: Any) -> VizdoomEnv:
    env = envs.make(VizdoomConfig(**settings))
    assert isinstance(env, VizdoomEnv)
    return env


def engine(env: VizdoomEnv) -> Any:
    wrapped: Any = env.inner.unwrapped
    return wrapped.game


def episode(scenario, seeds, steps=150):
    """A hash of everything that the episodes show, one per seed, played one after the other in one environment."""
    env = made(scenario=scenario)
    assert isinstance(env.action_space, Discrete)
    hashes = []
    for seed in seeds:
        frame, _ = env.reset(seed=seed)
        rng, seen = np.random.default_rng(seed), hashlib.sha256(frame.tobytes())
        for _ in range(steps):
            frame, reward, terminated, truncated, _ = env.step(int(rng.integers(env.action_space.n)))
            seen.update(frame.tobytes() + repr((reward, terminated, truncated)).encode())
            if terminated or truncated:
                break
        hashes.append(seen.hexdigest())
    env.close()
    return hashes


def test_a_seed_gives_the_same_bytes_after_other_episodes_and_in_a_fresh_process():
    first, other, again = episode("HealthGatheringSupreme", [3, 4, 3])
    fresh = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)
    assert first == again == fresh.stdout.strip() != other


def test_an_episode_that_runs_out_of_time_is_truncated_and_keeps_its_last_frame():
    env = envs.make(VizdoomConfig(scenario="Basic", frame_skip=10))
    frames, terminated, truncated = [env.reset(seed=0)[0]], False, False
    while len(frames) <= 100 and not (terminated or truncated):
        frame, _, terminated, truncated, _ = env.step(0)
        frames.append(frame)
    env.close()
    assert (terminated, truncated) == (False, True)
    assert np.array_equal(frames[-2], frames[-1]) and frames[-1].any()


def test_an_episode_that_is_lost_is_terminated_and_its_last_frame_is_black():
    env = envs.make(VizdoomConfig(scenario="TakeCover", frame_skip=20))
    frame, _ = env.reset(seed=0)
    terminated = truncated = False
    for _ in range(500):
        assert frame.any()
        frame, _, terminated, truncated, _ = env.step(0)
        if terminated or truncated:
            break
    rendered = env.render()
    assert (terminated, truncated) == (True, False) and not frame.any()
    assert isinstance(rendered, np.ndarray) and not rendered.any()
    assert env.reset(seed=1)[0].any()
    env.close()


def test_an_action_presses_the_buttons_that_it_is_named_by():
    env = made(scenario="HealthGathering", buttons=2)
    game = engine(env)
    env.reset(seed=0)
    for action, name in enumerate(env.action_names):
        env.step(action)
        pressed = zip(game.get_available_buttons(), game.get_last_action(), strict=True)
        expected = {button.name.lower().replace("move_", "") for button, value in pressed if value} or {"noop"}
        assert set(name.split("+")) == expected
    env.close()
    assert env.action_space == Discrete(7) and len(set(env.action_names)) == 7


def test_a_crop_is_that_part_of_the_screen_and_a_wrong_one_is_refused():
    whole, part = (
        envs.make(VizdoomConfig("vizdoom", "Basic", height=height, width=width, crop=crop))
        for height, width, crop in ((240, 320, (0.0, 1.0, 0.0, 1.0)), (60, 80, (0.5, 0.75, 0.25, 0.5)))
    )
    np.testing.assert_array_equal(part.reset(seed=1)[0], whole.reset(seed=1)[0][120:180, 80:160])
    whole.close(), part.close()
    with pytest.raises(ValueError, match="crop: expected shares"):
        VizdoomConfig(crop=(0.5, 0.5, 0.0, 1.0))


def test_one_button_at_a_time_gives_the_plain_names():
    env = made(scenario="MyWayHome")
    assert set(env.action_names) == {"noop", "turn_left", "turn_right", "forward", "move_left", "move_right"}
    env.close()


def test_a_scenario_with_mouse_axes_keeps_its_buttons_alone():
    env = made(scenario="Deathmatch")
    assert env.action_space == Discrete(len(env.action_names)) and "attack" in env.action_names
    env.close()


def test_nothing_is_left_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = envs.make(VizdoomConfig())
    env.reset(seed=0)
    assert os.getcwd() == str(tmp_path)
    env.close()
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_scenario_is_answered_with_close_ones_and_the_short_list():
    with pytest.raises(ValueError, match=r"Did you mean HealthGathering.*MyWayHome"):
        envs.make(VizdoomConfig(scenario="healthgatherin"))
    assert "TakeCover" in scenarios() and len(scenarios()) < 20


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "vizdoom.gymnasium_wrapper", None)
    with pytest.raises(ImportError, match="pip install vizdoom"):
        envs.make(VizdoomConfig())


@pytest.mark.parametrize("copied", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy])
def test_a_copy_that_is_closed_ends_its_engine_and_folder(copied):
    env = made()
    env.reset(seed=1)
    other = copied(env)
    other.reset(seed=1)
    game, folder = engine(other), other._folder
    assert game.is_running() and folder != env._folder
    other.close()
    assert not game.is_running() and not os.path.exists(folder)
    assert engine(env).is_running()
    env.close()


def test_a_copy_that_nobody_closes_ends_with_its_last_name():
    env = envs.make(VizdoomConfig())
    other = pickle.loads(pickle.dumps(env))
    other.reset(seed=1)
    game, folder = engine(other), other._folder
    del other
    gc.collect()
    assert not game.is_running() and not os.path.exists(folder)
    env.close()

"""What every environment promises, whichever engine draws it."""

import copy
import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete
from gymnasium.utils.env_checker import check_env

from worldmodel import envs
from worldmodel.envs.atari import AtariConfig
from worldmodel.envs.frames import area_resize, to_rgb
from worldmodel.envs.gymnasium_env import GenericConfig
from worldmodel.envs.maze import MazeConfig
from worldmodel.envs.vizdoom import VizdoomConfig
from worldmodel.io.config import from_mapping, to_dict

SIZE: dict[str, Any] = {"height": 24, "width": 40}  # not square, on purpose
HERE = [
    MazeConfig(**SIZE),
    MazeConfig(**SIZE, noise=8.0, layout_seed=None, goal_ends=False),
    VizdoomConfig(**SIZE),
    GenericConfig(**SIZE),
    AtariConfig(**SIZE),
]


@pytest.fixture(params=HERE, ids=lambda config: config.name)
def config(request):
    if request.param.name == "atari":
        pytest.importorskip("ale_py")
    if request.param.name == "gymnasium":
        pytest.importorskip("pygame")
    return request.param


def rendered(env: gymnasium.Env) -> np.ndarray:
    frame = env.render()
    assert isinstance(frame, np.ndarray)
    return frame


def test_gymnasiums_own_checker_finds_nothing_to_say(config):
    env = envs.make(config)
    check_env(env, skip_render_check=True)  # warnings are errors here
    env.close()


def test_frames_are_uint8_of_the_size_asked_for_and_render_gives_the_last_one(config):
    env = envs.make(config)
    first, _ = env.reset(seed=0)
    frame, *_ = env.step(env.action_space.sample())
    assert first.dtype == frame.dtype == np.uint8 and first.shape == frame.shape == (24, 40, 3)
    assert np.array_equal(rendered(env), frame)
    env.close()


def test_a_seed_determines_the_episode_whatever_was_played_before(config):
    env = envs.make(config)
    played = [play(env, seed) for seed in (3, 4, 3, 3)]
    env.close()
    fresh = envs.make(config)
    again = play(fresh, 3)
    fresh.close()
    assert played[0] == played[2] == played[3] == again != played[1]


@pytest.mark.parametrize("copied", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy])
@pytest.mark.parametrize("steps", [None, 0, 3])
def test_a_copy_plays_the_same_and_closes_what_is_its_own(config, copied, steps):
    env = envs.make(config)
    if steps is not None:
        play(env, 1, steps)
        assert np.array_equal(rendered(copied(env)), rendered(env))
    other = copied(env)
    assert play(other, 3) == play(env, 3)
    other.close()
    assert play(env, 4)  # the first one lives on
    env.close()


def test_closing_twice_or_before_the_first_reset_is_allowed(config):
    for seed in (None, 1):
        env = envs.make(config)
        if seed is not None:
            env.reset(seed=seed)
        env.close()
        env.close()


def test_a_closed_env_says_so(config):
    if config.name == "maze":
        pytest.skip("it holds nothing that closing would end")
    env = envs.make(config)
    env.reset(seed=0)
    env.close()
    for call in (lambda: env.reset(seed=0), lambda: env.step(0)):
        with pytest.raises(RuntimeError, match="this environment is closed: make another one"):
            call()


def test_a_step_before_the_first_reset_is_refused(config):
    env = envs.make(config)
    with pytest.raises((RuntimeError, gymnasium.error.ResetNeeded)):
        env.step(0)
    env.close()


def test_there_is_a_name_for_every_discrete_action_or_for_none(config):
    env = envs.make(config)
    names = env.get_wrapper_attr("action_names")
    assert isinstance(names, tuple) and len(set(names)) == len(names)
    assert isinstance(env.action_space, Discrete)
    assert len(names) == (0 if config.name == "gymnasium" else env.action_space.n)
    env.close()


@pytest.mark.parametrize("name", envs.SCHEMAS)
def test_the_config_of_every_environment_has_its_name_and_survives_a_mapping(name):
    config = envs.SCHEMAS[name]()
    assert config.name == name and from_mapping(envs.schema(name), to_dict(config)) == config


@pytest.mark.parametrize("schema", envs.SCHEMAS.values())
def test_a_frame_of_no_pixels_is_refused_by_the_name_of_the_setting(schema):
    with pytest.raises(ValueError, match="height: expected at least 1, got 0"):
        schema(height=0)


def test_an_unknown_environment_is_answered_with_the_close_one():
    with pytest.raises(ValueError, match="Did you mean vizdoom"):
        envs.schema("vizdom")
    with pytest.raises(TypeError, match="expected one of VizdoomConfig"):
        envs.make({"name": "maze"})


def test_a_smaller_frame_is_the_average_over_the_area_of_its_pixels():
    image = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    means = image.reshape(3, 4, 5, 4, 3).mean(axis=(1, 3))
    assert np.abs(area_resize(image, 3, 5) - means).max() <= 1.0  # rows and columns are rounded apart


def test_grey_frames_become_three_equal_channels_and_floats_are_refused():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert np.array_equal(to_rgb(grey), np.stack([grey] * 3, axis=-1))
    assert np.array_equal(to_rgb(grey[..., None]), to_rgb(grey))
    with pytest.raises(TypeError, match="expected uint8 pixels in 0…255, got float32"):
        to_rgb(grey.astype(np.float32))


def play(env, seed, steps=25):
    """Everything that an episode of `steps` random actions shows, as bytes."""
    frame, info = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    seen = [frame.tobytes()]
    for _ in range(steps):
        frame, reward, terminated, truncated, info = env.step(int(rng.integers(env.action_space.n)))
        seen.append((frame.tobytes(), reward, terminated, truncated, str(info.get("pose"))))
        if terminated or truncated:
            break
    return seen

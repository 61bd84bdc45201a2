"""Any Gymnasium id, and Atari: where frames come from, and which environments are refused."""

import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from worldmodel import envs
from worldmodel.envs.atari import AtariConfig
from worldmodel.envs.frames import area_resize, to_rgb
from worldmodel.envs.gymnasium_env import GenericConfig


class ImageEnv(gymnasium.Env):
    """Shows its step count as a grey level, in an observation space that the test chooses; ends after 5 steps."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, space, action_space=None, render_mode=None):
        self.observation_space, self.action_space = space, action_space or spaces.Discrete(2)
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None) -> tuple[Any, dict[str, Any]]:
        self.now = 0
        return self._show(self.observation_space), {}

    def step(self, action) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.now += 1
        return self._show(self.observation_space), 1.0, self.now == 5, False, {}

    def render(self):
        return np.full((8, 8, 3), 200, np.uint8)

    def _show(self, space):
        if isinstance(space, spaces.Dict):
            return {key: self._show(entry) for key, entry in space.items()}
        return np.full(space.shape, self.now, space.dtype)


GREY = spaces.Box(0, 255, (10, 12), np.uint8)
COLOUR = spaces.Box(0, 255, (10, 12, 3), np.uint8)
NUMBERS = spaces.Box(-1, 1, (4,), np.float32)
FLOATS = spaces.Box(0, 1, (10, 12, 3), np.float32)


def register(monkeypatch: pytest.MonkeyPatch, name: str, make: Any) -> None:
    """For one test."""
    monkeypatch.setitem(gymnasium.registry, name, EnvSpec(name, make))


@pytest.fixture
def image_env(monkeypatch):
    register(monkeypatch, "Image-v0", ImageEnv)

    def make(space, action_space=None, **settings):
        kwargs = {"space": space, "action_space": action_space}
        return envs.make(GenericConfig(id="Image-v0", kwargs=kwargs, height=4, width=6, **settings))

    return make


@pytest.mark.parametrize("space", [GREY, COLOUR, spaces.Dict(image=GREY, numbers=NUMBERS)])
def test_an_image_observation_is_the_frame(image_env, space):
    env = image_env(space)
    env.reset(seed=0)
    assert np.array_equal(env.step(0)[0], np.full((4, 6, 3), 1))


def test_what_is_rendered_is_the_frame_where_no_observation_is_an_image(image_env):
    for env in (image_env(NUMBERS), image_env(FLOATS), image_env(COLOUR, frames="render")):
        assert np.array_equal(env.reset(seed=0)[0], np.full((4, 6, 3), 200))


def test_the_key_chooses_among_several_images(image_env):
    two = spaces.Dict(left=COLOUR, right=GREY)
    assert image_env(two, key="right").reset(seed=0)[0].max() == 0
    with pytest.raises(ValueError, match=r"left, right; choose by env\.key"):
        image_env(two)
    with pytest.raises(ValueError, match="Did you mean right"):
        image_env(two, key="rigth")


def test_float_images_and_plain_numbers_are_refused_as_frames(image_env):
    with pytest.raises(TypeError, match="expected an image observation of uint8 in 0…255, got float32"):
        image_env(FLOATS, frames="observation")
    with pytest.raises(ValueError, match=r"set env\.frames=render"):
        image_env(NUMBERS, frames="observation")


def test_frame_skip_repeats_the_action_adds_rewards_and_stops_at_the_end(image_env):
    env = image_env(COLOUR, frame_skip=3)
    env.reset(seed=0)
    (first, *rest), (last, *end) = env.step(1), env.step(1)
    assert rest[:2] == [3.0, False] and end[:2] == [2.0, True]
    assert first.max() == 3 and last.max() == 5


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3), NUMBERS])
def test_action_spaces_are_passed_on_unchanged(image_env, space):
    assert image_env(COLOUR, space).action_space == space


def test_an_action_space_without_an_encoding_is_refused(image_env):
    with pytest.raises(TypeError, match="expected an action space of Discrete, MultiDiscrete, MultiBinary, Box"):
        image_env(COLOUR, spaces.Tuple([spaces.Discrete(2)]))


@pytest.mark.parametrize("name", ["Pendulum-v1", "CartPole-v1"])
def test_classic_control_is_seen_as_it_is_rendered(name):
    pytest.importorskip("pygame")
    env = envs.make(GenericConfig(id=name))
    first, _ = env.reset(seed=0)
    frame = first
    for _ in range(4):
        frame, *_ = env.step(env.action_space.sample())
    env.close()
    assert frame.shape == (64, 64, 3) and not np.array_equal(first, frame)
    assert isinstance(env.action_space, spaces.Box if name == "Pendulum-v1" else spaces.Discrete)


@pytest.mark.parametrize("wrong", ["CartPol-v1", "CartPole v1", "CartPole-v99", "json:CartPole-v99"])
def test_an_unknown_id_is_answered_with_close_ones(wrong):
    with pytest.raises(ValueError, match="Did you mean CartPole-v1"):
        envs.make(GenericConfig(id=wrong))


def test_an_environment_that_lacks_its_package_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "Box2D", None)
    monkeypatch.delitem(sys.modules, "gymnasium.envs.box2d.car_racing", raising=False)
    monkeypatch.delitem(sys.modules, "gymnasium.envs.box2d", raising=False)
    with pytest.raises(ImportError, match=r"CarRacing-v3: .*gymnasium\[box2d\]"):
        envs.make(GenericConfig(id="CarRacing-v3"))


def test_atari_actions_have_the_joysticks_names_and_unknown_games_get_close_ones():
    pytest.importorskip("ale_py")
    env = envs.make(AtariConfig())
    assert env.get_wrapper_attr("action_names") == ("noop", "fire", "right", "left", "rightfire", "leftfire")
    env.close()
    with pytest.raises(ValueError, match="Did you mean Breakout"):
        envs.make(AtariConfig(game="Braekout"))


def test_without_the_atari_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(ImportError, match=r"pip install worldmodel\[atari\]"):
        envs.make(AtariConfig())


# --- engines of strangers ---


class OddEnv(ImageEnv):
    """Raises when it is made, or returns what no environment may; `odd` says what."""

    def __init__(self, odd, space=COLOUR, render_mode=None):
        super().__init__(space, None, render_mode)
        self.odd = odd
        if isinstance(odd, BaseException):
            raise odd

    def reset(self, **options) -> Any:
        values = super().reset(**options)
        return values[0] if self.odd == "old reset" else values

    def step(self, action) -> Any:
        frame, reward, *rest = super().step(action)
        if self.odd == "old step":
            return frame, reward, True, {}
        return frame, self.odd if self.odd in (None, "1.5") else reward, *rest

    def render(self) -> Any:
        return None if self.odd == "no image" else super().render()


@pytest.fixture
def odd(monkeypatch):
    register(monkeypatch, "Odd-v0", OddEnv)
    return lambda odd, **settings: envs.make(GenericConfig(id="Odd-v0", kwargs={"odd": odd}, **settings))


@pytest.mark.parametrize(
    "error", [KeyError("x"), RuntimeError("no\ndisplay"), AssertionError(), ZeroDivisionError("z")]
)
def test_what_a_constructor_raises_is_one_value_error(odd, error):
    with pytest.raises(
        ValueError, match=rf"Odd-v0: making it raised {type(error).__name__}: .*; check env.kwargs"
    ) as it:
        odd(error)
    assert "\n" not in str(it.value)


def test_kwargs_that_the_constructor_does_not_take_are_named():
    with pytest.raises(ValueError, match=r"CartPole-v1: making it raised TypeError: .*nonsense.*; check env\.kwargs"):
        envs.make(GenericConfig(kwargs={"nonsense": 1}))


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(ImportError, match=r"no_such_module:X-v0: .*no_such_module.*PYTHONPATH"):
        envs.make(GenericConfig(id="no_such_module:X-v0"))


def test_what_an_old_api_returns_is_named(odd):
    with pytest.raises(TypeError, match=r"reset: expected to return \(observation, info\), got ndarray; .*old Gym"):
        odd("old reset").reset(seed=0)
    env = odd("old step")
    env.reset(seed=0)
    with pytest.raises(
        TypeError, match=r"step: expected to return \(observation, reward, .*\), got 4 values; .*old Gym"
    ):
        env.step(0)


@pytest.mark.parametrize("reward", [None, "1.5"])
def test_a_reward_that_is_no_number_is_not_made_one(odd, reward):
    env = odd(reward)
    env.reset(seed=0)
    assert env.step(0)[1] == reward  # who collects refuses it


def test_an_engine_that_renders_nothing_is_named(odd):
    env = odd("no image", frames="render")
    with pytest.raises(TypeError, match="frames: expected uint8 pixels in 0…255, got object"):
        env.reset(seed=0)


def test_entries_of_the_observation_that_no_frame_shows_are_listed(image_env):
    two = spaces.Dict(image=GREY, state=NUMBERS, other=COLOUR)
    assert image_env(two, key="image").unused_observations == ("state", "other")
    assert image_env(spaces.Dict(state=NUMBERS)).unused_observations == ("state",)
    assert image_env(COLOUR).unused_observations == () == image_env(NUMBERS).unused_observations
    assert image_env(spaces.Tuple((COLOUR, NUMBERS))).unused_observations == (
        "all of its Tuple, since frames are what it renders",
    )


def test_images_of_changing_size_become_frames_of_one_size():
    assert area_resize(to_rgb(np.zeros((9, 7), np.uint8)), 4, 6).shape == (4, 6, 3)
    with pytest.raises(ValueError, match="frames: expected shape"):
        to_rgb(np.zeros((0, 7, 3), np.uint8))

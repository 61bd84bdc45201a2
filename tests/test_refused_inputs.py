"""What dreams refuse: actions that are no plain numbers, settings of a wrong type, and names that name no world."""

import jaxtyping
import numpy as np
import pytest
from gymnasium import spaces

from tests.helpers_models import random_frames, small_world, space_world
from worldmodel.agents.sb3 import DreamVecEnv
from worldmodel.dream import DreamEnv, DreamVectorEnv
from worldmodel.prior import SamplerConfig


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    """A user's Python does not check annotations."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


SPACES = {
    "Discrete": (spaces.Discrete(4), [1]),
    "MultiDiscrete": (spaces.MultiDiscrete([3, 2]), [[1, 0]]),
    "MultiBinary": (spaces.MultiBinary(3), [[1, 0, 1]]),
    "Box": (spaces.Box(-1, 1, (2,)), [[0.5, -0.25]]),
}


def wrong_actions(kind: str):
    plain = np.asarray(SPACES[kind][1])
    yield "masked", np.ma.array(plain, mask=np.ones(plain.shape, bool))
    yield "complex", plain + 0j
    yield "text", plain.astype(str)
    if kind != "Discrete":  # one action out of such an array is a plain number
        yield "objects", plain.astype(object)
    yield "not a number", np.full(plain.shape, np.nan)
    if kind != "Box":
        yield "fractions", plain + 0.5


@pytest.mark.parametrize("kind", SPACES)
def test_actions_that_are_no_plain_numbers_of_the_space_are_refused_at_every_door(kind):
    space, plain = SPACES[kind]
    world = space_world(space)
    state, env, many = world.start_from_context(0), DreamEnv(world=world), DreamVectorEnv(1, world=world)
    env.reset(seed=0), many.reset(seed=0)
    world.step(state, plain), env.step(np.asarray(plain)[0]), many.step(np.asarray(plain))
    for name, actions in wrong_actions(kind):
        env.reset(seed=0), many.reset(seed=0)
        for door in (lambda a: world.step(state, a), lambda a: env.step(a[0]), many.step):
            with pytest.raises(ValueError, match="actions: expected"):
                pytest.fail(f"{name}: {door(actions)}")


def test_the_floats_that_stable_baselines3_draws_for_binary_actions_are_taken():
    world = space_world(SPACES["MultiBinary"][0])
    dreams, same = (DreamVecEnv(2, world=world) for _ in range(2))
    for env in (dreams, same):
        env.seed(3), env.reset()
    actions = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]], np.float32)
    for one, other in zip(dreams.step(actions)[:3], same.step(actions.astype(np.int8))[:3], strict=True):
        np.testing.assert_array_equal(one, other)


SETTINGS = [
    *(("horizon", value) for value in (np.nan, True, "5", -1, 2.5)),
    *(("max_episode_steps", value) for value in (0, -2, "3", True, 1.5)),
    *(("truncate_on_surprise", value) for value in ("x", np.nan, True, -1)),
    *(("sampler", value) for value in ("cached", 3, {"temprature": 1}, {"kind": "fused"}, {"top_k": 1.5})),
    ("tensors", "yes"),
]


@pytest.mark.parametrize(("name", "value"), SETTINGS)
def test_a_setting_of_a_wrong_type_or_size_is_refused_by_its_name(name, value):
    with pytest.raises((TypeError, ValueError), match=name):
        DreamVectorEnv(1, world=small_world(), **{name: value})


@pytest.mark.parametrize("count", [0, -1, 2.0, True, "2"])
def test_the_number_of_dreams_is_a_whole_number(count):
    with pytest.raises((TypeError, ValueError), match="num_envs: expected"):
        DreamVectorEnv(count, world=small_world())


@pytest.mark.parametrize(
    "options",
    [
        *([1], "x"),
        *({"frames": None}, {"start": "x"}, {"start": 1.5}, {"start": True}, {"start": [0, 1]}),
        *({"actions": [1]}, {"foo": 1}),
    ],
)
def test_options_that_say_nothing_are_refused_and_the_dream_goes_on(options):
    for env in (DreamVectorEnv(2, world=small_world()), DreamEnv(world=small_world())):
        env.reset(seed=0)
        with pytest.raises((TypeError, ValueError), match="options"):
            env.reset(options=options)
        env.step(env.action_space.sample())


@pytest.mark.parametrize("kind", ["warm", "fused", 3, None])
def test_a_sampler_of_an_unknown_kind_is_refused(kind):
    with pytest.raises(ValueError, match="kind: expected one of auto, compiled"):
        SamplerConfig(kind)


@pytest.mark.parametrize("name", ["", "  ", None, b"maze", 5])
def test_a_world_without_a_name_is_refused_in_one_word(name):
    with pytest.raises((TypeError, ValueError), match="world: expected a folder, a name or an address"):
        DreamEnv(world=name)


def test_numbers_of_dreams_are_copied_when_they_are_given():
    world, numbers = small_world(), [4, 5]
    state = world.start(random_frames(2, 3), [[0, 1], [2, 3]], dreams=numbers)
    numbers[:] = [0, 0]
    assert state.dreams.tolist() == [4, 5]


@pytest.mark.parametrize("indices", [True, [True, False, True], np.array([True, False, False])])
def test_booleans_are_no_indices_of_dreams(indices):
    with pytest.raises(ValueError, match="indices: expected numbers of dreams, got booleans"):
        DreamVecEnv(3, world=small_world()).get_attr("spec", indices)


def test_indices_are_those_of_a_list():
    dreams = DreamVecEnv(3, world=small_world())
    places = [env.place for env in dreams.envs]
    for indices, expected in ((None, places), (-1, [2]), (np.int64(1), [1]), ([0, 0, 2], [0, 0, 2]), ([], [])):
        assert dreams.get_attr("place", indices) == expected
    for wrong in (3, [-4], [0, 3]):
        with pytest.raises(IndexError):
            dreams.get_attr("place", wrong)

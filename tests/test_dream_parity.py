"""Laws of the faces of the dream: `DreamVectorEnv` answers as Gymnasium's `SyncVectorEnv` of single dreams does, and
`DreamVecEnv` as Stable-Baselines3's `DummyVecEnv` of single dreams, for every action space, mode, attribute, option."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as vector_wrappers
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecMonitor, VecNormalize
from torchrl.envs import GymWrapper
from torchrl.envs.utils import check_env_specs

import worldmodel  # noqa: F401  (registers the dream)
from tests.helpers_models import random_frames, small_world, space_world
from tests.test_dream import assert_same_step, endless_world
from worldmodel.agents.sb3 import DreamVecEnv
from worldmodel.dream import DreamEnv, DreamVectorEnv
from worldmodel.prior import SamplerConfig

ID = "worldmodel/Dream-v0"
SPACES = {
    "discrete": Discrete(3, start=1),
    "several": MultiDiscrete([2, 3], start=[1, -2]),
    "binary": MultiBinary([2, 2]),
    "integers": Box(-2, 3, (2,), np.int32),
    "bounded": Box(np.array([-2, 0], np.float32), np.array([2, 0.5], np.float32)),
    "half": Box(0, np.inf, (1,), np.float64),
    "unbounded": Box(-np.inf, np.inf, (2,), np.float32),
}
OBSERVATIONS = ["frames", "tokens", "latent"]
N = 3


def single_dreams(**settings: Any) -> DummyVecEnv:
    return DummyVecEnv([lambda: DreamEnv(**settings)] * N)


def both(**settings: Any) -> tuple[DreamVecEnv, DummyVecEnv]:
    return DreamVecEnv(N, **settings), single_dreams(**settings)


def some_actions(env: VecEnv, count: int) -> list[np.ndarray]:
    env.action_space.seed(3)
    return [np.stack([env.action_space.sample() for _ in range(env.num_envs)]) for _ in range(count)]


def equal(one: Any, two: Any) -> bool:
    """To the last bit, types included; tensors as well."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[name], two[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(equal, one, two))
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and torch.equal(one, two)
    return data_equivalence(one, two, exact=True)


def lives(env: VecEnv, actions: list[np.ndarray]) -> list[Any]:
    """All that a seeded reset and these actions give; infos of autoresets among it."""
    env.seed(7)
    found: list[Any] = [env.reset(), list(env.reset_infos)]
    for each in actions:
        found += [env.step(each), list(env.reset_infos)]
    return found


# --- Gymnasium


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", SPACES)
def test_many_dreams_do_what_gymnasium_makes_of_single_ones_in_any_space(name, stride, mode):
    obs = OBSERVATIONS[(len(name) + stride) % 3]
    settings = {
        "world": space_world(SPACES[name], stride),
        "obs": obs,
        "starts": "anywhere",
        "render_mode": "rgb_array",
    }
    ours = DreamVectorEnv(N, autoreset_mode=mode, **settings)
    theirs = SyncVectorEnv([lambda: DreamEnv(**settings)] * N, autoreset_mode=mode)
    for what in ("observation_space", "action_space", "single_action_space", "metadata", "render_mode", "num_envs"):
        assert getattr(ours, what) == getattr(theirs, what), what
    assert_same_step(ours.reset(seed=7), theirs.reset(seed=7))
    ours.action_space.seed(1)
    for _ in range(7):
        actions = ours.action_space.sample()
        one, two = ours.step(actions), theirs.step(actions)
        assert_same_step(one, two)
        if mode == AutoresetMode.DISABLED and (over := one[2] | one[3]).any():
            assert_same_step(*(env.reset(options={"reset_mask": over}) for env in (ours, theirs)))
        assert equal(ours.render(), theirs.render())
        assert ours.np_random_seed == theirs.np_random_seed


@pytest.mark.filterwarnings("ignore:.*Box observation space m(in|ax)imum value is -?infinity:UserWarning")  # latents
@pytest.mark.filterwarnings("ignore:.*action space.*(infinity|symmetric):UserWarning")  # these are not ours to choose
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", SPACES)
def test_gymnasium_finds_nothing_wrong_with_any_space(name, stride):
    obs = OBSERVATIONS[(len(name) + stride) % 3]
    check_env(gymnasium.make(ID, world=space_world(SPACES[name], stride), obs=obs, render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize("stride", [1, 2])
def test_seeds_are_those_of_single_dreams_and_generators_can_be_set(stride):
    world = small_world(stride)
    ours, theirs = DreamVectorEnv(N, world=world), SyncVectorEnv([lambda: DreamEnv(world=world)] * N)
    assert len(set(ours.np_random_seed)) == N  # drawn, and known
    seeds: list[int | list[int | None]] = [42, [5, 9, 42]]
    for seed in seeds:
        ours.reset(seed=seed), theirs.reset(seed=seed)
        assert ours.np_random_seed == theirs.np_random_seed
    moment = ours.snapshot()
    ours.np_random = [np.random.default_rng(i) for i in range(N)]
    for i, env in enumerate(theirs.envs):
        env.np_random = np.random.default_rng(i)
    assert ours.np_random_seed == theirs.np_random_seed == (-1,) * N
    assert_same_step(ours.reset(), theirs.reset())
    ours.restore(moment)
    assert ours.np_random_seed == (5, 9, 42)
    ours.restore(moment, seed=6)
    assert ours.np_random_seed == (6, 7, 8)


def test_one_generator_that_is_set_makes_those_of_all_dreams_and_a_wrong_number_is_refused():
    env, found = DreamVectorEnv(N, world=small_world()), []
    for _ in range(2):
        env.np_random = np.random.default_rng(3)
        found.append(env.reset()[0])
    assert np.array_equal(*found) and env.np_random_seed == (-1,) * N
    with pytest.raises(ValueError, match="expected 3 generators, got 2"):
        env.np_random = [np.random.default_rng(i) for i in range(2)]


@pytest.mark.parametrize("seed", [np.array([4, 9, 2]), (4, 9, 2), np.int64(4)])
def test_seeds_may_be_arrays(seed):
    env = DreamVectorEnv(N, world=small_world())
    expected = env.reset(seed=[4, 5, 6] if np.ndim(seed) == 0 else [4, 9, 2])[0]
    assert np.array_equal(env.reset(seed=seed)[0], expected)


@pytest.mark.parametrize("make", [DreamEnv, DreamVectorEnv, lambda **settings: DreamVecEnv(2, **settings)])
def test_an_unknown_render_mode_is_refused_without_gymnasiums_make_too(make):
    for mode in ("human", "ansi", "rgb"):
        with pytest.raises(ValueError, match="render_mode: expected None or rgb_array"):
            make(world=small_world(), render_mode=mode)


def test_a_finished_single_dream_asks_for_its_own_reset_and_many_for_a_mask():
    world = small_world(longest=1)
    single, many = DreamEnv(world=world), DreamVectorEnv(2, world=world, autoreset_mode="Disabled")
    vec = DreamVecEnv(2, world=world)
    single.reset(seed=0), many.reset(seed=0), vec.reset()
    single.step(0), many.step([0, 0]), vec.env_method("step", 0, indices=1)
    for step, words in ((lambda: single.step(0), r"call reset\(\)"), (lambda: many.step([0, 0]), "reset_mask")):
        with pytest.raises(ResetNeeded, match=words) as found:
            step()
        assert (words == "reset_mask") == ("reset_mask" in str(found.value))
    with pytest.raises(ResetNeeded, match=r"dreams \[1\] are over"):  # stepped to its end by hand
        vec.step(np.zeros(2, int))


def test_a_spec_goes_to_json_and_back_and_makes_the_same_dream(tmp_path):
    small_world().save(tmp_path / "world")
    settings: dict[str, Any] = {"world": tmp_path / "world", "obs": "tokens"}
    env = gymnasium.make(ID, **settings)
    assert env.spec is not None
    again = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
    assert np.array_equal(env.reset(seed=1)[0], again.reset(seed=1)[0])
    how = {"sampler": SamplerConfig(temperature=0.5), "autoreset_mode": AutoresetMode.SAME_STEP}
    many = gymnasium.make_vec(ID, num_envs=2, vectorization_mode="vector_entry_point", **settings, **how)
    assert many.spec is not None
    other = gymnasium.make_vec(EnvSpec.from_json(many.spec.to_json()))
    assert other.metadata == many.metadata and other.num_envs == 2
    for each in (many, other):
        each.reset(seed=3)
    assert_same_step(many.step([1, 2]), other.step([1, 2]))


def test_wrappers_of_many_dreams_give_what_they_give_of_single_ones():
    settings: dict[str, Any] = {"world": space_world(SPACES["bounded"])}
    found = []
    for env in (DreamVectorEnv(N, **settings), SyncVectorEnv([lambda: DreamEnv(**settings)] * N)):
        wrapped = vector_wrappers.RecordEpisodeStatistics(vector_wrappers.NormalizeReward(env))
        wrapped.action_space.seed(0)
        steps = [wrapped.reset(seed=2)[0]]
        for _ in range(12):
            *step, infos = wrapped.step(wrapped.action_space.sample())
            steps.append([*step, {k: infos["episode"][k] for k in "rl"} if "episode" in infos else {}])
        found.append(steps)
    assert equal(*found)


# --- TorchRL


@pytest.mark.parametrize("tensors", [False, True])
@pytest.mark.parametrize("name", ["integers", "bounded", "unbounded", "choices", "several"])
def test_torchrl_finds_its_specs_true_of_arrays_and_of_tensors(name, tensors):
    # Not of "half": TorchRL draws infinity from a Box with one bound, which is refused.
    space = {**SPACES, "choices": Discrete(3), "several": MultiDiscrete([2, 3])}[name]  # TorchRL passes over a start
    check_env_specs(GymWrapper(DreamEnv(world=space_world(space), tensors=tensors)))


@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
def test_torchrl_finds_its_specs_true_of_many_dreams_as_tensors(mode):
    env = DreamVectorEnv(2, world=small_world(), tensors=True, autoreset_mode=mode)
    check_env_specs(GymWrapper(env))


def test_numbers_of_tensors_are_single_precision():
    env, alone = DreamVectorEnv(2, world=small_world(), tensors=True), DreamEnv(world=small_world(), tensors=True)
    env.reset(seed=0), alone.reset(seed=0)
    for _, reward, *_, infos in (env.step([0, 1]), alone.step(0)):
        assert {x.dtype for x in (reward, infos["surprise"], infos["end_probability"])} == {torch.float32}


# --- Stable-Baselines3


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", SPACES)
def test_many_dreams_do_what_stable_baselines3_makes_of_single_ones_in_any_space(name, stride):
    obs = OBSERVATIONS[(len(name) + stride) % 3]
    ours, theirs = both(world=space_world(SPACES[name], stride), obs=obs, starts="anywhere", render_mode="rgb_array")
    actions = some_actions(ours, 7)
    assert equal(lives(ours, actions), lives(theirs, actions))
    assert equal(list(ours.get_images()), theirs.get_images()) and equal(ours.render(), theirs.render())


@pytest.mark.parametrize("wrap", [VecMonitor, VecNormalize, lambda env: VecFrameStack(env, 2)])
def test_wrapped_dreams_do_what_wrapped_single_ones_do(wrap):
    ours, theirs = (wrap(env) for env in both(world=space_world(Discrete(4), longest=3)))
    actions = some_actions(ours, 8)
    one, two = lives(ours, actions), lives(theirs, actions)
    for step in (step for record in (one, two) for step in record if isinstance(step, tuple)):
        for info in step[3]:
            info.get("episode", {}).pop("t", None)  # seconds
    assert equal(one, two)


def test_as_tensors_they_do_what_single_ones_do():
    ours, theirs = both(world=space_world(Discrete(4)), tensors=True)
    actions = some_actions(ours, 8)
    one, two = lives(ours, actions), lives(theirs, actions)
    for record in (one, two):
        for info in (info for step in record if isinstance(step, tuple) for info in step[3]):
            info["TimeLimit.truncated"] = bool(info["TimeLimit.truncated"])  # theirs may be a tensor
    assert equal(one, two) and isinstance(one[0], np.ndarray)


ATTRIBUTES = ["observation_space", "action_space", "render_mode", "metadata", "action_names", "np_random_seed", "spec"]


@pytest.mark.parametrize("indices", [None, 1, [0, 2], np.array([2, 0])])
def test_attributes_are_those_of_single_dreams(indices):
    ours, theirs = both(world=small_world(), render_mode="rgb_array")
    for env in (ours, theirs):
        env.seed(2), env.reset()
    for name in ATTRIBUTES:
        assert ours.get_attr(name, indices) == theirs.get_attr(name, indices), name
    for env in (ours, theirs):
        env.set_attr("mark", "here", indices)
    marked = [[getattr(each, "mark", None) for each in env.envs] for env in (ours, theirs)]
    assert marked[0] == marked[1] and "here" in marked[0]
    assert (ours.metadata, ours.render_mode) == (theirs.metadata, theirs.render_mode)
    assert ours.metadata["render_fps"] == 15 and not ours.has_attr("nothing")


@pytest.mark.parametrize("indices", [None, 1, [0, 2], [1]])
@pytest.mark.parametrize("method", ["reset", "step", "render", "snapshot"])
def test_methods_are_called_for_the_chosen_dreams_alone(method, indices):
    ours, theirs = both(world=endless_world(longest=6), render_mode="rgb_array")
    actions = some_actions(ours, 4)
    for env in (ours, theirs):
        env.seed(3), env.reset(), env.step(actions[0])
    arguments = {"step": {"action": 2}, "reset": {"seed": 8}}.get(method, {})
    one, two = (env.env_method(method, indices=indices, **arguments) for env in (ours, theirs))
    if method == "snapshot":
        one, two = ([each.state.tokens for each in found] for found in (one, two))
    assert equal(one, two)
    for each in actions[1:]:  # and the others go on as if nothing had been
        assert equal(ours.step(each), theirs.step(each))


def test_single_dreams_among_many_are_branched_alone():
    ours, theirs = both(world=small_world(longest=9))
    actions = some_actions(ours, 5)
    moments = []
    for env in (ours, theirs):
        env.seed(3), env.reset(), env.step(actions[0])
        moments.append(env.env_method("snapshot", indices=1)[0])
    assert equal(ours.step(actions[1]), theirs.step(actions[1]))
    for env, moment in zip((ours, theirs), moments, strict=True):
        env.env_method("restore", moment, seed=5, indices=1)
    for each in actions[2:]:
        assert equal(ours.step(each), theirs.step(each))


def test_what_all_dreams_share_is_set_for_all_or_refused():
    env = DreamVecEnv(N, world=small_world(longest=9))
    env.reset()
    for indices in (1, [0, 2], np.array([1])):
        with pytest.raises(ValueError, match="all dreams share limit"):
            env.set_attr("limit", 1, indices=indices)
    assert env.get_attr("limit", 1) == [9]
    env.set_attr("limit", 1, indices=[0, 1, 2])
    assert env.step(np.zeros(N, int))[2].all()


def options_of(stride: int) -> dict[str, list[dict[str, Any]]]:
    frames = random_frames(N, 1 + 2 * stride).numpy()
    actions = np.random.default_rng(0).integers(0, 4, (N, 2 * stride))
    whole = [{"frames": frames[i], "actions": actions[i]} for i in range(N)]
    return {
        "equal": [{"frames": frames[0], "actions": actions[0]} for _ in range(N)],
        "others": whole,
        "lists": [{"frames": each["frames"], "actions": each["actions"].tolist()} for each in whole],
        "starts": [{"start": 3}, {"start": np.int64(1)}, {"start": np.array(0)}],
        "mixed": [{}, {"frames": frames[1, :1]}, {"start": 2}],
        "none": [{}] * N,
    }


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", list(options_of(1)))
def test_options_are_for_the_next_reset_of_each_dream_and_hold_arrays(name, stride):
    ours, theirs = both(world=small_world(stride))
    actions = some_actions(ours, 3)
    for env in (ours, theirs):
        env.set_options(options_of(stride)[name])
    assert equal(lives(ours, actions), lives(theirs, actions))
    assert equal(lives(ours, actions), lives(theirs, actions))  # used once


def test_one_dict_of_options_is_for_each_dream():
    ours, theirs = both(world=small_world(), obs="tokens")
    frames = random_frames(1, 3)[0]
    for env in (ours, theirs):
        env.set_options({"frames": frames, "actions": np.array([1, 2])})
    assert equal(lives(ours, []), lives(theirs, []))


@pytest.mark.parametrize("start", [1.5, "1", [0, 1]])
def test_a_start_that_is_no_whole_number_is_refused(start):
    for env in (DreamEnv(world=small_world()), DreamVectorEnv(2, world=small_world())):
        with pytest.raises(ValueError, match="start: expected a whole number"):
            env.reset(options={"start": start})


def test_the_mode_of_a_vec_env_and_of_a_single_dream_is_fixed_and_another_is_refused():
    world = small_world()
    assert DreamVecEnv(2, world=world, autoreset_mode="SameStep").num_envs == 2
    DreamEnv(world=world, autoreset_mode="Disabled").reset(seed=0)
    for mode in ("NextStep", "Disabled"):
        with pytest.raises(ValueError, match=f"expects SameStep, got {mode}"):
            DreamVecEnv(2, world=world, autoreset_mode=mode)
    for mode in ("NextStep", AutoresetMode.SAME_STEP):
        with pytest.raises(ValueError, match="a single dream is reset by its user"):
            DreamEnv(world=world, autoreset_mode=mode)


def test_images_without_a_render_mode_are_none_with_a_warning():
    for env in both(world=small_world()):
        env.reset()
        with pytest.warns(UserWarning, match="rgb_array"):
            assert list(env.get_images()) == [None] * N

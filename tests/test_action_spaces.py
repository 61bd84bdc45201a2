"""Agents in every action space: what Stable-Baselines3 makes is an action of the environment, in dreams and in reality,
before and after the agent is saved; what cannot be done is refused before any training."""

import json
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from tests.helpers_models import space_world
from tests.helpers_scripts import run
from tests.test_scripts import TINY
from worldmodel import envs
from worldmodel.agents.encoded_env import EncodedEnv
from worldmodel.agents.planner import Planner, PlannerConfig
from worldmodel.agents.sb3 import DreamVecEnv, PolicyAgent, PolicyConfig, PPOConfig, make_ppo, ppo_agent
from worldmodel.agents.sb3_actions import ActionAdapter
from worldmodel.data.clips.split import train_validation_split
from worldmodel.data.episodes.episode import Episode
from worldmodel.data.episodes.store import DatasetInfo, EpisodeStore
from worldmodel.dream import action_space
from worldmodel.evaluate.agents import dream_returns, returns
from worldmodel.io.config import from_mapping
from worldmodel.nn.action_scale import Scale
from worldmodel.nn.actions import space_to_json
from worldmodel.world import WorldModel

NONE = Box(-np.inf, np.inf, (2,), np.float32)
SPACES: dict[str, tuple[Any, Scale | None]] = {
    "choices": (Discrete(3, start=1), None),
    "small": (Discrete(4, start=-2, dtype=np.int32), None),
    "several": (MultiDiscrete([2, 3], start=[1, -2]), None),
    "table": (MultiDiscrete(np.array([[2, 3], [4, 2]]), start=np.array([[1, 0], [0, 5]])), None),
    "binary": (MultiBinary(3), None),
    "binary table": (MultiBinary([2, 2]), None),
    "integers": (Box(np.array([-512, -1], np.int32), np.array([512, 1], np.int32), dtype=np.int32), None),
    "bytes": (Box(0, 255, (2, 2), np.uint8), None),
    "numbers": (Box(-2, 2, (2,), np.float32), None),
    "wide": (Box(np.array([0.1, -1]), np.array([0.7, 1e5]), dtype=np.float64), None),
    "unbounded": (NONE, ((3.0, 0.5), (-2e6, 1e6))),
    "half": (Box(0, np.inf, (2,), np.float64), ((3.0, 2.0), (100.0, 10.0))),
    "sham": (Box(-(2**62), 2**62, (1,), np.int64), ((3.0, 2.0),)),
}
TINY_PPO = PPOConfig(envs=2, n_steps=16, batch_size=16, n_epochs=1, policy=PolicyConfig("latent", channels=4, units=8))


def world_of(name: str, stride: int = 1) -> WorldModel:
    """A small world of these actions, and of an environment that takes no others."""
    space, scale = SPACES[name]
    world = space_world(space, stride, action_scale=scale)
    kwargs = {"space": space_to_json(space)}
    world.info.env = {"name": "gymnasium", "id": "tests.helpers_env:Spaced-v0", "height": 16, "width": 24}
    world.info.env["kwargs"] = kwargs
    return world


def real_env(world: WorldModel) -> gymnasium.Env:
    return envs.make(from_mapping(envs.schema("gymnasium"), world.info.env, "env"))


@pytest.mark.parametrize("name", SPACES)
def test_what_is_made_of_samples_and_of_the_edges_is_in_the_space_and_reaches_all_of_it(name):
    space, scale = SPACES[name]
    acting = ActionAdapter(space, scale)
    acting.agent_space.seed(0)
    samples = np.stack([acting.agent_space.sample() for _ in range(2000)])
    if isinstance(acting.agent_space, Box):
        samples[0], samples[1] = acting.agent_space.low, acting.agent_space.high
    actions = acting.to_env(samples)
    assert all(space.contains(action) for action in actions)
    reached = acting.space
    if isinstance(space, Box):
        assert isinstance(reached, Box)
        np.testing.assert_allclose([actions.min(0), actions.max(0)], [reached.low, reached.high], rtol=1e-6)
    else:
        assert len(np.unique(actions.reshape(len(actions), -1), axis=0)) == len(
            np.unique(samples.reshape(len(samples), -1), axis=0)
        )


def test_each_of_several_integers_has_an_equal_share():
    actions = ActionAdapter(Box(-1, 1, (1,), np.int32)).to_env(np.linspace(-1, 1, 3000)[:, None])
    assert np.bincount(actions[:, 0] + 1).tolist() == [1000] * 3


CHUNKS = [(name, 2) for name in ("choices", "table", "binary table", "half")]


@pytest.mark.parametrize(("name", "stride"), [*((name, 1) for name in SPACES), *CHUNKS])
def test_agents_learn_in_dreams_and_in_reality_and_act_the_same_once_saved(name, stride, tmp_path):
    world = world_of(name, stride)
    encoded = lambda: EncodedEnv(real_env(world), world, "latent")  # noqa: E731
    where: list[VecEnv] = [DreamVecEnv(2, world=world, obs="latent"), DummyVecEnv([encoded] * 2)]
    models = [make_ppo(env, TINY_PPO, 0, scale=world.info.action_scale) for env in where]
    for model in models:
        model.learn(32)  # the environment refuses what is not of its space
    agent = ppo_agent(models[-1], world, TINY_PPO.policy)
    agent.save(tmp_path)
    seen = np.stack([world.tokenizer.embed(world.start_from_context(i).tokens)[0].numpy() for i in range(5)])
    both = [each.act(seen, np.random.default_rng(0)) for each in (agent, PolicyAgent.load(tmp_path))]
    np.testing.assert_array_equal(both[0], both[1])
    assert all(action_space(world).contains(action) for action in both[0])
    playing = partial(returns, partial(real_env, world), episodes=1, seed=0)
    assert playing(agent).shape == (1,) and dream_returns(agent, world, 2, seed=0).shape == (2,)
    planner = Planner(world, PlannerConfig(candidates=2, horizon=2, iterations=1, elites=1))
    assert playing(planner).shape == (1,)


@pytest.mark.parametrize("name", ["unbounded", "half"])
def test_a_box_without_bounds_is_refused_where_nothing_says_how_large_it_is(name):
    space, _ = SPACES[name]
    world = space_world(space)
    with pytest.raises(ValueError, match=r"has no bounds.*train its prior again"):
        make_ppo(DreamVecEnv(2, world=world, obs="latent"), TINY_PPO, 0)


def test_a_saved_agent_whose_scale_or_weights_are_no_numbers_is_refused(tmp_path):
    world = world_of("unbounded")
    model = make_ppo(DreamVecEnv(2, world=world, obs="latent"), TINY_PPO, 0, scale=world.info.action_scale)
    agent = ppo_agent(model, world, TINY_PPO.policy)
    for scale in ([[0.0, 0.0], None], [[0.0]], "no", [[0.0, 1.0]] * 3):
        agent.save(tmp_path)
        about = json.loads((tmp_path / "config.json").read_text())
        about["config"]["action_scale"] = scale
        del about["sha256"]
        (tmp_path / "config.json").write_text(json.dumps(about))
        with pytest.raises(ValueError, match=str(tmp_path)):
            PolicyAgent.load(tmp_path)
    next(agent.policy.parameters()).data.fill_(np.nan)
    agent.save(tmp_path)
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        PolicyAgent.load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"envs": 0}, "envs"), ({"batch_size": 1}, "batch_size"), ({"envs": 1, "n_steps": 1}, "n_steps")],
)
def test_settings_that_ppo_cannot_take_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        PPOConfig(**settings)


# --- the scripts


@pytest.mark.slow
def test_agents_are_trained_and_measured_in_a_space_that_stable_baselines3_reads_otherwise(tmp_path):
    world_of("integers").save(tmp_path / "world")
    settings = [*TINY["train_agent"], "ppo.policy.obs=frames", "max_steps=4"]
    assert "mean real return" in run("train_agent", *settings, folder=tmp_path)
    run("evaluate_agent", *TINY["evaluate_agent"], "rank=null", folder=tmp_path)


@pytest.mark.slow
def test_what_cannot_be_trained_is_refused_in_one_line_before_anything_is_written(tmp_path):
    worlds = {"unbounded": space_world(NONE), "other": space_world(Discrete(4))}
    for world in worlds.values():
        world.info.env = world_of("choices").info.env  # for one of them, of other actions
    for name, message in (("unbounded", "has no bounds"), ("other", "expected actions Discrete(4)")):
        worlds[name].save(tmp_path / name / "world")
        printed = run("train_agent", *TINY["train_agent"], folder=tmp_path / name, ok=False)
        assert message in printed and "Traceback" not in printed and not (tmp_path / name / "agent").exists()


@pytest.mark.slow
def test_a_world_of_actions_without_bounds_is_trained_by_their_size_and_dreamed_and_measured(tmp_path):
    space = Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (2,), np.float32)
    store = EpisodeStore.create(tmp_path / "episodes", DatasetInfo(space, (16, 24, 3), seed=0))
    rng = np.random.default_rng(0)
    for index in range(4):
        frames = rng.integers(0, 256, (25, 16, 24, 3), dtype=np.uint8)
        actions = rng.normal((3, -2e6), (0.5, 1e6), (24, 2)).astype(np.float32)
        store.write(Episode(frames, actions, np.zeros(24, np.float32), False, True, seed=index, index=index))
    for script in ("train_tokenizer", "train_prior"):
        run(script, *TINY[script], folder=tmp_path)
    world = WorldModel.load(tmp_path / "world")
    seen = np.concatenate([store.actions(index) for index in train_validation_split(store)[0]]).astype(float)
    assert world.info.action_scale is not None and world.starts is not None
    for scale, values in zip(world.info.action_scale, seen.T, strict=True):
        assert scale == (pytest.approx(values.mean()), pytest.approx(values.std()))
    assert world.starts.actions.abs().max() < 5
    run("evaluate", *TINY["evaluate"], folder=tmp_path)
    run("rollout", "actions=random", *TINY["rollout"], folder=tmp_path)

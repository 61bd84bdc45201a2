"""Laws of planners, of agents on disk and in collection, and of the figures that compare agents."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from tests.helpers_env import CounterEnv, counter_info
from tests.helpers_models import small_tokenizer, small_world
from tests.helpers_scripts import module
from tests.torture.bombs import safetensors, sparse
from worldmodel.agents import RandomAgent
from worldmodel.agents.planner import Planner, PlannerConfig, proposal
from worldmodel.agents.sb3 import PolicyAgent, PolicyConfig, empty_policy
from worldmodel.data.collect.collect import collect
from worldmodel.data.episodes.repair import find_damaged
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.envs.maze import MazeConfig, MazeEnv
from worldmodel.evaluate.agents import dream_returns, ranking, returns, spearman
from worldmodel.evaluate.statistics.nested import nested_bootstrap
from worldmodel.io import tensors_file

SPACES = [
    Discrete(4, start=2),
    MultiDiscrete([2, 3], start=[1, 0]),
    MultiBinary(3),
    Box(-2, np.array([0.0, 5.0]), dtype=np.float64),
    Box(-np.inf, np.inf, (2,), np.float32),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_proposal_stays_in_its_space_and_closes_in_on_the_best(space):
    known, rng = proposal(space, 5), np.random.default_rng(0)
    first = known.sample(rng, 64)
    assert all(space.contains(action) for action in [*first.reshape(-1, *space.shape)[:40], *known.mode()])
    best = np.repeat(first[:1], 8, axis=0)
    known.fit(best)
    np.testing.assert_allclose(known.mode(), first[0])
    near = np.abs(known.sample(rng, 64).astype(float) - first[0]).mean()
    assert near < 0.5 * np.abs(first.astype(float) - first[0]).mean()
    known.shift(2)
    np.testing.assert_allclose(known.mode()[:3], first[0, 2:])


def test_a_proposal_for_another_space_is_refused():
    with pytest.raises(TypeError, match="expected Discrete"):
        proposal(Dict({"a": Discrete(2)}), 3)


class Paying(Planner):
    """A planner in a world that pays for one action, so that the best plan is known."""

    def values(self, state, sequences, dream):
        return (sequences == 2).sum(1).astype(float)


@pytest.mark.parametrize("kind", ["cem", "shooting"])
def test_a_planner_finds_the_action_that_pays(kind):
    planner = Paying(small_world(), PlannerConfig(kind, candidates=256, horizon=3, iterations=4))
    state = planner.world.start_from_context(0)
    assert planner.plan(state, np.random.default_rng(0)).tolist() == [2]


def test_values_are_the_discounted_rewards_of_the_dream_itself():
    world = small_world()
    planner = Planner(world, PlannerConfig(candidates=2, elites=1, discount=0.9))
    sequences, state = np.array([[0, 1, 2], [3, 3, 3]]), world.start_from_context(2)
    values = planner.values(state, sequences, dream=11)
    for sequence, value in zip(sequences, values, strict=True):
        alone, total, going = replace(state, dreams=torch.tensor([11])), 0.0, 1.0
        for action in sequence:
            alone, step = world.step(alone, [action])
            assert step.outcome is not None
            total += going * float(step.outcome.expected)
            going *= 0.9 * (1 - float(step.outcome.end))
        assert value == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_planner_plays_episodes_from_frames_and_the_same_chance_gives_the_same_actions(stride):
    world = small_world(time_stride=stride)
    planner = Planner(world, PlannerConfig(candidates=4, horizon=2, iterations=1, elites=2))
    frames = torch.randint(0, 256, (21, 16, 24, 3), dtype=torch.uint8).numpy()
    one, again = (planner.episode(np.random.default_rng(5)) for _ in range(2))
    actions = [one(frame) for frame in frames]
    assert actions == [again(frame) for frame in frames]
    space = world.info.action_space
    assert space is not None and all(space.contains(np.int64(action)) for action in actions)


def test_a_planner_without_rewards_or_actions_says_so():
    with pytest.raises(ValueError, match="has no rewards"):
        Planner(small_world(rewards=()))
    with pytest.raises(ValueError, match="no actions"):
        Planner(small_world(actions=0))
    with pytest.raises(ValueError, match="elites: expected 1 to"):
        PlannerConfig(candidates=2, elites=3)


def agent_of(obs: Literal["latent", "frames"] = "latent") -> PolicyAgent:
    tokenizer, config, space = small_tokenizer(frame=(40, 48, 3)), PolicyConfig(obs, 8, 16), Discrete(7)
    torch.manual_seed(0)
    return PolicyAgent(empty_policy(tokenizer, space, config), tokenizer, space, config)


@pytest.mark.parametrize("obs", ["latent", "frames"])
def test_a_saved_agent_acts_as_before(tmp_path, obs):
    agent = agent_of(obs)
    agent.save(tmp_path)
    make = lambda: MazeEnv(MazeConfig(height=40, width=48, max_steps=12))  # noqa: E731
    before, after = (returns(make, each, 2, seed=3) for each in (agent, PolicyAgent.load(tmp_path)))
    np.testing.assert_array_equal(before, after)
    one, two = (each.episode(np.random.default_rng(0)) for each in (agent, PolicyAgent.load(tmp_path)))
    frames = np.random.default_rng(0).integers(0, 256, (9, 40, 48, 3), dtype=np.uint8)
    assert [int(one(frame)) for frame in frames] == [int(two(frame)) for frame in frames]


@pytest.mark.parametrize("frame", [(8, 8), (16, 80), (32, 64), (32, 32), (36, 36), (64, 64), (72, 8)])
def test_a_policy_for_frames_fits_every_size_that_worlds_have(frame, tmp_path):
    tokenizer, config = small_tokenizer(4, frame=(*frame, 3)), PolicyConfig("frames", 4, 8)
    agent = PolicyAgent(empty_policy(tokenizer, Discrete(3), config), tokenizer, Discrete(3), config)
    agent.save(tmp_path)
    frames = np.random.default_rng(0).integers(0, 256, (5, *frame, 3), np.uint8)
    policies = [each.episode(np.random.default_rng(1)) for each in (agent, PolicyAgent.load(tmp_path))]
    one, two = ([int(policy(frame)) for frame in frames] for policy in policies)
    assert one == two and set(one) <= {0, 1, 2}


def test_agents_saved_with_the_kernels_for_large_frames_still_fit():
    shapes = {k: tuple(x.shape) for k, x in agent_of("frames").policy.state_dict().items() if "grid" in k}
    grid = {k.removeprefix("features_extractor.grid."): x for k, x in shapes.items() if k.startswith("features")}
    assert [grid[f"{i}.weight"] for i in (0, 2, 4)] == [(4, 3, 8, 8), (8, 4, 4, 4), (8, 8, 3, 3)]


def test_a_folder_that_holds_no_agent_is_refused(tmp_path):
    small_world().save(tmp_path)
    with pytest.raises(ValueError, match="expected an agent, got world"):
        PolicyAgent.load(tmp_path)


def test_weights_that_do_not_fit_an_agent_are_not_read(tmp_path, monkeypatch):
    agent_of().save(tmp_path)
    sparse(tmp_path / "weights.safetensors", safetensors(10**9), 10**9 + len(safetensors(10**9)))
    monkeypatch.setattr(tensors_file, "_sha256", lambda path: pytest.fail("the weights were read to their end"))
    with pytest.raises(ValueError, match=r"do not fit config\.json"):
        PolicyAgent.load(tmp_path)


def test_an_agent_collects_and_goes_on_behind_earlier_episodes(tmp_path):
    agent_of().save(tmp_path / "agent")
    shape = {"frame_shape": (40, 48, 3), "action_space": Discrete(7), "info_keys": (), "action_names": ()}
    make = lambda: MazeEnv(MazeConfig(height=40, width=48, max_steps=6))  # noqa: E731
    first = EpisodeStore.create(tmp_path / "first", replace(counter_info(), **shape))
    collect(make, first, 2, policy="random", progress=False)
    policy = f"worldmodel.agents.sb3:load_policy:{tmp_path / 'agent'}"
    more = EpisodeStore.create(tmp_path / "more", replace(counter_info(policy=policy), **shape))
    assert more.link_from(first) == 2 and more.link_from(first) == 0
    collect(make, more, 4, policy=policy, progress=False)
    assert more.indices == (0, 1, 2, 3) and not find_damaged(more)
    np.testing.assert_array_equal(more.read(1).frames, first.read(1).frames)


def test_episodes_of_another_shape_are_not_taken_over(tmp_path):
    one = EpisodeStore.create(tmp_path / "one", counter_info())
    collect(CounterEnv, one, 1, info_keys=("now",), progress=False)
    other = EpisodeStore.create(tmp_path / "other", replace(counter_info(), frame_shape=(8, 8, 3)))
    with pytest.raises(ValueError, match="cannot start this run: frame_shape"):
        other.link_from(one)


def test_real_returns_are_a_function_of_seed_and_episode():
    make = lambda: MazeEnv(MazeConfig(rooms=2, loops=1.0, height=8, width=8, max_steps=40))  # noqa: E731
    agent = RandomAgent(make().action_space, "sticky")
    few, many = (returns(make, agent, count, seed=0) for count in (4, 9))
    np.testing.assert_array_equal(few, many[:4])
    assert set(many) <= {0.0, 1.0}


def test_dream_returns_are_those_of_dreams_alone_whatever_their_trust_horizon():
    world, agent = small_world(), None

    class First:
        obs: Literal["tokens"] = "tokens"

        def act(self, observations, rng):
            return np.ones(len(observations), int)

    agent = First()
    together = dream_returns(agent, world, 6, seed=4)
    alone = np.concatenate([dream_returns(agent, world, 1, seed=4 + i) for i in range(6)])
    np.testing.assert_array_equal(together, alone)
    world.info.trust_horizon = 0
    np.testing.assert_array_equal(dream_returns(agent, world, 6, seed=4), together)


def test_an_agent_learns_in_dreams_as_long_as_real_episodes_or_up_to_the_trust_horizon(tmp_path):
    train, world = module("train_agent"), small_world()
    world.info.trust_horizon = 3
    world.save(tmp_path)
    for horizon, steps, made in ((None, 9, False), ("trust", 3, True), (5, 5, False)):
        config = train.TrainAgentConfig(world=tmp_path, dream=train.DreamConfig(horizon=horizon))
        assert set(train.dreams(config, world).get_attr("limit")) == {steps}
        assert ("trust_horizon" in train.made_of(config)) == made  # a new measurement makes another agent


def test_a_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = [i.low <= 2 <= i.high for i in (nested_bootstrap([rng.normal(2, 1, 40)], seed) for seed in range(200))]
    assert 0.88 < np.mean(hits) < 0.99


def test_groups_that_differ_widen_the_interval():
    alike, apart = nested_bootstrap([[0.0, 2.0] * 20] * 3), nested_bootstrap([[0.0] * 40, [1.0] * 40, [2.0] * 40])
    assert alike.mean == apart.mean == 1.0 and alike.count == 120
    assert apart.high - apart.low > 2 * (alike.high - alike.low)
    with pytest.raises(ValueError, match="one group"):
        nested_bootstrap([[]])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [([1, 2, 3], [10, 20, 30], 1.0), ([1, 2, 3], [3, 2, 1], -1.0), ([1, 2, 3, 4], [2, 1, 4, 3], 0.6)],
)
def test_spearman_is_the_correlation_of_ranks(a, b, expected):
    assert spearman(a, b) == pytest.approx(expected)


def test_ties_share_a_rank_and_a_constant_has_no_correlation():
    assert spearman([1, 1, 2], [0, 0, 5]) == pytest.approx(1)
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))


def test_ranking_tells_the_loss_of_trusting_dreams_and_who_exploits_them():
    real = {"good": [9.0, 10, 11] * 5, "fair": [5.0, 6, 7] * 5, "cheat": [0.0, 1, 2] * 5}
    honest = ranking(real, {"good": [10.0], "fair": [6.5], "cheat": [1.5]})
    assert honest["spearman"] == 1 and honest["regret_at_1"] == 0
    assert not any(honest[f"exploited/{name}"] for name in real)
    fooled = ranking(real, {"good": [10.0], "fair": [6.5], "cheat": [50.0]})
    assert fooled["regret_at_1"] == 1 and fooled["exploited/cheat"] == 1 and fooled["exploited/good"] == 0
    with pytest.raises(ValueError, match="same two policies"):
        ranking(real, {"good": [1.0]})

"""Laws of rewards and ends: what the tables say, that they are calibrated, and that they come at the right step."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers_models import REWARDS, clip_of, small_prior, small_world, some_actions, some_tokens
from worldmodel import envs
from worldmodel.backends.cpu.prior import CompiledHead
from worldmodel.data.clips.token_batches import TokenBatches
from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.collect.collect import collect, dataset_info_of
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.envs.maze import ACTIONS, MazeEnv, Pose, reaches_goal, step_pose
from worldmodel.prior import PixelCNN, PriorConfig, reward_values
from worldmodel.prior.outcome import MAX_REWARD_COLUMNS, OutcomeHead


def head_of(rewards, hidden=9) -> OutcomeHead:
    torch.manual_seed(1)
    head = OutcomeHead(10, hidden, (2, 3), rewards)
    with torch.no_grad():
        head.out_proj.weight.normal_()
    return head


def test_few_rewards_keep_their_values_and_many_are_spread_in_symlog():
    assert reward_values(np.array([1, -5, 1, 0], np.float32)) == (-5.0, 0.0, 1.0)
    many = reward_values(np.linspace(-1000, 1, 500, dtype=np.float32))
    assert len(many) == MAX_REWARD_COLUMNS and many[0] == pytest.approx(-1000) and many[-1] == pytest.approx(1)
    even = np.diff(np.sign(many) * np.log1p(np.abs(many)))
    np.testing.assert_allclose(even, even[0])
    with pytest.raises(ValueError, match="finite"):
        reward_values(np.array([1, np.nan], np.float32))


@settings(deadline=None)  # the first call is slow
@given(st.lists(st.floats(-3, 4, width=32), min_size=1, max_size=20), st.booleans())
def test_the_mean_of_a_target_is_the_reward_and_its_row_says_whether_it_ends(rewards, ends):
    head = head_of((-3.0, -1.0, 0.0, 0.25, 4.0))
    reward, end = torch.tensor(rewards), torch.full((len(rewards),), ends)
    table = head.targets(reward, end).unflatten(1, (2, 5))
    torch.testing.assert_close((table.sum(1).double() * head.rewards).sum(1), reward.double(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(table[:, int(ends)].sum(1), torch.ones(len(rewards)))
    assert ((table > 0).sum((1, 2)) <= 2).all()


def test_a_reward_that_is_a_column_is_one_hot():
    head = head_of(REWARDS)
    table = head.targets(torch.tensor(REWARDS), torch.tensor([True, False, True]))
    assert table.argmax(1).tolist() == [3, 1, 5]
    assert (table.max(1).values == 1).all()


def test_draws_follow_the_table_and_reward_and_end_are_drawn_together():
    head = head_of((0.0, 1.0)).requires_grad_(False)
    scores = torch.log(torch.tensor([[0.6, 0.1, 1e-9, 0.3]])).expand(4000, -1)
    drawn = head.sample(scores, torch.linspace(0, 1 - 1e-9, 4000, dtype=torch.float64))
    assert drawn.ended.double().mean() == pytest.approx(0.3, abs=1e-3)
    assert (drawn.reward[drawn.ended] == 1).all()  # the end never comes without its reward
    assert drawn.reward[~drawn.ended].mean() == pytest.approx(0.1 / 0.7, abs=1e-3)
    assert drawn.expected[0] == pytest.approx(0.4) and drawn.end[0] == pytest.approx(0.3)


def test_a_dream_that_may_not_end_draws_from_the_futures_that_go_on():
    head = head_of((0.0, 1.0)).requires_grad_(False)
    scores = torch.log(torch.tensor([[0.3, 0.1, 1e-9, 0.6]])).expand(4000, -1)
    drawn = head.sample(scores, torch.linspace(0, 1 - 1e-9, 4000, dtype=torch.float64), allow_termination=False)
    assert not drawn.ended.any() and drawn.reward.mean() == pytest.approx(0.25, abs=1e-3)
    assert drawn.end[0] == pytest.approx(0.6)  # the chance of the end stays what it is
    torch.testing.assert_close(drawn.nats.exp()[[0, -1]], torch.tensor([4 / 3, 4.0], dtype=torch.float64))


def test_what_was_weighed_in_training_is_calibrated_afterwards():
    """Inputs that say nothing: the best weighted scores must give back the true frequencies."""
    head = head_of((0.0, 1.0))
    counts = torch.tensor([960.0, 30.0, 2.0, 8.0])
    head.set_frequencies(counts)
    scores = torch.nn.Parameter(torch.zeros(1, 4))
    optimizer = torch.optim.LBFGS([scores], max_iter=200)
    targets = torch.eye(4).repeat_interleave(counts.long(), 0)

    def closure():
        optimizer.zero_grad()
        loss = head.loss(scores.expand(1000, -1), targets)
        loss.backward()
        return loss

    optimizer.step(closure)
    found = head.probabilities(scores.detach()).flatten()
    torch.testing.assert_close(found.float(), counts / 1000, rtol=2e-2, atol=1e-4)
    weights = head.log_weight.exp()
    assert weights[3] > 3 * weights[0]  # the rare ones weigh more


def test_before_any_training_the_chances_are_the_frequencies():
    head = OutcomeHead(10, 9, (2, 3), (0.0, 1.0))
    head.set_frequencies(torch.tensor([960.0, 30.0, 2.0, 8.0]))
    chances = head.probabilities(head(torch.randn(3, 10, 2, 3))).detach()
    torch.testing.assert_close(
        chances.flatten(1)[0].float(), torch.tensor([0.96, 0.03, 0.002, 0.008]), rtol=0.3, atol=0
    )


@torch.no_grad()
@pytest.mark.parametrize("hidden", [9, 16, 50])
def test_compiled_scores_are_those_of_the_module_and_do_not_depend_on_the_batch(hidden):
    head = head_of((-1.0, 0.0, 7.0), hidden)
    context = torch.randn(33, 10, 2, 3)
    both = CompiledHead(head).scores(context)
    torch.testing.assert_close(both, head(context), rtol=1e-4, atol=1e-4)
    alone = torch.cat([CompiledHead(head).scores(context[i : i + 1]) for i in range(33)])
    assert torch.equal(alone, both)
    noise = torch.rand(33, dtype=torch.float64)
    together = head.sample(both, noise)
    for i in range(33):
        one = head.sample(both[i : i + 1], noise[i : i + 1])
        for name in ("reward", "ended", "expected", "end", "drawn", "nats"):
            assert torch.equal(getattr(one, name), getattr(together, name)[i : i + 1])


def test_scores_of_what_does_not_fit_are_refused():
    head = head_of(REWARDS)
    with pytest.raises(ValueError, match="context width"):
        CompiledHead(head).scores(torch.randn(2, 11, 2, 3))
    with pytest.raises(ValueError, match=r"grid of \(10, 2, 3\)"):
        CompiledHead(head).scores(torch.randn(2, 10, 3, 2))


@torch.no_grad()
def test_padding_behind_a_short_episode_changes_no_loss_and_no_gradient_of_it():
    prior = small_prior(rewards=REWARDS)
    tokens, actions = some_tokens(2, 5), some_actions(2, 5)
    rewards, ends = torch.tensor([[0.0, -1, 0, 0.5, 0]] * 2), torch.zeros(2, 5, dtype=torch.bool)
    real = torch.tensor([[True] * 3 + [False] * 2] * 2)
    padded = prior.loss(clip_of(tokens * real[..., None, None], actions * real[..., None], rewards * real, ends, real))
    short = prior.loss(clip_of(tokens[:, :3], actions[:, :3], rewards[:, :3], ends[:, :3]))
    torch.testing.assert_close(padded[0], short[0])
    assert padded[1].keys() == short[1].keys() and "outcome_loss" in short[1]


def test_outcomes_without_a_head_are_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match=r"no head for rewards and ends.*outcome_width"):
        small_prior().outcome_probabilities(clip_of(some_tokens(), some_actions()))


def test_one_world_step_brings_the_outcome_of_its_own_noise():
    world = small_world()
    state = world.start_from_context(0, dream=5)
    plain, compiled = (
        world.step(state, [1], sampler)[1].outcome for sampler in (_sampler("cached"), _sampler("compiled"))
    )
    assert plain is not None and compiled is not None
    torch.testing.assert_close(plain.expected, compiled.expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(plain.end, compiled.end, rtol=1e-4, atol=1e-6)
    assert plain.reward == compiled.reward and plain.reward.item() in REWARDS


def _sampler(kind):
    from worldmodel import SamplerConfig

    return SamplerConfig(kind)


# --- the maze, whose truth is known ---------------------------------------------------------------------------------

STEPS = 400
FORWARD = ACTIONS.index("forward")
TURNS = ACTIONS.index("turn_left"), ACTIONS.index("turn_right")


def walk(observation, rng, action_space):
    """A policy that acts alike everywhere, so that all it can do is also often seen next to the ball."""
    return FORWARD if rng.random() < 0.7 else int(rng.choice(TURNS))


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
    """Chances of the end and mean rewards that a prior learned to predict, and the truth, over held-out maze episodes
    of two rooms a side. Its tokens say whether the ball is a step away, so that the tokenizer has no part in it."""
    folder = tmp_path_factory.mktemp("maze")
    config = envs.MazeConfig(rooms=2, loops=1.0, height=8, width=8, max_steps=60)
    env = MazeEnv(config)
    env.reset(seed=0)
    how: dict[str, Any] = {"policy": f"{__name__}:walk", "seed": 0, "info_keys": ("pose", "goal"), "max_steps": None}
    store = EpisodeStore.create(folder / "episodes", dataset_info_of(env, {}, **how))
    collect(lambda: envs.make(config), store, 240, **how, progress=False)
    tokens = TokenStore.create(folder / "tokens", key="ball", codes=2, grid=(1, 1), time_stride=1)
    for index in store.indices:
        tokens.write(index, _ball_within_reach(env.maze, store.read(index)))
    train, held_out = list(store.indices[:200]), list(store.indices[200:])
    batches = TokenBatches(tokens, store, train, length=6, batch_size=32, seed=0)
    rewards, ends = batches.all_outcomes()
    torch.manual_seed(0)
    prior = PixelCNN(PriorConfig(8, 16, 1, 2, 6, 1, 0.0, 24), 2, (1, 1), 7, reward_values(rewards)).train()
    assert prior.outcome is not None
    prior.outcome.set_frequencies(prior.outcome.targets(torch.from_numpy(rewards), torch.from_numpy(ends)).sum(0))
    optimizer = torch.optim.Adam(prior.parameters(), 1e-2)
    cooling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    for step in range(STEPS):
        loss, _ = prior.loss(batches[step])
        optimizer.zero_grad(), loss.backward(), optimizer.step(), cooling.step()
    return _predict(prior.eval(), tokens, store, held_out)


def _ball_within_reach(maze, episode):
    """Whether a step forward would reach the ball: with the action, that decides what the step will bring."""
    maze = replace(maze, goal=tuple(episode.infos["goal"][0]))
    reached = [reaches_goal(maze, step_pose(maze, Pose(*pose), FORWARD)) for pose in episode.infos["pose"]]
    assert np.array_equal(reached[:-1] & (episode.actions == FORWARD), episode.rewards == 1)
    return np.array(reached, np.int64)[:, None, None]


@torch.no_grad()
def _predict(prior, tokens, store, episodes):
    columns = {"end": [], "expected": [], "ended": [], "reward": []}
    for index in episodes:
        whole = TokenBatches(tokens, store, [index], length=store.length(index), batch_size=1, seed=0)[0]
        table = prior.outcome_probabilities(whole)[0, 1:]
        columns["end"].append(table[:, 1].sum(-1).numpy())
        columns["expected"].append((table.sum(1) @ prior.outcome.rewards).numpy())
        columns["ended"].append(whole.terminated[0, 1:].numpy())
        columns["reward"].append(whole.rewards[0, 1:].numpy())
    return columns


def test_reward_and_end_of_the_maze_are_predicted_at_the_step_of_the_goal_and_at_no_other(predictions):
    ended, end = np.concatenate(predictions["ended"]), np.concatenate(predictions["end"])
    reward, expected = np.concatenate(predictions["reward"]), np.concatenate(predictions["expected"])
    assert ended.sum() >= 5
    assert end[ended].min() > 0.8
    assert expected[reward > 0].min() > 0.8
    before = np.concatenate(
        [np.roll(each, -1) & (np.arange(len(each)) < len(each) - 1) for each in predictions["ended"]]
    )
    assert end[before].max() < 0.2  # one step before the goal
    assert expected[before].max() < 0.2
    assert end[~ended].max() < 0.5


def test_episodes_that_were_cut_off_are_not_said_to_end(predictions):
    cut = [end for end, ended in zip(predictions["end"], predictions["ended"], strict=True) if not ended.any()]
    assert cut and max(each[-1] for each in cut) < 0.2

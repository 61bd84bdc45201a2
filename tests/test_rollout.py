"""Which actions a rollout follows, and what its film shows."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from tests.helpers_models import random_frames, small_world
from worldmodel.prior import SamplerConfig
from worldmodel.rollout import Beginning, Recording, dream, film, name_of, plan
from worldmodel.world import WorldInfo

REAL = np.array([3, 1, 2])


def begin_with(next_frames: int) -> Beginning:
    frames = random_frames(1, 3 + next_frames)[0].numpy()
    return Beginning(frames[:3], np.array([0, 1]), frames[3:], REAL)


def test_actions_by_name_by_number_and_as_a_list_that_repeats():
    info = small_world().info
    assert plan("forward", info, REAL, 3, 0).tolist() == [1, 1, 1]
    assert plan(2, info, REAL, 2, 0).tolist() == [2, 2] == plan("2", info, REAL, 2, 0).tolist()
    assert plan(("forward", "noop", 3), info, REAL, 5, 0).tolist() == [1, 0, 3, 1, 0]


def test_the_episodes_own_actions_come_first_and_held_random_ones_follow():
    info = small_world().info
    actions = plan("episode", info, REAL, 40, seed=1)
    assert actions[:3].tolist() == [3, 1, 2] and len(actions) == 40
    assert np.array_equal(actions, plan("episode", info, REAL, 40, seed=1))
    assert not np.array_equal(actions, plan("episode", info, REAL, 40, seed=2))
    assert (np.diff(actions[3:]) == 0).mean() > 0.4  # held
    assert plan("episode", info, REAL, 2, 0).tolist() == [3, 1]


def test_random_actions_of_a_box_stay_inside_it():
    info = WorldInfo((16, 24, 3), Box(-2, 2, (2,), np.float32))
    actions = plan("random", info, np.zeros((0, 2), np.float32), 9, 0)
    assert actions.shape == (9, 2) and all(info.action_space.contains(a) for a in actions)
    assert name_of(actions[0], info).startswith("[")


@pytest.mark.parametrize("kind", ["fly", 7, ("forward", "fly")])
def test_an_unknown_action_is_refused_with_the_known_ones(kind):
    with pytest.raises(ValueError, match="noop, forward, left, right"):
        plan(kind, small_world().info, REAL, 3, 0)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_film_shows_truth_above_the_dream_as_long_as_it_is_known(stride):
    world, begin = small_world(stride), begin_with(next_frames=3)
    actions = np.array([1, 2, 3, 1])
    steps = dream(world, begin, actions, SamplerConfig(), seed=4)
    shots = list(film(begin, steps, actions, world.info, scale=1))
    video = world.imagine(torch.from_numpy(begin.frames)[None], np.r_[begin.actions, actions][None], 4, seed=4)
    assert np.array_equal(np.stack([shot.imagined for shot in shots]), video[0].numpy())
    assert np.array_equal(shots[2].real, begin.next_frames[2]) and not shots[3].real.any()
    assert np.array_equal(shots[0].picture[:16], begin.next_frames[0])
    assert len({shot.picture.shape for shot in shots}) == 1


def test_without_a_known_truth_the_film_shows_the_dream_alone(tmp_path):
    world, begin = small_world(), begin_with(next_frames=0)
    recording = Recording(horizon=4)
    steps = recording.listen(dream(world, begin, np.array([1, 2, 3, 1]), SamplerConfig(), seed=4))
    pictures = list(recording.watch(film(begin, steps, np.array([1, 2, 3, 1]), world.info, scale=2)))
    assert np.array_equal(pictures[0][:32:2, ::2], recording.sheet[0].imagined)
    recording.save(tmp_path, fps=5)
    assert np.load(tmp_path / "tokens.npy").shape == (4, 2, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"tokens.npy", "sheet.png", "rollout.gif"}

"""Which actions a rollout follows, and what its video shows."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from tests.helpers_dreams import noise_store
from tests.helpers_models import REWARDS, small_world
from worldmodel.dream.rollout import (
    Recording,
    action_sequence,
    dream,
    name_of,
    render_frames,
    start_from_context,
    start_in_episode,
)
from worldmodel.prior import SamplerConfig
from worldmodel.world import WorldInfo

REAL = np.array([3, 1, 2])


def test_actions_by_name_by_number_and_as_a_list_that_repeats():
    info = small_world().info
    assert action_sequence("forward", info, REAL, 3, 0).tolist() == [1, 1, 1]
    assert action_sequence(2, info, REAL, 2, 0).tolist() == [2, 2] == action_sequence("2", info, REAL, 2, 0).tolist()
    assert action_sequence(("forward", "noop", 3), info, REAL, 5, 0).tolist() == [1, 0, 3, 1, 0]


def test_the_episodes_own_actions_come_first_and_held_random_ones_follow():
    info = small_world().info
    actions = action_sequence("episode", info, REAL, 40, seed=1)
    assert actions[:3].tolist() == [3, 1, 2] and len(actions) == 40
    assert np.array_equal(actions, action_sequence("episode", info, REAL, 40, seed=1))
    assert not np.array_equal(actions, action_sequence("episode", info, REAL, 40, seed=2))
    assert (np.diff(actions[3:]) == 0).mean() > 0.4  # held
    assert action_sequence("episode", info, REAL, 2, 0).tolist() == [3, 1]


def test_random_actions_of_a_box_stay_inside_it():
    info = WorldInfo((16, 24, 3), Box(-2, 2, (2,), np.float32))
    actions = action_sequence("random", info, np.zeros((0, 2), np.float32), 9, 0)
    assert info.action_space is not None
    assert actions.shape == (9, 2) and all(info.action_space.contains(a) for a in actions)
    assert name_of(actions[0], info).startswith("[")


@pytest.mark.parametrize("kind", ["fly", 7, ("forward", "fly")])
def test_an_unknown_action_is_refused_with_the_known_ones(kind):
    with pytest.raises(ValueError, match="noop, forward, left, right"):
        action_sequence(kind, small_world().info, REAL, 3, 0)


def test_an_unknown_action_where_none_has_a_name_is_refused_with_the_numbers():
    info = WorldInfo((16, 24, 3), Discrete(3))
    with pytest.raises(ValueError, match=r"'forward' in Discrete\(3\).* 0 to 2 \(they have no names\); .*\[0,0,2\]"):
        action_sequence("forward", info, REAL, 3, 0)
    assert action_sequence("2", info, REAL, 2, 0).tolist() == [2, 2]


def test_an_action_of_several_numbers_has_a_caption_with_their_names_and_is_not_chosen_by_name():
    info = WorldInfo((16, 24, 3), Box(-2, 2, (2,), np.float32), ("steer", "gas"))
    assert name_of(np.array([0.25, -1], np.float32), info) == "steer 0.2 gas -1.0"
    with pytest.raises(ValueError, match=r"actions: expected episode or random in Box.*, got 'gas'"):
        action_sequence("gas", info, np.zeros((0, 2), np.float32), 3, 0)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_video_shows_real_frames_above_the_dream_as_long_as_it_is_known(stride, tmp_path):
    world, store = small_world(stride), noise_store(tmp_path)
    start = start_in_episode(world, store, 1, start=19, context=3, horizon=9, seed=4)
    actions, lead = np.array([1, 2, 3, 1]), store.actions(1)[19:21]
    steps = dream(world, start.state, actions, SamplerConfig())
    rendered = list(render_frames(start, steps, actions, world.info, scale=1))
    given = torch.from_numpy(store.frames(1, 19, 22))[None]
    video = world.imagine(given, np.r_[lead, actions][None], 4, seed=4)
    assert np.array_equal(np.stack([each.imagined for each in rendered]), video[0].numpy())
    assert np.array_equal(rendered[2].real, store.frames(1, 24, 25)[0]) and not rendered[3].real.any()
    assert np.array_equal(rendered[0].image[:16], store.frames(1, 22, 23)[0])
    assert np.array_equal(start.next_actions, store.actions(1)[21:])
    assert len({each.image.shape for each in rendered}) == 1
    assert np.array_equal(start.given, given[0]) and [each.action for each in rendered[:2]] == ["forward", "left"]
    known = [each.real_reward for each in rendered[:3]]
    assert known == [0, 0, 0] and np.isnan(rendered[3].real_reward) and all(r.reward in (*REWARDS, 0) for r in rendered)


def test_the_contact_sheet_has_given_frames_actions_and_rewards_on_at_most_1600_pixels(tmp_path):
    world, store = small_world(), noise_store(tmp_path)
    sizes = []
    for given in (1, 3):
        start = start_in_episode(world, store, 1, start=0, context=given, horizon=9, seed=4)
        recording = Recording(9, start.given)
        steps = dream(world, start.state, store.actions(1)[:9], SamplerConfig())
        assert len(list(recording.record_frames(render_frames(start, steps, store.actions(1)[:9], world.info, 1)))) == 9
        sheet = recording.contact_sheet()
        marked = (sheet == (245, 170, 60)).all(-1)  # the colored edges
        sizes.append((sheet.shape[1], int(marked.sum())))
        assert sheet.shape[1] <= 1600
    assert sizes[1][0] > sizes[0][0] and sizes[1][1] == 2 * sizes[0][1]  # one given frame, and two of three


def test_a_start_beyond_the_episode_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has 25 frames: no 5 from frame 21 on"):
        start_in_episode(small_world(), noise_store(tmp_path), 0, start=21, context=5, horizon=1, seed=0)


def test_without_real_frames_the_video_shows_the_dream_alone(tmp_path):
    world = small_world()
    start, actions = start_from_context(world, 3, seed=4), np.array([1, 2, 3, 1])
    recording = Recording(4, start.given)
    steps = recording.record_steps(dream(world, start.state, actions, SamplerConfig()))
    images = list(recording.record_frames(render_frames(start, steps, actions, world.info, scale=2)))
    assert np.array_equal(images[0][:32:2, ::2], recording.sheet[0].imagined)
    recording.save(tmp_path, fps=5)
    assert np.load(tmp_path / "tokens.npy").shape == (4, 2, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"tokens.npy", "sheet.png", "rollout.gif"}


def test_a_dream_starts_from_the_given_context_or_one_that_the_seed_draws_and_random_actions_follow():
    world = small_world()
    assert torch.equal(start_from_context(world, 3, seed=0).state.tokens, world.start_from_context(3).tokens)
    drawn = [start_from_context(world, None, seed).state for seed in (5, 5, *range(9))]
    assert (
        torch.equal(drawn[0].tokens, drawn[1].tokens) and len({tuple(s.tokens.flatten().tolist()) for s in drawn}) > 2
    )
    actions = action_sequence("episode", world.info, start_from_context(world, None, 0).next_actions, 6, 0)
    assert np.array_equal(actions, action_sequence("random", world.info, REAL, 6, 0))
    with pytest.raises(ValueError, match="came with 0 contexts"):
        start_from_context(small_world(starts=0), None, 0)

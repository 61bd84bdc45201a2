"""The session behind the page: what is played is the dream of `DreamEnv`, moments come back to the last bit, and what
is recorded opens as episodes."""

import math

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from tests.helpers_models import small_world, space_world
from tests.helpers_play import Echo, endless, play, small_session
from worldmodel.data.clips.clips import ClipSampler
from worldmodel.data.collect.engine import EngineError
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.data.merge import merge
from worldmodel.dream import DreamEnv
from worldmodel.play.session import MOST_KEPT, Session
from worldmodel.prior import SamplerConfig

ACTIONS = (1, 3, 0, 2, 1, 1)


def same(one, other) -> bool:
    return len(one) == len(other) and all((a == b).all() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("temperature", [None, 0.4])
def test_the_same_seed_and_actions_give_the_dream_of_the_environment(tmp_path, stride, temperature):
    session = small_session(tmp_path, time_stride=stride)
    session.temperature = temperature
    env = DreamEnv(world=session.world, horizon=0, sampler=SamplerConfig(temperature=temperature))
    frame, _ = env.reset(seed=3)
    assert session.now.dream is not None and (frame == session.now.dream.frame).all()
    for action in ACTIONS:
        frame, reward, *_, infos = env.step(action if stride == 1 else [action] * stride)
        session.step(action)
        assert (frame == session.now.dream.frame).all() and session.now.dream.reward == reward
        assert session.now.surprise[-1] == pytest.approx(infos["surprise"] * math.log(2))
        assert session.now.tokens is not None and (session.now.tokens == infos["tokens"]).all()


@pytest.mark.parametrize("mode", ["dream", "both", "real"])
@pytest.mark.parametrize("stride", [1, 2])
def test_going_back_leads_to_the_same_frames_to_the_last_bit(tmp_path, mode, stride):
    session = small_session(tmp_path, time_stride=stride)
    session.switch(mode)
    play(session, ACTIONS)
    number = session.keep()
    first, moment = play(session, ACTIONS), session.now
    play(session, (0, 0))
    session.back(number)
    assert session.now.steps == len(ACTIONS) and session.now.parent == number
    assert same(first, play(session, ACTIONS))
    assert session.now.surprise == moment.surprise
    for name, side in moment.sides.items():
        assert (side.frame == session.now.sides[name].frame).all() and side.total == session.now.sides[name].total


def test_a_branch_is_another_future_which_its_seed_determines_as_in_the_environment(tmp_path):
    session = small_session(tmp_path)
    env = DreamEnv(world=session.world, horizon=0)
    env.reset(seed=3)
    number, snapshot = session.keep(), env.snapshot()
    own = play(session, ACTIONS)
    session.branch(number, seed=7)
    seven = play(session, ACTIONS)
    session.branch(number, seed=7)
    assert same(seven, play(session, ACTIONS)) and not same(seven, own)
    env.restore(snapshot, seed=7)
    assert same(seven, [env.step(action)[0] for action in ACTIONS])
    session.branch(number)
    new = play(session, ACTIONS)
    session.branch(number)
    assert not same(new, play(session, ACTIONS))


def test_moments_are_found_by_number_until_they_are_forgotten(tmp_path):
    session = small_session(tmp_path)
    numbers = [session.keep() for _ in range(MOST_KEPT)]
    assert [session.kept[n].parent for n in numbers] == [None, *numbers[:-1]]
    with pytest.raises(ValueError, match="64 moments are kept: forget one first"):
        session.keep()
    session.forget(2)
    assert session.keep() == MOST_KEPT + 1
    with pytest.raises(ValueError, match="moment: there is no 2; kept are 1, 3"):
        session.back(2)


def test_both_sides_start_at_the_same_frame_and_take_the_same_actions(tmp_path):
    session = small_session(tmp_path)
    session.switch("both")
    real, dream = session.now.real, session.now.dream
    env = Echo()
    assert real is not None and dream is not None and (env.reset(seed=3)[0] == real.frame).all()
    expected = DreamEnv(world=session.world, horizon=0)
    first, _ = expected.reset(seed=3, options={"frames": real.frame[None]})
    assert (first == dream.frame).all()
    for action in ACTIONS:
        session.step(action)
        frame, reward, *_ = env.step(action)
        assert (session.now.sides["real"].frame == frame).all() and session.now.sides["real"].reward == reward
        assert (session.now.sides["dream"].frame == expected.step(action)[0]).all()


@pytest.mark.parametrize("stride", [1, 2])
def test_a_dream_that_joins_the_real_environment_goes_on_from_its_newest_frames(tmp_path, stride):
    session = small_session(tmp_path, time_stride=stride)
    session.switch("real")
    play(session, ACTIONS[:4])
    env, actions = Echo(), np.repeat(ACTIONS[:4], stride)
    frames = np.stack([env.reset(seed=3)[0], *(env.step(action)[0] for action in actions)])
    session.switch("dream")
    given = min(len(frames), 1 + 5 * stride)
    expected = DreamEnv(world=session.world, horizon=0)
    options = {"frames": frames[-given:], "actions": actions[len(actions) - given + 1 :]}
    assert (expected.reset(seed=3, options=options)[0] == session.now.sides["dream"].frame).all()
    assert session.now.real is None and session.now.steps == 4


def test_without_the_real_environment_only_the_dream_is_played(tmp_path):
    session = small_session(tmp_path, make_env=None)
    with pytest.raises(ValueError, match="real environment of this world is not known"):
        session.switch("both")
    session.step(1)
    assert set(session.now.sides) == {"dream"}


def test_a_real_environment_that_fails_leaves_the_dream_alone_and_is_made_anew(tmp_path):
    made: list[Echo] = []

    class Failing(Echo):
        def __init__(self):
            super().__init__()
            made.append(self)

        def step(self, action):
            if len(made) == 1 and len(self.history) == 3:
                raise RuntimeError("out of order")
            return super().step(action)

    session = small_session(tmp_path, make_env=Failing)
    session.switch("both")
    play(session, (1, 1))
    with pytest.raises(EngineError, match="out of order"):
        session.step(1)
    assert session.now.mode == "dream" and session.paused and made[0].closed
    session.step(1)
    session.switch("both")
    play(session, ACTIONS)
    assert len(made) == 2


def test_a_real_environment_of_other_actions_is_refused(tmp_path):
    session = small_session(tmp_path, make_env=lambda: Echo(space=Discrete(3)))
    with pytest.raises(EngineError, match=r"has the actions Discrete\(3\), this world has Discrete\(4\)"):
        session.switch("real")
    assert session.now.mode == "dream"


def test_play_ends_with_the_last_side_and_can_start_again(tmp_path):
    session = small_session(tmp_path, make_env=lambda: Echo(length=3))
    session.switch("both")
    session.paused = False
    play(session, (1, 1, 1, 1))
    assert session.now.sides["real"].end == "terminated" and not session.now.over and not session.paused
    assert session.now.sides["real"].reward == 0 and session.now.sides["real"].total == 6
    session.switch("real")
    assert session.now.over
    with pytest.raises(ValueError, match="play is over: start again"):
        session.step(1)
    session.reset(4)
    play(session, (1, 1, 1))
    assert session.now.over and session.paused and session.now.seed == 4


def test_a_running_session_takes_the_action_that_is_held_or_waits(tmp_path):
    session = small_session(tmp_path)
    assert session.tick() == []
    session.paused = False
    session.tick()
    held, idle = small_session(tmp_path), small_session(tmp_path)
    play(idle, [0])
    assert same([session.now.sides["dream"].frame], [idle.now.sides["dream"].frame])
    held.hold(2)
    held.paused = False
    held.tick()
    play(idle, [2])
    session.hold(2)
    session.tick()
    assert same([session.now.sides["dream"].frame], [idle.now.sides["dream"].frame])
    world = endless(small_world())
    world.info.action_names = ()
    waiting = small_session(tmp_path, world=world)
    waiting.paused = False
    assert waiting.tick() == [] and waiting.pressed is None
    with pytest.raises(ValueError, match="every action of this world does something: press one"):
        waiting.step()


def test_a_short_press_counts_for_one_step_of_play_and_for_none_while_it_is_paused(tmp_path):
    session = small_session(tmp_path)
    session.hold(2)
    session.hold(None)
    assert session.pressed == 0
    session.paused = False
    session.hold(2)
    session.hold(None)
    assert session.pressed == 2
    session.tick()
    assert session.pressed == 0


def test_a_world_without_contexts_starts_beside_the_real_environment(tmp_path):
    session = small_session(tmp_path, world=small_world(starts=0))
    session.step(1)
    assert session.now.mode == "both" and session.now.steps == 1
    with pytest.raises(ValueError, match="this world came with 0 contexts"):
        small_session(tmp_path, make_env=None, world=small_world(starts=0))


def test_a_seed_out_of_range_and_a_value_that_is_no_action_are_refused(tmp_path):
    session = small_session(tmp_path)
    with pytest.raises(ValueError, match="seed: expected 0 to 2147483647, got -1"):
        session.reset(-1)
    with pytest.raises(ValueError, match="action: expected one in Discrete"):
        session.hold(4)
    assert session.held is None and session.now.steps == 0


def test_a_world_without_actions_and_rewards_plays_like_a_film(tmp_path):
    session = small_session(tmp_path, make_env=None, world=small_world(actions=0, rewards=()))
    session.paused = False
    for _ in range(3):
        session.tick()
    assert session.now.steps == 3 and session.controls.to_json() == {"kind": "none"}
    assert session.now.sides["dream"].total == 0 and not session.now.over


def test_what_is_recorded_opens_as_episodes_of_each_side(tmp_path):
    session = small_session(tmp_path, make_env=lambda: Echo(length=4))
    session.switch("both")
    session.record(True)
    start = session.now.sides
    frames = [session.step(action)[0] for action in ACTIONS]
    session.record(False)
    video, dream, real = session.recorder.saved
    assert video.stat().st_size > 1000
    episode, cut = EpisodeStore.open(dream).read(0), EpisodeStore.open(real).read(0)
    assert same(episode.frames, [start["dream"].frame, *(each["dream"].frame for each in frames)])
    assert same(cut.frames, [start["real"].frame, *(each["real"].frame for each in frames[:4])])
    assert episode.actions.tolist() == [*ACTIONS] and cut.rewards.tolist() == [1, 2, 3, 4]
    assert (episode.terminated, episode.truncated) == (False, True)
    assert (cut.terminated, cut.truncated, cut.seed) == (True, False, 3)
    store = EpisodeStore.open(dream)
    store.verify(0)
    clips = ClipSampler(store, store.indices, length=3, seed=1, setting="").sample(0, 2)
    assert clips.frames.shape == (2, 3, 16, 24, 3)
    merged = merge([store, EpisodeStore.open(real)], tmp_path / "merged")
    assert merged.origins()[0]["env"]["name"] == "dream" and len(merged.indices) == 2


def test_a_dreams_episode_says_which_world_dreamed_it_and_how(tmp_path):
    session = small_session(tmp_path, seed=5)
    session.recorder.origin["weights"] = "abc"
    session.record(True)
    play(session, ACTIONS)
    session.temperature = 0.5
    play(session, ACTIONS)
    session.record(False)
    store = EpisodeStore.open(tmp_path / "dream/episodes")
    assert store.info.env == {"name": "dream", "world": "small"} and store.info.policy == "play"
    origin = {"name": "dream", "world": "small", "weights": "abc", "temperatures": [0.5]}
    assert store.origins()[0]["env"] == origin


def test_a_jump_ends_a_take_and_the_next_one_begins_there(tmp_path):
    session = small_session(tmp_path)
    session.record(True)
    play(session, (1, 1))
    number = session.keep()
    play(session, (2,))
    session.back(number)
    at = session.now.sides["dream"].frame
    play(session, (3, 3))
    session.reset()
    session.close()
    store = EpisodeStore.open(tmp_path / "dream/episodes")
    assert [store.actions(index).tolist() for index in store.indices] == [[1, 1, 2], [3, 3]]
    assert (store.frames(1, 0, 1)[0] == at).all()
    assert len([*(tmp_path / "videos").iterdir()]) == 2


def test_a_real_episode_cut_by_its_environment_is_no_end(tmp_path):
    session = small_session(tmp_path, make_env=lambda: Echo(length=3, truncates=True))
    session.switch("real")
    session.record(True)
    play(session, (1, 1, 1))
    assert session.now.sides["real"].end == "truncated"
    episode = EpisodeStore.open(tmp_path / "real/episodes").read(0)
    assert (episode.terminated, episode.truncated) == (False, True)


@pytest.mark.parametrize("space", [MultiDiscrete([3, 2]), Box(-1, 1, (2,)), MultiBinary(2)], ids=str)
def test_worlds_of_every_kind_of_actions_are_played(tmp_path, space):
    session = Session(space_world(space), lambda: Echo(space=space), seed=1, out=tmp_path)
    session.switch("both")
    session.paused = False
    session.tick()
    assert session.now.steps == 1

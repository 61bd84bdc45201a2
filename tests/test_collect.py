"""Laws of collecting: episode i is a function of (seed, i); no kill and no full disk spoils what is there."""

import errno
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest

from tests.helpers_env import FRAME_SHAPE, NO_ACTION, CounterEnv, DeadlyEnv, FaultyEnv, counter_info
from worldmodel.data.collect.collect import collect, dataset_info_of, run_episode
from worldmodel.data.collect.policies import make_policy
from worldmodel.data.episodes import store as store_module
from worldmodel.data.episodes.store import EpisodeStore

SETTINGS: dict[str, Any] = {"seed": 5, "policy": "sticky", "hold": 4.0, "info_keys": ("now",)}


def gather(folder, episodes, make_env: Callable[[], gymnasium.Env] = CounterEnv, *, safety=None, **changes):
    settings = {**SETTINGS, **changes}
    store = EpisodeStore.create(folder, counter_info(**settings))
    return store, collect(make_env, store, episodes, progress=False, **(safety or {}), **settings)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    gather(folder, 6)
    return folder


def test_frames_actions_rewards_and_infos_are_aligned(reference):
    store = EpisodeStore.open(reference)
    for index in store.indices:
        episode = store.read(index)
        seed, now, last_action = episode.frames[:, 0, 0].T
        assert (seed == episode.seed % 251).all()
        np.testing.assert_array_equal(now, np.arange(len(episode) + 1))
        np.testing.assert_array_equal(last_action, [NO_ACTION, *episode.actions])
        np.testing.assert_array_equal(episode.rewards, np.arange(1, len(episode) + 1))
        np.testing.assert_array_equal(episode.infos["now"], now)
        assert (episode.terminated, episode.truncated) == (True, False)


def test_episodes_differ_from_each_other_and_between_seeds(reference, tmp_path):
    other, _ = gather(tmp_path, 6, seed=6)
    seeds = [each.read(index).seed for each in (EpisodeStore.open(reference), other) for index in range(6)]
    assert len(set(seeds)) == 12


def test_two_workers_write_the_same_bytes_as_one(reference, tmp_path):
    _, report = gather(tmp_path, 6, safety={"workers": 2})
    assert contents(tmp_path) == contents(reference)
    assert report.episodes == 6
    assert report.frames == sum(EpisodeStore.open(reference).lengths.values())


def test_an_episode_is_the_same_whatever_ran_before_it(reference):
    store = EpisodeStore.open(reference)
    alone = run_episode(CounterEnv(), store.info, 4)
    np.testing.assert_array_equal(alone.frames, store.read(4).frames)
    np.testing.assert_array_equal(alone.actions, store.read(4).actions)


def test_what_is_missing_is_collected_and_nothing_else(reference, tmp_path):
    gather(tmp_path, 3)
    (tmp_path / "episode_000001.h5").unlink()
    (tmp_path / ".episode_000004.h5.1-ab.partial").write_bytes(b"what a kill left")
    _, report = gather(tmp_path, 6)
    assert report.episodes == 4
    assert contents(tmp_path) == contents(reference)
    assert gather(tmp_path, 6)[1].episodes == 0


def test_a_killed_worker_costs_a_try_and_the_set_is_the_same(reference, tmp_path):
    deadly, folder = partial(DeadlyEnv, tmp_path / "flag"), tmp_path / "episodes"
    _, report = gather(folder, 6, deadly, safety={"workers": 2})
    assert (report.episodes, report.failures) == (6, ())
    assert contents(folder) == contents(reference)


@pytest.mark.parametrize(
    ("fault", "timeout", "problem"),
    [("crash", None, "was killed by SIGSEGV"), ("hang", 2.0, "longer than timeout=2 "), ("raise", None, "KeyError")],
)
def test_an_engine_that_always_fails_in_one_episode_costs_that_one_alone(reference, tmp_path, fault, timeout, problem):
    store = EpisodeStore.open(reference)
    bad = partial(FaultyEnv, fault, [store.header(2).seed])
    _, report = gather(tmp_path, 6, bad, safety={"workers": 2, "retries": 1, "timeout": timeout})
    assert report.episodes == 5
    assert [(each.index, each.seed) for each in report.failures] == [(2, store.header(2).seed)]
    assert problem in report.failures[0].problem
    _, report = gather(tmp_path, 6)
    assert report.episodes == 1 and contents(tmp_path) == contents(reference)


@pytest.mark.parametrize(("retries", "given_up"), [(0, [3]), (1, [])])
def test_an_env_that_raises_is_made_anew_as_often_as_retries_says(tmp_path, capfd, retries, given_up):
    made = []

    class RaisesAtFirst(CounterEnv):
        def __init__(self):
            super().__init__()
            made.append(self)

        def step(self, action):
            if len(made) == 1 and len(os.listdir(tmp_path)) == 4:
                raise KeyError("engine")
            return super().step(action)

    store = EpisodeStore.create(tmp_path, counter_info())
    report = collect(RaisesAtFirst, store, 5, info_keys=("now",), retries=retries)
    assert ([each.index for each in report.failures], len(made)) == (given_up, 2)
    assert "episode 3: try 1 of" in (printed := capfd.readouterr().err) and "step raised KeyError: 'engine'" in printed


def test_a_full_disk_stops_with_the_folder_named_and_whole_episodes_left(reference, tmp_path, monkeypatch):
    write = store_module.write_atomic

    def fill_up(path, *parts):
        if path.name == "episode_000002.h5":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, *parts)

    monkeypatch.setattr(store_module, "write_atomic", fill_up)
    with pytest.raises(OSError, match="disk full") as caught:
        gather(tmp_path, 6)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path)
    assert set(contents(tmp_path)) == {"dataset.json", "episode_000000.h5", "episode_000001.h5"}
    monkeypatch.undo()
    gather(tmp_path, 6)
    assert contents(tmp_path) == contents(reference)


def test_an_episode_is_truncated_at_max_steps_unless_it_ends_just_there(tmp_path):
    store, _ = gather(tmp_path, 8, partial(CounterEnv, 7, 9), max_steps=8)
    env, lengths = CounterEnv(7, 9), set()
    for episode in map(store.read, range(8)):
        env.reset(seed=episode.seed)
        lengths.add(env.length)
        assert len(episode) == min(env.length, 8)
        assert (episode.terminated, episode.truncated) == (env.length <= 8, env.length > 8)
    assert lengths == {7, 8, 9}


class _Leaky(CounterEnv):
    """Carries a count over from episode to episode."""

    def __init__(self):
        super().__init__()
        self.resets = 0

    def reset(self, **options):
        self.resets += 1
        return super().reset(**options)[0], {"now": self.resets}

    def step(self, action):
        return (*super().step(action)[:4], {"now": self.resets})


@pytest.mark.parametrize(("fresh_env", "resets"), [(True, [1, 1, 1]), (False, [1, 2, 3])])
def test_a_fresh_env_for_each_episode_carries_nothing_over(tmp_path, fresh_env, resets):
    store = EpisodeStore.create(tmp_path, counter_info())
    collect(_Leaky, store, 3, info_keys=("now",), fresh_env=fresh_env)
    assert [store.read(index).infos["now"][0] for index in range(3)] == resets


def test_every_env_that_is_made_is_closed(tmp_path):
    class Closing(CounterEnv):
        open = 0

        def __init__(self):
            super().__init__()
            Closing.open += 1

        def close(self):
            Closing.open -= 1

    gather(tmp_path, 3, Closing)
    assert Closing.open == 0


@pytest.mark.parametrize("wrong", [{"workers": -1}, {"retries": -1}, {"timeout": 0.0}])
def test_numbers_that_make_no_sense_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}.*got"):
        gather(tmp_path, 1, safety=wrong)


def _cannot_say(observation, rng, action_space):
    raise KeyError("policy")


def test_an_error_of_the_policy_stops_at_once_and_names_the_episode(tmp_path):
    with pytest.raises(KeyError, match="policy") as caught:
        gather(tmp_path, 2, policy=f"{__name__}:_cannot_say", safety={"workers": 1})
    assert "episode 0" in caught.value.__notes__[0]


def test_settings_that_are_not_those_of_the_store_are_refused(tmp_path):
    store = EpisodeStore.create(tmp_path, counter_info(seed=1))
    with pytest.raises(ValueError, match=r"seed: 1 -> 2; max_steps: None -> 9"):
        collect(CounterEnv, store, 1, seed=2, max_steps=9, info_keys=("now",))


def test_an_info_that_the_env_does_not_report_is_refused_with_those_it_has(tmp_path):
    with pytest.raises(ValueError, match=r"no \['health'\] with frame 0; it has \['now'\]"):
        gather(tmp_path, 1, info_keys=("health",))


def test_progress_tells_the_speed_and_can_be_turned_off(tmp_path, capfd):
    store = EpisodeStore.create(tmp_path, counter_info())
    collect(CounterEnv, store, 1, info_keys=("now",), progress=False)
    assert capfd.readouterr() == ("", "")
    collect(CounterEnv, store, 2, info_keys=("now",), progress=True)
    assert "frames/s" in capfd.readouterr().err


def test_describe_takes_names_and_shapes_from_the_env():
    info = dataset_info_of(CounterEnv(), {"name": "counter"}, seed=3, policy="sticky")
    assert (info.frame_shape, info.action_names) == (FRAME_SHAPE, CounterEnv.action_names)
    assert (info.env, info.seed, info.policy) == ({"name": "counter"}, 3, "sticky")
    with pytest.raises(ValueError, match="uint8 observations"):
        dataset_info_of(gymnasium.make("CartPole-v1"), {}, seed=0)


def test_a_policy_is_a_function_of_its_generator():
    for name in ("random", "sticky"):
        runs = [make_policy(name, CounterEnv().action_space, np.random.default_rng(s)) for s in (1, 1, 2)]
        first, again, other = ([policy(None) for _ in range(300)] for policy in runs)
        assert first == again != other
        assert set(first) == {0, 1, 2}


def test_sticky_keeps_an_action_for_hold_steps_on_average():
    policy = make_policy("sticky", gymnasium.spaces.Discrete(1000), np.random.default_rng(0), hold=5.0)
    actions = np.array([policy(None) for _ in range(20_000)])
    assert 4.7 < len(actions) / (1 + np.count_nonzero(np.diff(actions))) < 5.3


def test_a_policy_of_ones_own_sees_the_frame_before_its_action(tmp_path):
    store, _ = gather(tmp_path, 1, policy="tests.helpers_env:jump_on_even_steps")
    actions = store.read(0).actions
    assert (actions[::2] == 2).all()
    assert (actions[1::2] < 2).all()


@pytest.mark.parametrize("name", ["randon", "no_such_module:f", "os:no_such_function", "os:sep"])
def test_an_unknown_policy_is_refused_before_anything_runs(tmp_path, name):
    with pytest.raises(ValueError, match='random, sticky, "module:function" or'):
        gather(tmp_path, 1, policy=name)
    assert os.listdir(tmp_path) == ["dataset.json"]


def _seven(observation, rng, action_space):
    return 7


def test_an_action_outside_the_space_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected an action in Discrete\(3\), got 7"):
        gather(tmp_path, 1, policy=f"{__name__}:_seven")

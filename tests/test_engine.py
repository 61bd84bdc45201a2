"""Environments are programs of others: each fault of one is named in one line, and costs what it spoils alone."""

import signal
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Tuple

from tests.helpers_env import CounterEnv, counter_info
from worldmodel.data.check.check import check_env
from worldmodel.data.collect.collect import collect, dataset_info_of
from worldmodel.data.collect.engine import EngineError
from worldmodel.data.episodes.repair import find_damaged
from worldmodel.data.episodes.store import EpisodeStore


class LyingEnv(CounterEnv):
    """Changes what `step` or `reset` returns: `change` maps the values to others, from step 3 on."""

    def __init__(self, change=None, first=None):
        super().__init__()
        self.change, self.first = change, first

    def reset(self, **options):
        values = super().reset(**options)
        return values if self.first is None else self.first(values)

    def step(self, action):
        values = super().step(action)
        return values if self.change is None or self.now < 4 else self.change(values)


def put(place, value):
    """The values with another one at this place; a function is called with the one that is there."""
    return lambda values: (*values[:place], value(values[place]) if callable(value) else value, *values[place + 1 :])


def gather(folder: Path, make_env, episodes=1, *, retries=0, workers=0, **settings):
    values = {"seed": 5, "info_keys": ("now",), **settings}
    store = EpisodeStore.create(folder, counter_info(**values))
    return store, collect(make_env, store, episodes, progress=False, retries=retries, workers=workers, **values)


def problem(folder: Path, make_env, **settings) -> str:
    """What the report says of the one episode that was tried."""
    store, report = gather(folder, make_env, **settings)
    (failure,) = report.failures
    assert store.indices == () and "\n" not in failure.problem
    return failure.problem


FRAME = r"observation: expected uint8 \(6, 5, 3\) as the observation space says, got "


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, lambda x: x[:5], FRAME + r"uint8 \(5, 5, 3\)"),
        (0, lambda x: x / 255, FRAME + r"float64 \(6, 5, 3\)"),
        (0, lambda x: x.astype(np.int64), FRAME + r"int64"),
        (0, lambda x: x[..., 0], FRAME + r"uint8 \(6, 5\)"),
        (0, lambda x: {"image": x}, FRAME + r"object \(\)"),
        (0, None, FRAME + r"object \(\)"),
        (1, np.nan, "reward nan: expected a finite number"),
        (1, np.inf, "reward inf: expected a finite number"),
        (1, -1e39, r"reward -1e\+39: expected a finite number that float32 can hold"),
        (1, np.float64(1e39), r"reward 1e\+39: expected"),
        (1, np.float32(np.nan), "reward nan: expected"),
        (1, 10**400, "reward 10+: expected a finite number"),
        (1, None, "reward: expected one number, got NoneType None"),
        (1, "1.5", "reward: expected one number, got str '1.5'"),
        (1, 1j, "reward: expected one number, got complex 1j"),
        (1, [1.0], r"reward: expected one number, got list \[1.0\]"),
        (1, np.ones(1), r"reward: expected one number, got ndarray of shape \(1,\)"),
        (1, np.ones((2, 2)), r"reward: expected one number, got ndarray of shape \(2, 2\)"),
        (2, None, "terminated: expected True or False, got NoneType None"),
        (2, "False", "terminated: expected True or False, got str 'False'"),
        (2, 2, "terminated: expected True or False, got int 2"),
        (2, 0.5, "terminated: expected True or False, got float 0.5"),
        (2, np.array([True, False]), r"terminated: expected True or False, got ndarray of shape \(2,\)"),
        (3, {}, r"truncated: expected True or False, got dict \{\}"),
        (3, np.zeros(1, bool), r"truncated: expected True or False, got ndarray of shape \(1,\)"),
        (4, None, "info: expected a dict, got NoneType None"),
        (4, [("now", 4)], "info: expected a dict, got list"),
    ],
)
def test_what_no_step_may_return_is_named_with_its_step(tmp_path, place, value, words):
    with warnings.catch_warnings(action="error"):
        found = problem(tmp_path, partial(LyingEnv, put(place, value)))
    assert_found(rf"step 3: {words}", found)


def assert_found(pattern, text):
    with pytest.raises(ValueError, match=pattern):
        raise ValueError(text)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, lambda x: np.asfortranarray(x)),
        (0, lambda x: np.repeat(x, 2, axis=0)[::2]),
        (0, lambda x: x[::-1][::-1]),
        (0, lambda x: np.lib.stride_tricks.as_strided(x, writeable=False)),
        (1, lambda x: np.float64(x)),
        (1, lambda x: np.float32(x)),
        (1, lambda x: np.array(x)),
        (1, lambda x: int(x)),
        (2, lambda x: np.bool_(x)),
        (2, lambda x: int(x)),
        (2, lambda x: np.array(x)),
        (3, lambda x: np.uint8(x)),
    ],
)
def test_what_means_the_same_is_stored_the_same(tmp_path, place, value):
    expected, _ = gather(tmp_path / "a", CounterEnv)
    store, report = gather(tmp_path / "b", partial(LyingEnv, put(place, value)))
    assert report.failures == () and store.fingerprint() == expected.fingerprint()


def test_a_reward_of_true_is_one(tmp_path):
    store, _ = gather(tmp_path, partial(LyingEnv, put(1, True)))
    assert (store.rewards(0)[3:] == 1).all()


def raising(error):
    def change(values):
        raise error

    return change


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("error", [GeneratorExit("out"), StopIteration("out"), BaseException("out"), SystemExit(0)])
def test_errors_that_steer_python_itself_are_an_engines_like_all_others(tmp_path, error, workers):
    found = problem(tmp_path, partial(LyingEnv, raising(error)), workers=workers)
    assert_found(rf"^step raised {type(error).__name__}: (out|0) \(.*, in step 3\)", found)


def test_the_words_of_an_engine_steer_no_terminal(tmp_path):
    found = problem(tmp_path, partial(LyingEnv, raising(ValueError("a\x1b[31m\x00\u202e\nb"))))
    assert r"a\x1b[31m\x00\u202e b" in found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: (*values[:3], values[4]), "got 4 values; an environment of the old Gym API"),
        (lambda values: values[0], r"got ndarray of shape \(6, 5, 3\)"),
        (lambda values: None, "got NoneType None"),
        (lambda values: dict(enumerate(values)), "got dict"),
    ],
)
def test_a_step_of_other_values_is_named(tmp_path, change, words):
    expected = r"step 3: expected to return \(observation, reward, terminated, truncated, info\), "
    assert_found(expected + words, problem(tmp_path, partial(LyingEnv, change)))


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (lambda values: values[0], r"\(observation, info\), got ndarray of shape"),
        (lambda values: values[0][:2], r"\(observation, info\), got ndarray of shape \(2, 5, 3\)"),
        (lambda values: (*values, 0), r"\(observation, info\), got 3 values"),
        (put(0, lambda x: x.astype(np.float32)), FRAME + "float32"),
        (put(1, None), "info: expected a dict, got NoneType"),
    ],
)
def test_a_reset_of_other_values_is_named(tmp_path, first, words):
    assert_found("reset: .*" + words, problem(tmp_path, partial(LyingEnv, None, first)))


class Odd(BaseException):
    """No Exception, as some libraries have them."""


class Interrupted(KeyboardInterrupt):
    """Not the person's Ctrl-C."""


class Speechless(Exception):
    def __str__(self):
        raise RuntimeError


FAULTS = [KeyError("no\nkey"), SystemExit(3), SystemExit(), SystemExit("bye"), Odd("odd"), Interrupted(), Speechless()]


class RaisingEnv(CounterEnv):
    """Raises an error in one of its calls."""

    def __init__(self, where, error):
        super().__init__()
        self.where, self.error = where, error
        self.fail("make")

    def fail(self, where):
        if where == self.where:
            raise self.error

    def reset(self, **options):
        self.fail("reset")
        return super().reset(**options)

    def step(self, action):
        self.fail("step")
        return super().step(action)

    def close(self):
        self.fail("close")


@pytest.mark.parametrize("where", ["make", "reset", "step"])
@pytest.mark.parametrize("error", FAULTS, ids=lambda error: repr(error)[:20])
def test_whatever_an_engine_raises_costs_a_try_and_is_named(tmp_path, where, error):
    found = problem(tmp_path, partial(RaisingEnv, where, error))
    assert found.startswith(f"{where} raised {type(error).__name__}: ") and "test_engine.py" in found


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: repr(error)[:20])
@pytest.mark.parametrize("fresh_env", [True, False])
def test_an_error_on_closing_is_printed_once_and_costs_nothing(tmp_path, capfd, error, fresh_env):
    store = EpisodeStore.create(tmp_path, counter_info())
    make_env = partial(RaisingEnv, "close", error)
    report = collect(make_env, store, 3, info_keys=("now",), progress=False, fresh_env=fresh_env)
    assert report.episodes == 3 and store.indices == (0, 1, 2)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("close raised") and line.endswith("the episodes are complete nevertheless")


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(128 + signal.SIGTERM)])
def test_what_asks_this_process_to_stop_stops_it(tmp_path, stop):
    with pytest.raises(type(stop)):
        gather(tmp_path, partial(RaisingEnv, "step", stop))


def test_workers_survive_engines_that_exit_and_tell_of_closing(tmp_path, capfd):
    report = gather(tmp_path / "a", partial(RaisingEnv, "step", SystemExit(3)), workers=1)[1]
    assert "step raised SystemExit: 3" in report.failures[0].problem
    report = gather(tmp_path / "b", partial(RaisingEnv, "close", KeyError("engine")), 2, workers=1)[1]
    assert report.episodes == 2 and "close raised KeyError" in capfd.readouterr().err


class Property:
    """Raises when it is asked for."""

    def __get__(self, instance, owner):
        if instance is None:
            return self
        raise KeyError("not yet")


@pytest.mark.parametrize("name", ["observation_space", "action_space", "action_names"])
def test_an_attribute_that_raises_is_named(name):
    class Shy(gymnasium.Env):
        observation_space = Box(0, 255, (6, 5, 3), np.uint8)
        action_space = Discrete(3)

    setattr(Shy, name, Property())
    with pytest.raises(EngineError, match=f"{name} raised KeyError: 'not yet'"):
        dataset_info_of(Shy(), {}, seed=0)


@pytest.mark.parametrize("space", [Dict(a=Discrete(2)), Tuple([Discrete(2)])])
def test_actions_without_an_encoding_are_refused_by_a_value_error(space):
    env = CounterEnv()
    env.action_space = space
    with pytest.raises(ValueError, match="env: action space: expected Discrete, MultiDiscrete"):
        dataset_info_of(env, {}, seed=0)


@pytest.mark.parametrize("names", [(1, 2, 3), 5])
def test_action_names_that_are_no_words_are_named(names):
    env = CounterEnv()
    env.action_names = names
    with pytest.raises(EngineError, match="action_names"):
        dataset_info_of(env, {}, seed=0)


@pytest.mark.parametrize(("value", "words"), [("full", "'full'"), (None, "None"), ([[1], [1, 2]], r"\[\[1\]")])
def test_an_info_that_is_no_number_is_named(tmp_path, value, words):
    with pytest.raises(ValueError, match=rf"info_keys: expected numbers in 'now', got {words}.* with frame 4"):
        gather(tmp_path, partial(LyingEnv, put(4, {"now": value})))


def test_an_info_that_changes_its_shape_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"expected 'now' in one shape with every frame, got \[\(\), \(2,\)\]"):
        gather(tmp_path, partial(LyingEnv, put(4, {"now": np.zeros(2)})))


def test_infos_may_be_nan_or_infinite(tmp_path):
    store, _ = gather(tmp_path, partial(LyingEnv, put(4, {"now": np.inf})))
    assert store.read(0).infos["now"][-1] == np.inf and find_damaged(store) == {}


class FreeEnv(CounterEnv):
    def __init__(self):
        super().__init__()
        self.action_space = Box(-np.inf, np.inf, (2,), np.float32)

    def _show(self, action):
        return super()._show(0)

    def step(self, action):
        return super().step(0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_actions_that_are_no_numbers_stop_with_episode_and_step(tmp_path, value):
    FREE["value"] = value
    info = dataset_info_of(FreeEnv(), {}, seed=0, policy=f"{__name__}:free")
    store = EpisodeStore.create(tmp_path, info)
    with pytest.raises(ValueError, match=r"policy .*: episode 0, step 0: expected an action in Box.*got array"):
        collect(FreeEnv, store, 1, policy=info.policy, progress=False)


FREE = {"value": 0.0}


def free(observation, rng, action_space):
    return np.array([0.0, FREE["value"]], np.float32)


def test_a_reward_that_is_none_costs_its_episode_alone(tmp_path):
    expected, _ = gather(tmp_path / "a", CounterEnv, 4)
    bad = expected.header(2).seed

    class Sometimes(CounterEnv):
        def step(self, action) -> Any:
            values = super().step(action)
            return put(1, np.nan)(values) if self.seed == bad and self.now == 8 else values

    store, report = gather(tmp_path / "b", Sometimes, 4, retries=1)
    assert store.indices == (0, 1, 3)
    assert [(each.index, each.problem) for each in report.failures] == [
        (2, "step 7: reward nan: expected a finite number that float32 can hold")
    ]


# --- hopeless work ---


class Counting(RaisingEnv):
    resets = 0

    def reset(self, **options):
        type(self).resets += 1
        return super().reset(**options)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_env_that_always_fails_is_given_up_after_a_dozen_attempts(tmp_path, capfd, workers):
    Counting.resets = 0
    store = EpisodeStore.create(tmp_path, counter_info())
    with pytest.raises(EngineError, match=r"the first 12 attempts all failed.*at episode \d+: reset raised KeyError"):
        collect(partial(Counting, "reset", KeyError("no display")), store, 200, info_keys=("now",), workers=workers)
    assert workers or Counting.resets == 12
    assert capfd.readouterr().err.count("no display") == 1


def test_few_episodes_that_fail_beside_whole_ones_are_listed(tmp_path):
    gather(tmp_path, CounterEnv, 3)
    _, report = gather(tmp_path, partial(RaisingEnv, "reset", KeyError("x")), 9, retries=2)
    assert [each.index for each in report.failures] == [3, 4, 5, 6, 7, 8]
    with pytest.raises(EngineError, match="first 12 attempts"):
        gather(tmp_path, partial(RaisingEnv, "reset", KeyError("x")), 30, retries=2)


def test_one_success_is_enough_to_go_on(tmp_path):
    class Lucky(CounterEnv):
        resets = 0

        def reset(self, **options):
            Lucky.resets += 1
            if Lucky.resets != 10:
                raise KeyError("engine")
            return super().reset(**options)

    store, report = gather(tmp_path, Lucky, 30)
    assert store.indices == (9,) and len(report.failures) == 29


# --- what a report says ---


def test_the_report_counts_cut_and_rewarded_episodes(tmp_path):
    class Stingy(CounterEnv):
        def step(self, action) -> Any:
            return put(1, lambda reward: float(reward > 7))(super().step(action))

    settings: dict[str, Any] = {"max_steps": 8, "info_keys": ("now",)}
    store = EpisodeStore.create(tmp_path, counter_info(**settings))
    report = collect(partial(CounterEnv, 7, 9), store, 8, progress=False, **settings)
    assert report.cut == sum(store.read(i).truncated for i in range(8)) and 0 < report.cut < 8
    assert report.rewarded == 8
    settings["max_steps"] = 7
    other = EpisodeStore.create(tmp_path / "other", counter_info(**settings))
    report = collect(Stingy, other, 2, progress=False, **settings)
    assert (report.cut, report.rewarded) == (2, 0)


def test_an_env_that_truncates_at_max_steps_itself_is_not_cut(tmp_path):
    store, report = gather(tmp_path, partial(LyingEnv, lambda v: (*v[:2], False, True, v[4])), max_steps=4)
    assert (report.cut, store.header(0).truncated, store.length(0)) == (0, True, 5)


class ClosesNever(CounterEnv):
    def close(self):
        time.sleep(1000)


@pytest.mark.slow
def test_an_env_whose_closing_never_ends_is_described_and_collected_from(tmp_path):
    seen = check_env(ClosesNever, {}, workers=1, timeout=60, seed=5, played=0)
    assert seen.info.frame_shape == (6, 5, 3)
    store, report = gather(tmp_path, ClosesNever, workers=1)
    assert report.failures == () and store.indices == (0,)

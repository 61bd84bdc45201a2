"""DeepMind Lab: every call against a stand-in that is as strict as the documented API, and one on the real engine."""

import gc
import pickle
import sys

import fake_deepmind_lab
import numpy as np
import pytest
from gymnasium.spaces import Discrete
from gymnasium.utils.env_checker import check_env

from worldmodel import envs
from worldmodel.envs.dmlab import DmlabConfig, LevelCache
from worldmodel.envs.dmlab_tables import ACTION_SETS, DMLAB30
from worldmodel.nn.actions import ActionEncoder


@pytest.fixture
def lab(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepmind_lab", fake_deepmind_lab.module())
    opened = []

    def make(**settings):
        opened.append(envs.make(DmlabConfig(**settings)))
        return opened[-1]

    yield make
    for env in opened:
        env.close()


def test_gymnasiums_own_checker_finds_nothing_to_say(lab):
    check_env(lab(), skip_render_check=True)


def test_the_engine_hears_level_size_seeds_and_options_as_strings(lab):
    env = lab(height=24, width=32, supersample=3, mixer_seed=7, renderer="hardware", options={"pickups": True})
    assert env._engine.calls["level"] == "contributed/dmlab30/explore_object_locations_small"
    assert env._engine.calls["renderer"] == "hardware" and env._engine.calls["cache"] is None
    assert env._engine.calls["config"] == {
        "width": "96", "height": "72", "fps": "60", "mixerSeed": "7", "pickups": "true",
    }  # fmt: skip
    assert env.reset(seed=1)[0].shape == (24, 32, 3)


def test_a_seed_reaches_the_engine_and_every_reset_asks_for_the_same_episode(lab):
    env = lab(episode=2)
    for seed in (5, 2**40, 5, None, None):
        env.reset(seed=seed)
    episodes, seeds = zip(*env._engine.resets, strict=True)
    assert set(episodes) == {2} and seeds[0] == seeds[2] and len(set(seeds)) == 4


@pytest.mark.parametrize("name", ACTION_SETS)
def test_a_named_action_is_its_row_held_for_frame_skip_engine_frames(lab, name):
    env = lab(actions=name, frame_skip=3)
    for action, (action_name, move) in enumerate(ACTION_SETS[name]):
        env.reset(seed=0)
        env.step(action)
        assert env.action_names[action] == action_name and env._engine.moves[-1] == (move, 3)
    assert env.action_space.n == len(env.action_names) == int(name[-1]) + 10 * (name == "popart15")


def test_raw_actions_are_the_engines_own_and_fit_the_action_encoder(lab):
    env = lab(actions="raw7")
    env.reset(seed=0)
    env.step(np.array([-512, 3, 1, -1, 0, 1, 0], np.int32))
    assert env._engine.moves == [((-512, 3, 1, -1, 0, 1, 0), 4)]
    assert ActionEncoder(env.action_space).width == 7
    with pytest.raises(ValueError, match="action: expected one in"):
        env.step(np.array([0, 0, 2, 0, 0, 0, 0], np.int32))


@pytest.mark.parametrize("strided", [lambda x: np.repeat(x, 2)[::2], lambda x: x[::-1].copy()[::-1]])
def test_raw_actions_with_strides_arrive_as_they_are(lab, strided):
    env = lab(actions="raw7")
    env.reset(seed=0)
    env.step(strided(np.array([-512, 3, 1, -1, 0, 1, 0], np.int32)))
    assert env._engine.moves == [((-512, 3, 1, -1, 0, 1, 0), 4)]


def test_a_closed_engine_is_not_reached_any_more(lab):
    env = lab()
    env.reset(seed=0)
    env.close()
    for call in (lambda: env.reset(seed=0), lambda: env.step(0)):
        with pytest.raises(RuntimeError, match="this environment is closed"):
            call()
    assert env.render().shape == (64, 64, 3)


@pytest.mark.parametrize("folder", ["", "contributed/dmlab30/"])
def test_a_level_held_out_for_evaluation_needs_a_word(lab, folder):
    level = f"{folder}rooms_collect_good_objects_test"
    words = r"env\.options\.allowHoldOutLevels=true, or choose rooms_collect_good_objects_train"
    for options in ({}, {"allowHoldOutLevels": False}):
        with pytest.raises(ValueError, match=words):
            lab(level=level, options=options)
    env = lab(level=level, options={"allowHoldOutLevels": True})
    assert env._engine.calls["config"]["allowHoldOutLevels"] == "true"


@pytest.mark.parametrize(("seed", "fits"), [(2**32 - 1, True), (2**32, False), (-1, False)])
def test_a_mixer_seed_has_32_bits(lab, seed, fits):
    if fits:
        assert lab(mixer_seed=seed)._engine.calls["config"]["mixerSeed"] == str(seed)
    else:
        with pytest.raises(ValueError, match="mixer_seed: expected"):
            lab(mixer_seed=seed)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mixerSeed": 3}, r"mixerSeed is set by env\.mixer_seed"),
        ({"width": 3}, r"width is set by env\.width"),
        ({"x": None}, r"options\.x: expected a word, a number, true or false, got None"),
        ({"x": [1]}, r"options\.x: expected a word"),
    ],
)
def test_options_that_are_none_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        DmlabConfig(options=options)


def test_a_pickled_copy_has_an_engine_of_its_own(lab):
    env = lab(mixer_seed=5)
    env.reset(seed=1)
    content, frame = pickle.dumps(env), env.render()
    with pytest.raises(RuntimeError, match="one per process"):
        pickle.loads(content)
    env.close()
    again = pickle.loads(content)
    assert np.array_equal(again.render(), frame) and again._engine is not env._engine
    assert np.array_equal(again.reset(seed=1)[0], frame)
    again.close()
    assert again._engine._state == "closed"
    lab().reset(seed=0)


def test_an_env_that_nobody_closed_gives_way_to_the_next(lab):
    envs.make(DmlabConfig())
    gc.collect()
    lab().reset(seed=0)


def test_the_last_frame_stands_when_the_episode_has_ended(lab):
    env = lab(frame_skip=4)  # the stand-in's episodes have 10 engine frames
    env.reset(seed=0)
    steps = [env.step(0) for _ in range(3)]
    assert [step[1] for step in steps] == [4.0, 8.0, 12.0] and [step[2] for step in steps] == [False, False, True]
    assert np.array_equal(steps[1][0], steps[2][0]) and not np.array_equal(steps[0][0], steps[1][0])
    assert env.reset(seed=1)[0][0, 0, 2] == 0  # and the next episode begins anew


def test_a_second_engine_in_one_process_is_refused_until_the_first_is_closed(lab):
    first = lab()
    with pytest.raises(RuntimeError, match=r"one per process: close\(\)"):
        lab()
    first.close()
    first.close()  # twice is allowed
    lab().reset(seed=0)


def test_an_engine_that_failed_to_start_blocks_nobody(lab):
    with pytest.raises(ValueError, match="Did you mean explore_object_locations_small"):
        lab(level="explore_object_location_small")
    lab(level="seekavoid_arena_01").reset(seed=0)


def test_without_the_module_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepmind_lab", None)
    with pytest.raises(ImportError, match=r"worldmodel\[dmlab\].*Bazel"):
        envs.make(DmlabConfig())


def test_a_level_written_to_the_cache_is_fetched_byte_for_byte(tmp_path):
    cache, level, copy = LevelCache(tmp_path / "cache"), tmp_path / "level.pk3", tmp_path / "copy.pk3"
    level.write_bytes(b"compiled")
    assert cache.fetch("maze/seed:1", str(copy)) is False and not copy.exists()
    cache.write("maze/seed:1", str(level))
    cache.write("maze/seed:1", str(level))
    assert cache.fetch("maze/seed:1", str(copy)) is True and copy.read_bytes() == b"compiled"
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_level_is_compiled_once_and_fetched_by_later_resets_and_later_engines(lab, tmp_path):
    compiled = []
    for _ in range(2):
        env = lab(level_cache=str(tmp_path))
        for seed in (1, 2, 1):
            env.reset(seed=seed)
        compiled.append(len(env._engine.compiled))
        env.close()
    assert compiled == [2, 0] and len(list(tmp_path.iterdir())) == 2


def test_the_thirty_levels_are_known_two_of_them_as_a_pair():
    assert len(set(DMLAB30)) == 32 and "rooms_watermaze" in DMLAB30


def test_the_real_engine_plays_the_same_episode_twice():
    pytest.importorskip("deepmind_lab")
    env = envs.make(DmlabConfig(level="seekavoid_arena_01"))
    check_env(env, skip_render_check=True)
    assert isinstance(env.action_space, Discrete)
    played = []
    for _ in range(2):
        played.append([env.reset(seed=3)[0].tobytes()])
        played[-1] += [env.step(i % env.action_space.n)[0].tobytes() for i in range(50)]
    env.close()
    assert played[0] == played[1] and len(set(played[0])) > 20

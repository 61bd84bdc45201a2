"""Control: full marks for a world that knows the maze, none for one that is deaf."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from tests.helpers_dreams import Deaf, Frozen, TrueMaze, Witness, broken, maze_store, noise_store
from tests.helpers_models import small_world
from worldmodel.evaluate.sections.action_recovery import (
    InverseConfig,
    accuracy,
    action_recovery,
    balanced_accuracy,
    train_inverse_dynamics,
)
from worldmodel.evaluate.sections.charts import confusion_table
from worldmodel.evaluate.sections.control import ControlConfig, controllability, counterfactuals
from worldmodel.evaluate.testbed.dream_clips import DreamSettings, WorldProtocol, clips_of, random_actions
from worldmodel.evaluate.testbed.simulator import is_reproducible, moments, true_frames_after
from worldmodel.world import WorldInfo

SMALL = ControlConfig(clips=24, steps=(1, 4, 6), branches=24, walk=5), DreamSettings(context=3)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return maze_store(tmp_path_factory.mktemp("maze") / "episodes", episodes=24, steps=40)


def test_random_actions_cost_a_world_that_follows_them_and_nothing_one_that_does_not(store):
    found = controllability(TrueMaze(), store, store.indices, *SMALL).metrics["control/delta_psnr@4"]
    assert found.low > 20  # the dream is the truth to the last bit: 148 dB by the floor of psnr
    for deaf in (Deaf(), Frozen()):
        metrics = controllability(deaf, store, store.indices, *SMALL).metrics
        assert all((x.mean, x.low, x.high) == (0, 0, 0) for x in metrics.values()) and len(metrics) == 3


def test_delta_psnr_is_the_difference_of_the_decibels_of_mean_errors(store):
    section = controllability(TrueMaze(), store, store.indices, *SMALL)
    right, wrong = (section.curves[f"control/delta_psnr/{name}"].mean for name in ("right_actions", "wrong_actions"))
    assert section.curves["control/delta_psnr"].mean == pytest.approx(np.subtract(right, wrong))
    assert section.metrics["control/delta_psnr@4"].mean == pytest.approx(right[3] - wrong[3])
    assert {metric.resampled for metric in section.metrics.values()} == {"episodes"}
    assert section.images["control/random_actions"].shape[2] == 3


def test_the_true_future_of_another_action_is_known_to_the_true_world_alone():
    metrics = counterfactuals(TrueMaze(), Witness, *SMALL).metrics
    assert metrics["control/counterfactual_gain@4"].low > 20
    deaf = counterfactuals(Deaf(), Witness, *SMALL)
    assert all((x.mean, x.low, x.high) == (0, 0, 0) for x in deaf.metrics.values()) and len(deaf.metrics) == 3
    assert deaf.curves["control/counterfactual_truths"].steps == (1, 2, 3, 4, 5, 6)


def test_the_same_seed_measures_the_same_and_settings_without_sense_are_refused(store):
    once, again = (controllability(TrueMaze(), store, store.indices, *SMALL) for _ in range(2))
    assert once.metrics == again.metrics and once.curves == again.curves
    once, again = (counterfactuals(TrueMaze(), Witness, *SMALL) for _ in range(2))
    assert once.metrics == again.metrics and once.curves == again.curves
    cases: list[dict[str, Any]] = [{"steps": ()}, {"steps": (0, 4)}, {"clips": 0}]
    for wrong in cases:
        with pytest.raises(ValueError, match=r"(steps|clips): expected at least"):
            ControlConfig(**wrong)


def test_counterfactuals_say_why_they_are_left_out():
    noise = np.random.default_rng(0)
    shaky = broken(lambda frame: frame ^ noise.integers(0, 2, frame.shape, dtype=np.uint8))
    (note,) = counterfactuals(TrueMaze(), shaky, *SMALL).notes
    assert "do not lead to the same frames" in note
    world = TrueMaze()
    world.info = WorldInfo((16, 16, 3), Box(-1, 1))
    (note,) = counterfactuals(world, Witness, *SMALL).notes
    assert "discrete actions" in note


def test_a_world_without_actions_has_no_control_to_measure(store):
    world = TrueMaze()
    world.info = WorldInfo((16, 16, 3), None)
    assert "no actions" in controllability(world, store, store.indices, *SMALL).notes[0]


def test_a_moment_can_be_come_back_to_and_its_future_is_that_of_the_actions():
    env = Witness()
    found = moments(env, 3, 7, seed=0)
    assert len(found) == 3 and all(len(m.frames) == 8 and len(m.actions) == 7 for m in found)
    assert is_reproducible(env, found[1])
    actions = np.array([1, 3, 4])
    env.reset(seed=found[1].seed)
    frames = [env.step(int(a))[0] for a in [*found[1].actions, *actions]]
    assert np.array_equal(true_frames_after(env, found[1], actions), np.stack(frames[-3:]))


def test_walks_that_reach_an_end_are_no_moments():
    class Short(Witness):
        def step(self, action):
            frame, reward, _, truncated, info = super().step(action)
            return frame, reward, self._steps >= 5, truncated, info

    assert moments(Short(), 2, 6, seed=0) == [] and len(moments(Short(), 2, 4, seed=0)) == 2
    (note,) = counterfactuals(TrueMaze(), Short, *SMALL).notes
    assert "too short" in note


def test_clips_start_and_end_in_whole_latents_and_shorten_with_the_episodes(store):
    world = small_world(time_stride=2)
    assert world.frames_per_step == 2 and isinstance(world, WorldProtocol)
    clips = clips_of(world, store, [0, 1, 2], context=4, horizon=7, clips=5, seed=0)
    assert clips.given.shape[1] == 3 and clips.truth.shape[1] == 6 and clips.actions.shape == (5, 6)
    assert clips_of(TrueMaze(), store, [0, 1], context=3, horizon=999, clips=4, seed=0).truth.shape[1] == 38
    with pytest.raises(ValueError, match="too few to dream after"):
        clips_of(TrueMaze(), store, [0, 1], context=41, horizon=5, clips=4, seed=0)


def test_random_actions_are_uniform_and_held_as_long_as_asked():
    brief, long = (random_actions(Discrete(4, start=2), 5, 2000, seed=0, hold=hold) for hold in (1.0, 5.0))
    assert np.bincount(brief.ravel(), minlength=6)[2:] == pytest.approx(2500, rel=0.1)
    assert (np.diff(brief) == 0).mean() == pytest.approx(0.25, abs=0.02)
    assert (np.diff(long) == 0).mean() == pytest.approx(0.8 + 0.2 / 4, abs=0.02)
    assert random_actions(None, 2, 3, seed=0).tolist() == [[0, 0, 0]] * 2


# --- naming actions


@pytest.fixture(scope="module")
def inverse_config():
    return InverseConfig(steps=300, batch_size=8, learning_rate=4e-3, width=16, clips=24, horizon=10)


@pytest.mark.slow
def test_actions_are_recovered_from_true_dreams_as_from_real_clips_and_not_from_deaf_ones(store, inverse_config):
    train, held_out = list(range(20)), [20, 21, 22, 23]
    true = action_recovery(TrueMaze(), store, train, held_out, inverse_config, DreamSettings(3)).metrics
    assert true["control/balanced_action_accuracy_real"].low > 0.4  # of seven actions
    ratio = true["control/action_accuracy_ratio"]
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx((1, 1, 1))
    deaf = action_recovery(Deaf(), store, train, held_out, inverse_config, DreamSettings(3)).metrics
    assert deaf["control/balanced_action_accuracy_imagined"].mean < 0.35
    assert deaf["control/balanced_action_accuracy_ratio"].high < 0.7


def test_the_network_is_a_function_of_its_seed_and_touches_no_other_chance(store, inverse_config):
    config = InverseConfig(steps=3, batch_size=2)
    state = torch.get_rng_state()
    one, two = (train_inverse_dynamics(store, [0, 1], config, seed=0) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_accuracies_are_those_counted_by_hand():
    hits, taken = np.array([[8.0, 1.0, 0.0]]), np.array([[10.0, 2.0, 0.0]])
    assert accuracy(hits, taken) == pytest.approx(9 / 12)
    assert balanced_accuracy(hits, taken) == pytest.approx((0.8 + 0.5) / 2)  # the third was never taken


def test_continuous_actions_are_not_named(store, inverse_config):
    world = TrueMaze()
    world.info = WorldInfo((16, 16, 3), Box(-1, 1))
    (note,) = action_recovery(world, store, [0], [1], inverse_config).notes
    assert "discrete actions" in note


def test_the_confusion_table_grows_with_the_actions():
    two, four = (confusion_table(np.eye(n), [f"a{i}" for i in range(n)], "real") for n in (2, 4))
    assert four.shape[0] > two.shape[0] and two.dtype == np.uint8 and two.shape[2] == 3


@pytest.mark.parametrize("stride", [1, 2])
def test_a_real_world_is_measured_through_its_latents(stride, tmp_path):
    world, store = small_world(stride), noise_store(tmp_path / "episodes")
    config = ControlConfig(clips=3, steps=(1, 5))
    section = controllability(world, store, [0, 1], config, DreamSettings(4))
    assert section.curves["control/delta_psnr"].steps == tuple(range(1, 6 if stride == 1 else 5))
    assert section.metrics["control/delta_psnr@1"].count == 3
    found = action_recovery(world, store, [0], [1], InverseConfig(steps=2, clips=3, horizon=5), DreamSettings(4))
    assert 0 <= found.metrics["control/action_accuracy_imagined"].mean <= 1

"""Memory: what a world that knows the maze sees when it turns back, and what a broken one does."""

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Discrete

from tests.helpers_dreams import Deaf, Frozen, TrueMaze, Witness, broken
from worldmodel.evaluate.sections.memory import MemoryConfig, full_turn, turning_back
from worldmodel.evaluate.testbed.dream_clips import DreamSettings
from worldmodel.evaluate.testbed.simulator import moments
from worldmodel.world import WorldInfo

SMALL = MemoryConfig(scenes=6, walk=5, turns=(1, 4)), DreamSettings(context=3)


def test_the_maze_is_seen_again_after_turning_back_and_after_a_full_turn():
    section = turning_back(TrueMaze(), Witness, *SMALL)
    metrics = section.metrics
    assert metrics["memory/full_turn_steps"].mean == 24  # of 15 degrees
    for name in ("return@2", "return@8", "full_turn", "full_turn_real"):
        assert metrics[f"memory/{name}"].mean > 100
    for name in ("gain@2", "gain@8", "full_turn_gain"):
        assert metrics[f"memory/{name}"].low > 50
    assert section.curves["memory/return_real"].steps == (2, 8) and section.notes == []


def test_a_world_that_stands_still_remembers_but_one_that_turns_on_does_not():
    still = turning_back(Frozen(), Witness, *SMALL).metrics
    assert still["memory/return@8"].mean > 100  # the view is indeed the first one: control is measured elsewhere
    deaf = turning_back(Deaf(), Witness, *SMALL)
    assert deaf.metrics["memory/return@8"].mean < 30 and deaf.metrics["memory/gain@8"].mean < 10
    assert max(deaf.curves["memory/return_to_first"].mean) < 30
    assert deaf.metrics["memory/full_turn"].mean > 100  # turning left is all that it does


def test_the_floor_is_the_mean_error_to_the_views_of_all_other_scenes():
    section = turning_back(Frozen(), Witness, *SMALL)
    views = [moment.frames[-1].astype(float) for moment in moments(Witness(), 6, 5, seed=0)]
    pairs = [np.square(a - b).mean() for i, a in enumerate(views) for j, b in enumerate(views) if i != j]
    expected = 10 * np.log10(255**2 / np.mean(pairs))
    assert section.curves["memory/another_view"].mean == pytest.approx([expected, expected], rel=1e-6)


def test_images_and_clips_show_the_way_there_and_back():
    section = turning_back(TrueMaze(), Witness, *SMALL)
    assert section.clips["memory/turn_and_back"].shape == (9, 16, 32, 3)
    assert section.clips["memory/full_turn"].shape == (25, 16, 32, 3)
    left, right = np.split(section.clips["memory/full_turn"], 2, axis=2)
    assert np.array_equal(left, right) and np.array_equal(left[0], left[-1])


def test_a_full_turn_is_found_by_looking():
    env = Witness()
    assert full_turn(TrueMaze(), env, moments(env, 3, 5, seed=0)) == 24


def test_turns_of_no_step_and_a_scene_alone_are_refused():
    cases: list[dict[str, Any]] = [{"turns": (0, 2)}, {"turns": ()}, {"scenes": 1}]
    for wrong in cases:
        with pytest.raises(ValueError, match=r"(turns|scenes): expected at least"):
            MemoryConfig(**wrong)


def test_what_cannot_be_measured_is_left_out_with_the_reason():
    world = TrueMaze()
    world.info = WorldInfo((16, 16, 3), Discrete(2), ("left", "right"))
    section = turning_back(world, Witness, *SMALL)
    assert section.metrics == {} and "turn_left" in section.notes[0] and "left, right" in section.notes[0]
    noise = np.random.default_rng(0)
    shaky = broken(lambda frame: frame ^ noise.integers(0, 2, frame.shape, dtype=np.uint8))
    assert "do not lead to the same frames" in turning_back(TrueMaze(), shaky, *SMALL).notes[0]


def test_turns_that_outlast_the_episodes_are_left_out_and_named():
    class Short(Witness):
        def step(self, action):
            frame, reward, ended, truncated, info = super().step(action)
            return frame, reward, ended, truncated or self._steps >= 10, info

    section = turning_back(TrueMaze(), Short, *SMALL)
    assert set(section.metrics) == {"memory/return@2", "memory/gain@2"}
    assert "left out, as most episodes end" in section.notes[0]

"""Buttons, sliders and keys of every kind of action, and what arrives from a page."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from worldmodel.info import WorldInfo
from worldmodel.play.controls import Controls, keys_of


@pytest.mark.parametrize(
    ("space", "value", "action"),
    [
        (Discrete(3, start=5), 6, 6),
        (MultiDiscrete([3, 2]), [2, 1], [2, 1]),
        (MultiBinary(3), [1, 0, 1], [1, 0, 1]),
        (Box(-1, 1, (2,)), [0.5, 7], [0.5, 1]),
        (Box(np.array([0, -np.inf]), np.array([255, np.inf]), dtype=np.float64), [3, -40], [3, -40]),
        (Box(0, 9, (2, 1), np.uint8), [3.4, 12], [[3], [9]]),
    ],
)
def test_every_kind_of_action_arrives_from_a_page(space, value, action):
    controls = Controls(WorldInfo((16, 24, 3), space))
    found = controls.action(value)
    assert found.tolist() == action and space.contains(found if space.shape else int(found))
    assert space.contains(controls.action(controls.first) if space.shape else int(controls.first))


@pytest.mark.parametrize("value", [None, "1", True, [1], 1.5, -1, 4, 1e300, float("nan"), {}, 10**400])
def test_what_is_no_action_is_refused_with_the_space(value):
    with pytest.raises(ValueError, match=r"action: expected .* Discrete\(4\), got"):
        Controls(WorldInfo((16, 24, 3), Discrete(4))).action(value)


def test_the_sliders_of_a_box_stay_near_the_data_and_have_ends():
    space = Box(np.array([-np.inf, 0, -1]), np.array([np.inf, np.inf, 1]), dtype=np.float64)
    axes = Controls(WorldInfo((16, 24, 3), space, action_scale=((10.0, 2.0), None, None))).to_json()["axes"]
    assert [(each["low"], each["high"]) for each in axes] == [(6, 14), (0, 2), (-1, 1)]
    assert [each["idle"] for each in axes] == [6, 0, 0]


def test_keys_follow_the_names_of_the_actions():
    maze = keys_of(("noop", "forward", "backward", "turn_left", "turn_right", "strafe_left", "strafe_right"))
    assert {key: maze[key] for key in ("ArrowUp", "ArrowLeft", "a", "d", "1", "7")} == {
        "ArrowUp": 1, "ArrowLeft": 3, "a": 5, "d": 6, "1": 0, "7": 6,
    }  # fmt: skip
    assert keys_of(("NOOP", "FIRE", "UP"))["Enter"] == 1 and keys_of(("LEFT",))["ArrowLeft"] == 0

"""Laws of worldmodel.actions: spaces survive JSON, vectors say which action it was."""

import json

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from worldmodel.actions import ActionEncoder, space_from_json, space_to_json

WIDE = Box(np.array([-2, -np.inf], np.float32), np.array([2, 3], np.float32))
SPACES = [
    Discrete(4),
    Discrete(3, start=-1),
    Discrete(5, dtype=np.int32),
    MultiDiscrete([3, 2]),
    MultiDiscrete([[3, 2], [4, 5]], start=[[1, 0], [0, 2]]),
    MultiBinary(3),
    MultiBinary([2, 3]),
    Box(-1, 1, (2, 2)),
    Box(np.int64(-(2**62) - 1), np.int64(2**62 + 1), (2,), np.int64),
    WIDE,
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_space_survives_json_with_its_dtype(space):
    back = space_from_json(json.loads(json.dumps(space_to_json(space), allow_nan=False)))
    assert back == space
    assert back.dtype == space.dtype


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_vectors_of_samples_have_the_width_that_the_encoder_names(space):
    space.seed(0)
    encoder = ActionEncoder(space)
    vectors = encoder.encode(np.array([[space.sample() for _ in range(5)] for _ in range(2)]))
    assert vectors.shape == (2, 5, encoder.width)
    assert np.isfinite(vectors).all()


def test_a_discrete_action_is_one_hot_counted_from_the_start_of_its_space():
    vectors = ActionEncoder(Discrete(3, start=-1)).encode(np.array([-1, 1]))
    np.testing.assert_array_equal(vectors, [[1, 0, 0], [0, 0, 1]])


def test_multi_discrete_actions_are_one_hots_side_by_side():
    vectors = ActionEncoder(MultiDiscrete([2, 3], start=[0, 5])).encode(np.array([1, 5]))
    np.testing.assert_array_equal(vectors, [0, 1, 1, 0, 0])


def test_a_box_is_scaled_where_both_bounds_are_finite_and_raw_elsewhere():
    vectors = ActionEncoder(WIDE).encode(np.array([[-2, -7], [0, 0], [2, 3]], np.float32))
    np.testing.assert_array_equal(vectors, [[-1, -7], [0, 0], [1, 3]])


def test_a_box_that_leaves_no_choice_encodes_as_zero():
    assert ActionEncoder(Box(2, 2, (1,))).encode(np.array([2.0], np.float32)).tolist() == [0]


def test_without_a_space_vectors_are_empty():
    assert ActionEncoder(None).encode(np.zeros((2, 7))).shape == (2, 7, 0)


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (Discrete(3), np.array([3])),
        (Discrete(3, start=1), np.array([0])),
        (Discrete(3), np.array([1.5])),
        (MultiDiscrete([2, 3]), np.array([0, 3])),
        (MultiDiscrete([2, 3]), np.array([0, 1, 1])),
        (MultiBinary(2), np.array([0, 2])),
        (Box(-1, 1, (2,)), np.array([0, 1.1])),
        (Box(-1, 1, (2,)), np.array([0, np.nan])),
    ],
)
def test_actions_outside_the_space_are_refused(space, action):
    with pytest.raises(ValueError, match="expected"):
        ActionEncoder(space).encode(action)


def test_other_spaces_are_refused_with_the_names_of_those_that_are_taken():
    space = Dict(a=Discrete(2))
    for refuse in (space_to_json, ActionEncoder):
        with pytest.raises(TypeError, match="MultiDiscrete, MultiBinary and Box"):
            refuse(space)
    with pytest.raises(TypeError, match="kind='text'"):
        space_from_json({"kind": "text"})

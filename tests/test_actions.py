"""Laws of worldmodel.nn.actions: spaces survive JSON, vectors say which action it was."""

import json

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from worldmodel.data.collect.policies import make_policy
from worldmodel.nn.action_scale import clip_to_space, fit_action_scale, plausible_actions
from worldmodel.nn.actions import ActionEncoder, action_labels, action_words, space_from_json, space_to_json

WIDE = Box(np.array([-2, -np.inf], np.float32), np.array([2, 3], np.float32))
SPACES = [
    Discrete(4),
    Discrete(3, start=-1),
    Discrete(5, dtype=np.int32),
    MultiDiscrete([3, 2]),
    MultiDiscrete(np.array([[3, 2], [4, 5]]), start=np.array([[1, 0], [0, 2]])),
    MultiBinary(3),
    MultiBinary([2, 3]),
    Box(-1, 1, (2, 2)),
    Box(np.int64(-(2**62) - 1), np.int64(2**62 + 1), (2,), np.int64),
    WIDE,
]


@pytest.mark.parametrize("space", [Box(-1, 1, (0,), np.float32), Box(-1, 1, (3, 0), np.float32)])
def test_actions_of_no_numbers_are_refused(space):
    with pytest.raises(ValueError, match="action space: expected actions of one number or more, got Box"):
        space_to_json(space)


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
        (Box(-np.inf, np.inf, (2,)), np.array([0, np.nan])),
        (Box(-np.inf, np.inf, (2,)), np.array([np.inf, 0])),
        (Box(0, np.inf, (2,)), np.array([0, np.inf])),
        (Box(-np.inf, np.inf, (2,)), np.array([0, 1e38])),
        (Box(-np.inf, np.inf, (1,), np.float64), np.array([-1e300])),
        (WIDE, np.array([0, -3e9])),
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


# --- scales by the data

FLOAT32, FLOAT64 = np.finfo(np.float32).max, np.finfo(np.float64).max
SHAM = {
    "infinite": Box(-np.inf, np.inf, (2,), np.float32),
    "half": Box(-np.inf, np.float32(FLOAT32), (2,), np.float32),
    "finfo": Box(-FLOAT32, FLOAT32, (2,), np.float32),
    "finfo64": Box(-FLOAT64, FLOAT64, (2,), np.float64),
    "1e30": Box(-1e30, 1e30, (2,), np.float32),
    "1e6": Box(-1e6, 1e6, (2,), np.float32),
    "int64": Box(np.iinfo(np.int64).min, np.iinfo(np.int64).max, (2,), np.int64),
}


@pytest.mark.parametrize("size", [1.0, 300.0, 1e-3, 1e6])
@pytest.mark.parametrize("name", SHAM)
def test_bounds_that_say_nothing_count_as_none_and_the_data_says_how_large_actions_are(name, size):
    space, rng = SHAM[name], np.random.default_rng(0)
    if space.dtype == np.int64:
        size *= 1000
    episodes = [(size * rng.normal((2, -1), 1, (50, 2))).clip(space.low, space.high).astype(space.dtype) for _ in "ab"]
    if name == "1e6" and size == 1e6:
        assert fit_action_scale(space, episodes) is None  # these bounds are used
        return
    encoder = ActionEncoder(space, fit_action_scale(space, episodes))
    vectors = np.concatenate([encoder.encode(each) for each in episodes])
    assert np.abs(vectors.mean(0)).max() < 1e-3 and np.abs(vectors.std(0) - 1).max() < 1e-3
    again = ActionEncoder(space, fit_action_scale(space, episodes)).encode(episodes[0])
    np.testing.assert_array_equal(again, vectors[:50])


def test_bounds_that_the_data_uses_and_those_of_ordinary_size_count():
    rng = np.random.default_rng(0)
    for space, data in (
        (Box(-1e6, 1e6, (1,)), rng.uniform(-1e6, 1e6, (99, 1))),
        (Box(-2, 2, (1,)), rng.normal(0, 1e-6, (99, 1))),
        (Box(0, 255, (), np.uint8), np.full(9, 7)),
        (Box(-512, 512, (7,), np.int32), np.zeros((9, 7))),
        (Discrete(4), np.arange(4)),
        (MultiBinary(2), np.zeros((3, 2))),
        (None, np.zeros((3, 2))),
    ):
        assert fit_action_scale(space, [data]) is None
    mixed = Box(np.array([-1, -np.inf], np.float32), np.array([1, np.inf], np.float32))
    scale = fit_action_scale(mixed, [np.array([[0.5, 10], [-0.5, 30]], np.float32)])
    assert scale == (None, (20.0, 10.0))
    np.testing.assert_array_equal(ActionEncoder(mixed, scale).encode(np.array([[0.5, 40]])), [[0.5, 2]])


def test_without_a_scale_actions_are_encoded_as_they_always_were():
    for space, action, expected in (
        (Box(-np.inf, np.inf, (1,)), [37.5], [37.5]),
        (Box(0, np.inf, (1,)), [1e6], [1e6]),
        (Box(-1e30, 1e30, (1,)), [3.0], [0.0]),
        (Box(-1e6, 1e6, (1,)), [5e5], [0.5]),
        (Box(-2, 2, (1,)), [1.0], [0.5]),
    ):
        assert ActionEncoder(space).encode(np.array(action, np.float32)).tolist() == expected


def test_a_number_that_never_changes_and_an_empty_episode_make_a_scale():
    scale = fit_action_scale(SHAM["infinite"], [np.full((5, 2), 0.1, np.float32), np.zeros((0, 2), np.float32)])
    assert scale is not None and [pair[1] for pair in scale if pair is not None] == [1.0, 1.0]
    assert fit_action_scale(SHAM["infinite"], []) is None


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_data_that_is_no_finite_number_makes_no_scale(wrong):
    with pytest.raises(ValueError, match="finite numbers in all episodes"):
        fit_action_scale(SHAM["infinite"], [np.array([[0, wrong]], np.float32)])


@pytest.mark.parametrize("scale", [((0.0, 1.0),), (None, (0.0, 0.0)), (None, (np.nan, 1.0)), (None, (0.0, np.inf))])
def test_a_scale_that_does_not_fit_is_refused(scale):
    with pytest.raises(ValueError, match="action scale"):
        ActionEncoder(SHAM["infinite"], scale)
    with pytest.raises(ValueError, match="action scale"):
        ActionEncoder(Discrete(2), scale)


def test_with_a_scale_an_action_far_from_the_data_is_refused():
    encoder = ActionEncoder(SHAM["infinite"], ((0.0, 1e-3), (0.0, 1e6)))
    encoder.encode(np.array([1e3, 1e12], np.float32))
    for action in ([1e7, 0], [0, 1e16]):
        with pytest.raises(ValueError, match="nearer to those of the data"):
            encoder.encode(np.array(action, np.float32))


def test_within_reach_is_where_the_data_lay_and_a_chunk_repeats_it():
    space = Box(np.array([0, -1], np.float32), np.array([np.inf, 1], np.float32))
    scale = ((5.0, 2.0), None)
    assert plausible_actions(space, scale) == Box(np.array([1, -1], np.float32), np.array([9, 1], np.float32))
    bounded = plausible_actions(space, ((1.0, 2.0), None))
    assert isinstance(bounded, Box) and bounded.low.tolist() == [0, -1]  # the bound that there is
    chunk = Box(np.tile(space.low, (2, 1)), np.tile(space.high, (2, 1)))
    repeated = plausible_actions(chunk, scale)
    assert isinstance(repeated, Box) and repeated.high.tolist() == [[9, 1], [9, 1]]
    assert plausible_actions(space, None) is space and plausible_actions(Discrete(2), None) == Discrete(2)


INTEGERS, FLOATS = [np.uint8, np.int8, np.int32, np.int64, np.uint64], [np.float16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_the_nearest_action_is_in_the_space_and_whole_where_it_holds_integers(dtype):
    limits = np.iinfo(dtype) if dtype in INTEGERS else np.finfo(dtype)
    for space in (Box(limits.min, limits.max, (2,), dtype), Box(0, 3, (2,), dtype)):
        for numbers in ([2.6, 1.4], [-1e20, 1e20], [2.49, 3.4]):
            assert space.contains(clip_to_space(np.array(numbers), space))
        expected = np.array([3, 1] if dtype in INTEGERS else [2.6, 1.4], dtype)
        np.testing.assert_array_equal(clip_to_space(np.array([2.6, 1.4]), space), expected)


LARGEST = float(np.finfo(np.float32).max)
NO_BOUNDS = [
    Box(-LARGEST, LARGEST, (2,), np.float32),
    Box(-np.finfo(np.float64).max, np.finfo(np.float64).max, (2,), np.float64),
    Box(0, LARGEST, (2,), np.float32),
    Box(-LARGEST, 0, (2,), np.float32),
    Box(-65504, 65504, (2,), np.float16),
    Box(np.array([-1, -1e30], np.float32), np.array([1, 1e30], np.float32)),
    *(Box(np.iinfo(kind).min, np.iinfo(kind).max, (2,), kind) for kind in (np.int32, np.int64, np.uint32, np.uint64)),
    Box(5, 2**62, (2,), np.int64),
    Box(-(2**62), -5, (2,), np.int64),
]


@pytest.mark.parametrize("space", NO_BOUNDS, ids=str)
def test_where_bounds_are_a_sham_actions_of_ordinary_size_are_tried_and_distinguished(space):
    policy = make_policy("random", space, np.random.default_rng(0))
    actions = np.stack([policy(None) for _ in range(50)])
    assert all(map(space.contains, actions)) and actions.dtype == space.dtype
    assert np.abs(actions.astype(float)).max() < 10
    vectors = ActionEncoder(space, fit_action_scale(space, [actions])).encode(actions)
    assert (vectors.std(axis=0) > 0.4).all() and np.abs(vectors).max() < 6


@pytest.mark.parametrize("bound", [1e3, 1e5, 1e6, 1e30, LARGEST, np.inf])
def test_actions_far_smaller_than_their_bounds_are_scaled_by_the_data(bound):
    space = Box(-bound, bound, (1,), np.float32)
    actions = np.linspace(-0.5, 0.5, 30, dtype=np.float32)[:, None]
    vectors = ActionEncoder(space, fit_action_scale(space, [actions])).encode(actions)
    assert vectors.std() == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("space", [Box(-1, 1, (0,)), Box(-1, 1, (2, 0)), MultiDiscrete(np.zeros(0, int))], ids=str)
def test_a_space_without_a_number_is_refused(space):
    with pytest.raises(ValueError, match="expected actions of one number or more"):
        space_to_json(space)


@pytest.mark.parametrize(
    ("space", "names", "labels"),
    [
        (Discrete(3), (), ("0", "1", "2")),
        (Discrete(2, start=-1), (), ("-1", "0")),
        (Discrete(2), ("left", "right"), ("left", "right")),
        (MultiBinary([2, 2]), (), ("0", "1", "2", "3")),
        (Box(-1, 1, (2,)), ("steer", "gas"), ("steer", "gas")),
    ],
)
def test_numbers_are_the_names_where_none_are_given(space, names, labels):
    assert action_labels(space, names) == labels


@pytest.mark.parametrize(
    ("space", "names", "action", "words"),
    [
        (Discrete(2, start=-1), (), -1, "-1"),
        (Discrete(2, start=-1), ("left", "right"), 0, "right"),
        (MultiBinary(3), ("a", "b", "c"), [1, 0, 1], "a+c"),
        (MultiBinary(3), ("a", "b", "c"), [0, 0, 0], "none"),
        (MultiDiscrete([3, 2]), ("dial", "switch"), [2, 1], "dial 2 switch 1"),
        (Box(-1, 1, (2,)), ("steer", "gas"), [-0.5, 1.0], "steer -0.5 gas 1.0"),
        (Box(-1, 1, (2,)), (), [-0.5, 1.0], "[-0.5 1. ]"),
        (None, (), 3, "3"),
    ],
)
def test_an_action_in_words_has_its_name_or_numbers_behind_their_names(space, names, action, words):
    assert action_words(action, space, names).replace("  ", " ") == words

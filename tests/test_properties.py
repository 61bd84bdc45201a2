"""Laws on examples that are looked for: shapes, streams, windows, action spaces, and configs of any kind."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.helpers_models import random_frames, small_tokenizer
from worldmodel.data.clips.token_batches import latent_actions
from worldmodel.data.clips.windows import WindowSampler
from worldmodel.io.config import from_mapping, to_dict
from worldmodel.nn.actions import ActionEncoder, space_from_json, space_to_json
from worldmodel.tokenizer import latents_of

FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(max_examples=300, deadline=None)


@FEW
@given(
    space=st.sampled_from([4, 8, 16]), time=st.sampled_from([1, 2, 4]), rows=st.integers(1, 3),
    columns=st.integers(1, 4), colours=st.integers(1, 4), batch=st.integers(1, 3), kernel=st.integers(1, 3),
    cuts=st.lists(st.integers(1, 3), max_size=4),
)  # fmt: skip
def test_any_shape_comes_back_and_any_chunks_equal_the_whole(space, time, rows, columns, colours, batch, kernel, cuts):
    frame = (space * rows, space * columns, colours)
    tokenizer = small_tokenizer(space, time, frame, time_kernel=kernel)
    frames = random_frames(batch, 1 + time * sum(cuts), frame)
    tokens = tokenizer.encode(frames)
    assert tokens.shape == (batch, 1 + sum(cuts), rows, columns)
    assert tokenizer.decode(tokens).shape == frames.shape
    parts, past = [], None
    for chunk in frames.split([1, *(time * cut for cut in cuts)], dim=1):
        codes, past = tokenizer.encode_chunk(chunk, past)
        parts.append(codes)
    agree = torch.cat(parts, 1) == tokens
    assert agree.float().mean() > 0.99  # sums in another order may fall on the other side of a tie


@FEW
@given(time=st.sampled_from([2, 4]), frames=st.integers(1, 12))
def test_frames_that_fill_no_whole_latent_are_refused_by_their_number(time, frames):
    tokenizer = small_tokenizer(time_stride=time)
    if (frames - 1) % time == 0:
        assert latents_of(frames, time) == 1 + (frames - 1) // time
    else:
        with pytest.raises(ValueError, match=rf"1 \+ n \* {time} frames, got {frames}"):
            tokenizer.encode(random_frames(1, frames))


@MANY
@given(
    lengths=st.dictionaries(st.integers(0, 50), st.integers(1, 40), min_size=1, max_size=6),
    length=st.integers(1, 30), seed=st.integers(0, 2**60), cover_ends=st.booleans(),
)  # fmt: skip
def test_windows_lie_within_their_episode_or_none_fits(lengths, length, seed, cover_ends):
    try:
        windows = WindowSampler(lengths, length, seed, item="frames", setting="clip", cover_ends=cover_ends)
    except ValueError as error:
        assert "lower clip" in str(error) and max(lengths.values()) < length
        return
    drawn = windows.sample(3, 40)
    assert drawn == windows.sample(3, 40)
    for index, start in drawn:
        assert 0 <= start <= max(lengths[index] - length, 0) and (cover_ends or start + length <= lengths[index])
    assert cover_ends or len(windows) == sum(max(n - length + 1, 0) for n in lengths.values())


@MANY
@given(width=st.integers(0, 4), stride=st.integers(1, 4), latents=st.integers(1, 6), spare=st.integers(0, 5))
def test_actions_of_latents_are_those_of_the_episode_in_order(width, stride, latents, spare):
    steps = stride * (latents - 1)
    encoded = np.arange((steps + spare) * width, dtype=np.float32).reshape(steps + spare, width)
    rows = latent_actions(encoded, stride, latents)
    assert rows.shape == (latents, stride * width) and not rows[0].any()
    np.testing.assert_array_equal(rows[1:].reshape(steps, width), encoded[:steps])


def shapes(largest: int = 3) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(1, largest), max_size=3).map(tuple)


@st.composite
def boxes(draw) -> spaces.Box:
    dtype, shape = draw(st.sampled_from([np.float32, np.float64])), draw(shapes())
    numbers = st.floats(-1e6, 1e6, width=32) | st.sampled_from([-np.inf, np.inf])
    ends = [draw(arrays.arrays(dtype, shape, elements=numbers)) for _ in range(2)]
    low, high = np.minimum(*ends), np.maximum(*ends)
    return spaces.Box(
        np.where(low == np.inf, 0, low).astype(dtype), np.where(high == -np.inf, 0, high).astype(dtype), dtype=dtype
    )


@st.composite
def discretes(draw) -> spaces.Space:
    if draw(st.booleans()):
        return spaces.Discrete(draw(st.integers(1, 9)), start=draw(st.integers(-5, 5)))
    nvec = draw(arrays.arrays(np.int64, draw(shapes().filter(len)), elements=st.integers(1, 5)))
    return spaces.MultiDiscrete(nvec, start=draw(arrays.arrays(np.int64, nvec.shape, elements=st.integers(-3, 3))))


binaries = (st.integers(1, 5) | shapes().filter(len)).map(spaces.MultiBinary)


@MANY
@given(
    space=discretes() | boxes() | binaries,
    lead=st.lists(st.integers(0, 3), max_size=2).map(tuple),
    seed=st.integers(0, 99),
)
def test_any_supported_space_survives_json_and_its_samples_have_vectors_of_one_width(space, lead, seed):
    assert space_from_json(space_to_json(space)) == space
    space.seed(seed)
    encoder, count = ActionEncoder(space), int(np.prod(lead))
    samples = np.array([space.sample() for _ in range(count)], space.dtype).reshape((*lead, *(space.shape or ())))
    vectors = encoder.encode(samples)
    assert vectors.shape == (*lead, encoder.width) and vectors.dtype == np.float32 and np.isfinite(vectors).all()


@MANY
@given(space=discretes(), seed=st.integers(0, 99))
def test_different_discrete_actions_have_different_vectors(space, seed):
    space.seed(seed)
    one, two = space.sample(), space.sample()
    encoder = ActionEncoder(space)
    same = np.array_equal(encoder.encode(np.asarray(one)), encoder.encode(np.asarray(two)))
    assert same == np.array_equal(one, two)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["ema", "???"])
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
)


@MANY
@given(values=trees)
def test_any_json_is_a_space_or_an_error_in_words(values):
    for mapping in ({"kind": "box", "low": values, "high": values, "shape": values, "dtype": "float32"},
                    {"kind": "discrete", "n": values, "start": values, "dtype": values},
                    {"kind": "multi_discrete", "nvec": values, "start": values, "dtype": "int64"},
                    {"kind": "multi_binary", "n": values}, {"kind": values}):  # fmt: skip
        try:
            space_from_json(mapping)
        except (ValueError, TypeError) as error:
            assert str(error)


@dataclass
class Part:
    codes: int = 5
    rate: float = 0.5
    kind: Literal["ema", "fsq"] = "ema"
    size: tuple[int, float] | None = None

    def __post_init__(self):
        if self.codes < 1:
            raise ValueError(f"codes must be at least 1, got {self.codes}")


@dataclass
class Whole:
    name: str
    part: Part = field(default_factory=Part)
    parts: list[Part] = field(default_factory=list)
    table: dict[str, int] = field(default_factory=dict)
    folder: Path | None = None
    any: Any = None


def config_trees() -> st.SearchStrategy[Any]:
    """Trees that are nearly right: known keys more often than not, values of all kinds."""
    part = st.dictionaries(st.sampled_from(["codes", "rate", "kind", "size", "code"]), trees, max_size=4)
    keys = st.sampled_from(["name", "part", "parts", "table", "folder", "any", "nmae"])
    return st.dictionaries(keys, trees | part | st.lists(part, max_size=2), max_size=6)


@MANY
@given(tree=config_trees())
def test_any_tree_gives_the_config_or_an_error_that_starts_with_a_path_into_it(tree):
    try:
        config = from_mapping(Whole, tree, "run")
    except (ValueError, TypeError) as error:
        path = str(error).partition(": ")[0]
        assert path == "run" or path.startswith("run."), error
        assert path.removeprefix("run").lstrip(".").split(".")[0].split("[")[0] in {*map(str, tree), "name", ""}
    else:
        assert to_dict(from_mapping(Whole, to_dict(config), "run")) == to_dict(config) or has_nan(config)


def has_nan(config: Whole) -> bool:
    return "nan" in repr(config)

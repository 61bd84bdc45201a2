"""Configs: what is written is what is built, and what is wrong is named by its full path."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from worldmodel.io.config import LARGEST, from_mapping, to_dict


@dataclass(frozen=True)
class Part:
    codes: int = 512
    rate: float = 0.1
    kind: Literal["ema", "fsq"] = "ema"
    strides: tuple[int, ...] = (2, 2)
    size: tuple[int, float] | None = None

    def __post_init__(self) -> None:
        if self.codes < 1:
            raise ValueError(f"codes must be at least 1, got {self.codes}")


@dataclass
class Whole:
    name: str
    tokenizer: Part = field(default_factory=Part)
    parts: list[Part] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    on: bool = False
    mixed: int | str = 0
    folder: Path = Path("runs")


def test_values_left_out_keep_their_defaults():
    assert from_mapping(Whole, {"name": "a", "tokenizer": {"codes": 8}}) == Whole("a", Part(codes=8))


def test_lists_become_tuples_ints_floats_and_strings_paths():
    whole = from_mapping(Whole, {"name": "a", "folder": "x/y", "tokenizer": {"rate": 1, "size": [3, 4]}})
    assert whole.tokenizer.size == (3, 4.0) and isinstance(whole.tokenizer.rate, float)
    assert whole.folder == Path("x/y")


def test_a_key_that_python_keeps_for_itself_has_an_underscore_in_the_schema_alone():
    @dataclass
    class Route:
        from_: int

    assert from_mapping(Route, {"from": 3}) == Route(3) and to_dict(Route(3)) == {"from": 3}
    with pytest.raises(ValueError, match="from_: unknown key; did you mean 'from'"):
        from_mapping(Route, {"from_": 3})


def test_a_composed_omegaconf_tree_is_a_mapping_like_any_other():
    node = OmegaConf.create({"name": "a", "tokenizer": {"strides": [1, 2], "codes": "${codes}"}, "codes": 9})
    tree = {"name": node.name, "tokenizer": node.tokenizer, "parts": OmegaConf.create([{"codes": 3}])}
    whole = from_mapping(Whole, tree)
    assert whole.tokenizer == Part(codes=9, strides=(1, 2)) and whole.parts == [Part(codes=3)]


@pytest.mark.parametrize(
    ("node", "error", "message"),
    [
        ({"name": "a", "tokeniser": {}}, ValueError, "tokeniser: unknown key; did you mean 'tokenizer'?"),
        ({"name": "a", "tokenizer": {"code": 1}}, ValueError, "tokenizer.code: unknown key; did you mean 'codes'?"),
        ({"name": "a", "tokenizer": {"zzz": 1}}, ValueError, "tokenizer.zzz: unknown key; known keys: codes, rate"),
        ({}, ValueError, "name: missing; set it to a value of type str"),
        ({"name": "???"}, ValueError, "name: missing"),
        ({"name": "a", "tokenizer": {"codes": "big"}}, TypeError, "tokenizer.codes: expected int, got str 'big'"),
        ({"name": "a", "tokenizer": {"codes": True}}, TypeError, "tokenizer.codes: expected int, got bool True"),
        ({"name": "a", "tokenizer": {"codes": 1.0}}, TypeError, "tokenizer.codes: expected int, got float 1.0"),
        ({"name": "a", "tokenizer": {"codes": None}}, TypeError, "tokenizer.codes: expected int, got nothing"),
        ({"name": "a", "tokenizer": {"rate": True}}, TypeError, "tokenizer.rate: expected float, got bool True"),
        ({"name": "a", "tokenizer": {"kind": "emma"}}, ValueError, "tokenizer.kind: expected one of 'ema', 'fsq'"),
        ({"name": "a", "tokenizer": {"strides": "22"}}, TypeError, "tokenizer.strides: expected a list"),
        ({"name": "a", "tokenizer": {"strides": [1, "x"]}}, TypeError, "tokenizer.strides[1]: expected int"),
        ({"name": "a", "tokenizer": {"size": [1]}}, TypeError, "tokenizer.size: expected 2 values"),
        ({"name": "a", "tokenizer": {"codes": 0}}, ValueError, "tokenizer: codes must be at least 1, got 0"),
        ({"name": "a", "parts": [{}, {"codes": "x"}]}, TypeError, "parts[1].codes: expected int"),
        ({"name": "a", "tokenizer": 3}, TypeError, "tokenizer: expected a mapping of keys, got int 3"),
        ({"name": "a", "mixed": 1.5}, TypeError, "mixed: expected int | str, got float 1.5"),
        ({"name": "a", "on": 1}, TypeError, "on: expected bool, got int 1"),
    ],
)
def test_what_is_wrong_is_named_by_its_full_path(node, error, message):
    with pytest.raises(error) as caught:
        from_mapping(Whole, node)
    assert str(caught.value).startswith(message)


def test_a_schema_that_yaml_cannot_express_is_refused():
    @dataclass
    class Odd:
        value: complex = 1j

    with pytest.raises(TypeError, match="value: the schema's type complex has no YAML form"):
        from_mapping(Odd, {"value": 1})


WHOLE = st.integers(-LARGEST, LARGEST)


@settings(deadline=None)  # a busy machine is no failure
@given(
    codes=st.integers(1, LARGEST), rate=st.floats(allow_nan=False), kind=st.sampled_from(["ema", "fsq"]),
    strides=st.lists(WHOLE).map(tuple), size=st.none() | st.tuples(WHOLE, st.floats(allow_nan=False)),
    on=st.booleans(), mixed=WHOLE | st.text(),
)  # fmt: skip
def test_typed_inverts_to_dict(codes, rate, kind, strides, size, on, mixed):
    part = Part(codes, rate, kind, strides, size)
    whole = Whole("a", part, [part, Part()], {"deep": {"x": [1, None]}}, on, mixed, Path("a/b"))
    assert from_mapping(Whole, to_dict(whole)) == whole

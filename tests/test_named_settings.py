"""Settings that a message tells a person to change exist: in a config, in an environment, or in a signature."""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import get_type_hints

import pytest

from tests.helpers_scripts import NAMES, module, schema
from worldmodel import envs

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for folder in ("worldmodel", "envs", "scripts") for path in (ROOT / folder).rglob("*.py") if path.is_file()
)
NAMED = re.compile(r"(?<![\w.\[{<-])([a-z_][a-z_.]*)=(?!')")  # key=value, as a person types it


def keys(kind: type, above: str = "") -> Iterator[str]:
    """The keys of a config, with what they stand below and without."""
    for field in fields(kind):
        key = field.name.removesuffix("_")
        yield from (above + key, key)
        if isinstance(hint := get_type_hints(kind)[field.name], type) and is_dataclass(hint):
            yield from keys(hint, f"{above}{key}.")


@cache
def known() -> set[str]:
    found = {"env", "preset"}
    for name in NAMES:
        found |= {*keys(schema(name))}
    for kind in envs.SCHEMAS.values():
        found |= {name for key in keys(kind) for name in (key, f"env.{key}")}
    return found


def messages(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The texts of errors that are raised, or made to be raised."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) or (
            isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error")
        ):
            texts = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
            yield from ((node.lineno, text) for text in texts if isinstance(text, str))


def parameters(tree: ast.AST) -> set[str]:
    """The names of arguments of functions in the same file: a message of the library may mean one."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {each.arg for node in functions for each in (*node.args.args, *node.args.kwonlyargs)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_that_an_error_names_exists(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    there = known() | parameters(tree)
    unknown = [(line, name) for line, text in messages(tree) for name in NAMED.findall(text) if name not in there]
    assert not unknown, f"{path}: {unknown}"


def test_a_setting_that_does_not_exist_is_found():
    ((_, text), *_) = messages(ast.parse('raise ValueError("too short; lower clip_lenght= or fit.steps=8")'))
    assert NAMED.findall(text) == ["clip_lenght", "fit.steps"]
    assert "clip_lenght" not in known() and "fit.steps" in known()


@pytest.mark.parametrize("name", ["train_tokenizer", "train_prior"])
def test_make_hands_fresh_to_both_trainings(name):
    make = module("make")
    for fresh in (False, True):
        config = make.MakeConfig(preset="quick", fresh=fresh)
        assert make.part(config, name).fresh == fresh

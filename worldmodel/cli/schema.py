"""The config of a command, made from its dataclass: defaults, presets, environments, and the text of `--help`.

The dataclass holds each default and each explanation once. A preset, configs/preset/NAME.yaml, holds what differs:
`run`, and a section for each command.
"""

import ast
import dataclasses
import inspect
import shutil
import textwrap
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from worldmodel import envs
from worldmodel.io.config import MISSING, plain

PRESETS = Path(__file__).parents[1] / "configs" / "preset"
SECTIONS = {"check": "collect"}  # commands that take the section of another one from a preset
PRESET, ENV = "demo", "vizdoom"  # what a command uses unless preset= or env= chooses another
PRESETS_OF = {"make": "quick"}  # commands whose preset is another one
SHARED = "run"  # the one key of a preset that all commands have
HYDRA = {"run": {"dir": "."}, "output_subdir": None}  # Hydra composes, and writes nothing of its own
WIDTH, COLUMN = 110, 34  # columns of the help: at most in all, and of the keys


def register(schema: type, name: str) -> None:
    """Let Hydra compose the config of the command `name`: its defaults, then the environment, the preset and the keys
    of the command line."""
    store = ConfigStore.instance()
    choices = [{"env": ENV}] if takes_env(schema) else []
    quiet = [{f"override hydra/{what}": "none"} for what in ("job_logging", "hydra_logging")]
    chosen = {"preset": PRESETS_OF.get(name, PRESET)}
    node = {"defaults": ["_self_", *choices, chosen, *quiet], "hydra": HYDRA, **defaults(schema)}
    store.store(name=name, node=node)
    for env, config in envs.SCHEMAS.items():
        store.store(group="env", name=env, node=defaults(config))
    for path in sorted(PRESETS.glob("*.yaml")):
        store.store(group="preset", name=path.stem, node=preset(path, name), package="_global_")


def preset(path: Path, command: str) -> dict[str, Any]:
    """What a preset sets in one command; it chooses the environment where `env.name` is among that."""
    values = read_preset(path)
    section = values.get(SECTIONS.get(command, command)) or {}
    found = {key: value for key, value in values.items() if key == SHARED} | section
    env = (found.get("env") or {}).get("name")
    return found if env is None else {"defaults": [{"override /env": env}], **found}


def read_preset(path: Path) -> dict[str, Any]:
    """The values of a preset. Raises: ValueError where the file holds anything but keys."""
    values = OmegaConf.to_container(OmegaConf.load(path))
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected keys with values, such as run: runs/mine")
    return {str(key): value for key, value in values.items()}


def takes_env(schema: type) -> bool:
    """Whether a command has the key `env`, which chooses an environment and holds its settings."""
    return any(field.name == "env" for field in dataclasses.fields(schema))


def defaults(schema: type) -> dict[str, Any]:
    """The default of each key, as YAML has it; "???" where a value must be given."""
    hints = typing.get_type_hints(schema)
    return {key_of(field): _default(field, hints[field.name]) for field in dataclasses.fields(schema)}


def _default(field: dataclasses.Field[Any], hint: Any) -> Any:
    if field.default is not dataclasses.MISSING:
        return plain(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return plain(field.default_factory())
    return defaults(hint) if isinstance(hint, type) and dataclasses.is_dataclass(hint) else MISSING


def key_of(field: dataclasses.Field[Any]) -> str:
    """The key of a field: without the underscore that keeps it from being a keyword of Python."""
    return field.name.removesuffix("_")


def help_text(schema: type, command: str, about: str, values: Mapping[str, Any]) -> str:
    """What `--help` prints: each key with its value and its explanation.

    Args: about, the docstring of the command; values, the config as the rest of the command line gives it.
    """
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    presets = ", ".join(path.stem for path in sorted(PRESETS.glob("*.yaml")))
    lines = [about.strip(), "", f"usage: worldmodel {command.replace('_', '-')} [key=value ...]", ""]
    lines += _entry("preset", f"A named set of values, a file in configs/preset. One of {presets}.", width)
    if takes_env(schema):
        lines += _entry("env", f"The environment. One of {', '.join(envs.SCHEMAS)}.", width)
    for key, value, text in explained(schema, values, ""):
        lines += _entry(f"{key}={value}", text, width)
    return "\n".join([*lines, "", "Lists are written as key=[a,b], and nothing as key=null."])


def explained(schema: type, values: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any, str]]:
    """Each key of a config, in order, with the value it has and its explanation."""
    hints, texts = typing.get_type_hints(schema), field_docs(schema)
    for field in dataclasses.fields(schema):
        key, hint = key_of(field), hints[field.name]
        value, text = values.get(key), texts.get(field.name, "")
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from explained(hint, value or {}, f"{above}{key}.")
        elif key == "env" and isinstance(value, Mapping) and value.get("name") in envs.SCHEMAS:
            yield from explained(envs.SCHEMAS[value["name"]], value, "env.")
        elif f"{above}{key}" not in ("preset", "env.name"):  # these are explained before
            yield f"{above}{key}", _written(value), " ".join([text, *_choices(hint)])


def _choices(hint: Any) -> list[str]:
    """The values that a key may have, where they are few, have names, and are all."""
    kinds = [each for each in (typing.get_args(hint) or (hint,)) if each is not type(None)]
    kinds = [hint] if typing.get_origin(hint) is Literal else kinds
    if any(typing.get_origin(each) is not Literal for each in kinds):
        return []
    return [f"One of {', '.join(str(option) for each in kinds for option in typing.get_args(each))}."]


def _written(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}: {_written(each)}' for key, each in value.items())}}}"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def _entry(key: str, text: str, width: int) -> list[str]:
    """A key beside its explanation, or above it where the key is long."""
    lines = textwrap.wrap(text, max(40, width - COLUMN - 2))
    short = bool(lines) and len(key) <= COLUMN - 4
    first = [f"  {key:{COLUMN - 2}}{lines.pop(0)}"] if short else [f"  {key}"]
    return [line.rstrip() for line in [*first, *(" " * COLUMN + line for line in lines)]]


@cache
def field_docs(schema: type) -> dict[str, str]:
    """The docstring below each field of a dataclass, those of its bases included, on one line."""
    found: dict[str, str] = {}
    for kind in reversed(schema.__mro__):
        if dataclasses.is_dataclass(kind):
            found |= _docs_in(kind)
    return found


def _docs_in(kind: type) -> dict[str, str]:
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)
    pairs = zip(node.body, node.body[1:], strict=False)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairs
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }

"""Turn plain YAML values into typed configs, and back.

A dataclass is the schema: its fields are the keys, its annotations the types, and a field with a default may be left
out. Nothing here imports a config library: any mapping works, Hydra's `DictConfig` included.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

T = TypeVar("T")

MISSING = "???"  # how YAML says "the user must set this" (OmegaConf's convention)
LARGEST = 2**63 - 1  # of integers in torch and NumPy
POSITIVE = 1e-9  # the least value of numbers that may be small, but not 0
FINITE = 1e30  # the greatest value of numbers that may be large, but not infinite


def from_mapping(schema: type[T], node: Any, path: str = "") -> T:
    """Build `schema`, a dataclass, from `node`, a mapping of plain values; nested ones from nested mappings.

    Lists become tuples where the schema has tuples, an int is accepted as a float and a str as a Path; a bool is never
    an int. A key that is a Python keyword has an underscore at its end in the schema: `from` is `from_` there.
    `path` is the node's place in the whole config; every message begins with it.

    Raises:
        ValueError: an unknown key, or a value that is missing, not among the allowed ones, or refused by the
            schema's own checks.
        TypeError: a value of the wrong type, or an annotation that YAML cannot express.
    """
    if not isinstance(node, Mapping):
        raise TypeError(f"{path or 'config'}: expected a mapping of keys, got {_describe(node)}")
    fields = {_key(f): f for f in dataclasses.fields(schema) if f.init}  # pyright: ignore[reportArgumentType]
    _refuse_unknown(node, fields, path)
    hints = typing.get_type_hints(schema)
    values = {}
    for key, field in fields.items():
        hint = hints[field.name]
        if key in node and node[key] != MISSING:
            values[field.name] = _convert(hint, node[key], _join(path, key))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{_join(path, key)}: missing; set it to a value of type {_name(hint)}")
    return _construct(schema, values, path)


def to_dict(config: Any) -> dict[str, Any]:
    """The values of a config as JSON can hold them: `from_mapping(type(config), to_dict(config)) == config`."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"expected an instance of a dataclass, got {_describe(config)}")
    return {_key(f): plain(getattr(config, f.name)) for f in dataclasses.fields(config) if f.init}


def plain(value: Any) -> Any:
    """A value as JSON and YAML can hold it: configs as mappings, tuples as lists, paths as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def check_range(config: Any, low: float, high: float, *names: str) -> None:
    """Check that fields of a config lie in a range; for the config's own `__post_init__`.

    None passes, as it means that there is no number. In a tuple each number is checked.

    Raises:
        ValueError: names the field, the range and what it got; NaN is in no range.
    """
    for name in names:
        value = getattr(config, name)
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None and not low <= each <= high:
                raise ValueError(f"{name.removesuffix('_')}: expected {_range(low, high)}, got {each}")


def _range(low: float, high: float) -> str:
    least = "more than 0" if low == POSITIVE else _number(low)
    if high not in (LARGEST, math.inf):
        return f"{least} to {_number(high)}"
    return least if low == POSITIVE else f"at least {least}"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def unknown_key(path: str, key: str, known: Iterable[str]) -> ValueError:
    """The error for a key that does not exist below `path`; names the closest known key, or all of them."""
    known = [*known]
    hint = suggestion(key, known) or f"known keys: {', '.join(known) or 'none'}"
    return ValueError(f"{_join(path, key)}: unknown key; {hint}")


def suggestion(name: Any, known: Iterable[Any]) -> str:
    """'did you mean ...?' with the known name closest to `name`; an empty text if none is close."""
    close = difflib.get_close_matches(str(name), [str(each) for each in known], n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def _construct(schema: type[T], values: dict[str, Any], path: str) -> T:
    try:
        return schema(**values)
    except ValueError as error:  # from the schema's own check: add the place in the config
        raise ValueError(f"{path}: {error}" if path else str(error)) from error


def _key(field: dataclasses.Field[Any]) -> str:
    return field.name.removesuffix("_")


def _refuse_unknown(node: Mapping[Any, Any], fields: Mapping[str, Any], path: str) -> None:
    for key in node:
        if key not in fields:
            raise unknown_key(path, str(key), fields)


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        schema = typing.cast(type, hint)
        return value if isinstance(value, schema) else from_mapping(schema, value, path)
    if origin in (Union, types.UnionType):
        return _convert_union(hint, value, path)
    if origin is Literal:
        return _convert_literal(hint, value, path)
    if convert := _CONTAINERS.get(origin or hint):
        return convert(hint, value, path)
    return _convert_scalar(hint, value, path)


def _convert_scalar(hint: Any, value: Any, path: str) -> Any:
    if hint not in (bool, int, float, str, Path, type(None)):
        if isinstance(hint, type) and isinstance(value, hint):  # converted already
            return value
        raise TypeError(f"{path}: the schema's type {_name(hint)} has no YAML form")
    if isinstance(value, hint) and not (isinstance(value, bool) and hint is int):
        return _check_number(value, path)
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1023:
        return float(value)
    if hint is Path and isinstance(value, str) and value:  # Path("") would be the working folder
        return Path(value)
    raise TypeError(f"{path}: expected {_name(hint)}, got {_describe(value)}")


def _check_number(value: Any, path: str) -> Any:
    """A number that torch and NumPy can hold, and any other value."""
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"{path}: expected a number, got nan")
    if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        got = str(value) if abs(value) < 10**30 else f"a number of {len(str(abs(value)))} digits"
        raise ValueError(f"{path}: expected {-LARGEST} to {LARGEST}, got {got}")
    return value


def _convert_union(hint: Any, value: Any, path: str) -> Any:
    options = typing.get_args(hint)
    if value is None and type(None) in options:
        return None
    options = tuple(option for option in options if option is not type(None))
    if len(options) == 1:
        return _convert(options[0], value, path)
    for option in (*(o for o in options if o is type(value)), *options):  # 3 stays an int in `float | int`
        try:
            return _convert(option, value, path)
        except TypeError:
            continue
    raise TypeError(f"{path}: expected {_name(hint)}, got {_describe(value)}")


def _convert_literal(hint: Any, value: Any, path: str) -> Any:
    allowed = typing.get_args(hint)
    for option in allowed:
        if option == value and type(option) is type(value):  # True == 1, but is another value
            return value
    hint = suggestion(value, allowed)
    options = ", ".join(map(repr, allowed))
    raise ValueError(f"{path}: expected one of {options}, got {_describe(value)}{hint and f'; {hint}'}")


def _convert_tuple(hint: Any, value: Any, path: str) -> tuple:
    items, args = _items(hint, value, path), typing.get_args(hint)
    if not args:
        return tuple(items)
    if len(args) == 2 and args[1] is Ellipsis:
        args = (args[0],) * len(items)
    if len(items) != len(args):
        raise TypeError(f"{path}: expected {len(args)} values ({_name(hint)}), got {len(items)}: {list(items)}")
    return tuple(_convert(a, v, f"{path}[{i}]") for i, (a, v) in enumerate(zip(args, items, strict=True)))


def _convert_list(hint: Any, value: Any, path: str) -> list:
    (kind,) = typing.get_args(hint) or (Any,)
    return [_convert(kind, item, f"{path}[{i}]") for i, item in enumerate(_items(hint, value, path))]


def _convert_dict(hint: Any, value: Any, path: str) -> dict:
    if not isinstance(value, Mapping):
        raise TypeError(f"{path}: expected a mapping of keys, got {_describe(value)}")
    key_kind, kind = typing.get_args(hint) or (Any, Any)
    return {_convert(key_kind, k, path): _convert(kind, v, _join(path, str(k))) for k, v in value.items()}


_CONTAINERS: dict[Any, Callable[[Any, Any, str], Any]] = {
    tuple: _convert_tuple,
    list: _convert_list,
    Sequence: _convert_tuple,
    dict: _convert_dict,
    Mapping: _convert_dict,
}


def _items(hint: Any, value: Any, path: str) -> Sequence[Any]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise TypeError(f"{path}: expected a list ({_name(hint)}), got {_describe(value)}")
    return value


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _describe(value: Any) -> str:
    return "nothing (null)" if value is None else f"{type(value).__name__} {value!r}"

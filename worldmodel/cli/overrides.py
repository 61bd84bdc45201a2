"""Settings as the user typed them: this module quotes values that Hydra's grammar would read otherwise."""

import os
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Union

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from worldmodel import envs
from worldmodel.cli.literals import NotWritten, read, write

SETTING = re.compile(r"(\+{0,2})([^\s=+~'\"-][^\s=]*)=(.*)", re.DOTALL)  # key=value, +key=value, ++key=value
SEVERAL = {"-m", "--multirun"}  # a,b are two values then
QUOTES = ("'", '"')
LISTS = (tuple, list, Sequence)


def as_typed(schema: type, arguments: Sequence[str]) -> list[str]:
    """The arguments of a command in Hydra's grammar, with the values that the user typed.

    Paths, URLs and names are taken letter by letter; only `~` at the start is the home folder. The same holds for any
    other value that Hydra cannot read, so that the schema can say what it expected. Values in quotes, null where a
    key may be null, and ${key} keep their meaning in YAML. Mappings and lists below free keys, such as env.kwargs,
    may be written as in Python or JSON, too.

    Args:
        schema: the dataclass of the whole config; its annotations say what is a path or a name.
        arguments: of the command line, without the command.

    Raises: ValueError for a value without a key.
    """
    if nameless := [argument for argument in arguments if argument.lstrip("+").startswith("=")]:
        raise ValueError(f"{nameless[0]}: expected key=value, such as run=runs/mine; --help lists the keys")
    if "command" in _fields(schema):
        arguments = [_command(before, each) for before, each in pairwise(["", *arguments])]
    several = bool(SEVERAL & {*arguments})
    known = "|".join(map(re.escape, _fields(schema)))
    literal = re.compile(rf"(\\*)\$\{{(?!(?:{known})[}}.]|(?:oc\.\w+|hydra|now):)")  # that starts no reference

    def setting(argument: str) -> str:
        if not (match := SETTING.fullmatch(argument)):
            return argument
        plus, key, text = match.groups()
        free, hints = _is_free(schema, key), _hints(schema, key)
        if free and hints in ((Any,), (dict[str, Any],)) and (value := _anything(text, literal)) is not None:
            return f"{plus or '++'}{key}={value}"
        return f"{plus or ('++' if free else '')}{key}={_value(hints, text, several, literal)}"

    return [setting(argument) for argument in arguments]


def _command(before: str, word: str) -> str:
    """`verify` as `command=verify`: Hydra reads only key=value, and the values of its own flags."""
    return f"command={word}" if re.fullmatch(r"[a-z]+", word) and not before.startswith("-") else word


def _value(hints: Sequence[Any], text: str, several: bool, literal: re.Pattern[str]) -> str:
    readable = _readable(text, several)
    quoted = readable and len(text) > 1 and text[0] == text[-1] and text[0] in QUOTES
    if quoted or (text == "null" and type(None) in hints):
        return text
    if text.startswith("[") and text.endswith("]") and (items := _items(hints)):
        return f"[{','.join(_value(items, each, False, literal) for each in _elements(text[1:-1]))}]"
    kinds = {hint for hint in hints if hint is not type(None) and typing.get_origin(hint) not in LISTS}
    if readable and not (kinds and kinds <= {str, Path}):
        return text
    return _quoted(text, literal)


def _anything(text: str, literal: re.Pattern[str]) -> str | None:
    """A value of any type in Hydra's grammar, where it is a mapping, a list, a tuple or None; None for any other."""
    if not text.strip().startswith(("{", "[", "(")) and text != "None":
        return None
    try:
        return write(read(text), literal)
    except NotWritten:
        return None


def _quoted(text: str, literal: re.Pattern[str]) -> str:
    """The text as Hydra and OmegaConf have to get it."""
    if text.startswith("~"):
        text = os.path.expanduser(text)
    text = literal.sub(r"\1\1\\${", text)
    return QuotedString(text, Quote.single).with_quotes()


def _readable(text: str, several: bool) -> bool:
    """Whether Hydra reads this as one value, or as several if these are allowed."""
    try:
        return several or not _parser().parse_override(f"key={text}").is_sweep_override()
    except HydraException:
        return False


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def _elements(text: str) -> Iterator[str]:
    """The elements of a list, split at commas outside of quotes and brackets."""
    depth, quote, start = 0, "", 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in QUOTES and not text[start:place].strip():  # within a word it is no quote
            quote = letter
        elif letter == "," and not depth:
            yield text[start:place].strip()
            start = place + 1
        depth += 0 if quote else (letter in "[{(") - (letter in ")}]")
    if text[start:].strip():
        yield text[start:].strip()


def _items(hints: Sequence[Any]) -> tuple[Any, ...]:
    """The types of a list's elements, if the key may be a list."""
    inside = [typing.get_args(hint)[0] for hint in hints if typing.get_origin(hint) in LISTS]
    return tuple(option for hint in inside for option in _options(hint))


def _hints(schema: type, key: str) -> tuple[Any, ...]:
    """The types that the schema allows for a key; Any if it has no such key."""
    names = key.partition("@")[0].split(".")
    if names[0] == "env" and len(names) > 1:  # of any environment
        found = (_below(each, names[1:]) for each in envs.SCHEMAS.values())
        return tuple({option for hint in found if hint is not None for option in _options(hint)}) or (Any,)
    return _options(_below(schema, names) or Any)


def _is_free(schema: type, key: str) -> bool:
    """Whether a key is in a mapping of free keys, to which Hydra adds only with plus signs."""
    names = key.split(".")
    for last in range(2, len(names) + 1):
        above = _hints(schema, ".".join(names[:last]))
        if above and all(typing.get_origin(hint) in (dict, Mapping) for hint in above):
            return True
    return False


def _below(hint: Any, names: Sequence[str]) -> Any:
    """The annotation of a nested key below `hint`; None if there is no such key."""
    for name in names:
        origin = typing.get_origin(hint)
        if is_dataclass(hint):
            hint = _fields(typing.cast(type, hint)).get(name)
        elif origin in (dict, Mapping):
            hint = typing.get_args(hint)[1]
        else:
            return None
    return hint


@cache
def _fields(schema: type) -> dict[str, Any]:
    return {name.removesuffix("_"): hint for name, hint in typing.get_type_hints(schema).items()}


def _options(hint: Any) -> tuple[Any, ...]:
    """The types of a value: the members of a union, the types of a Literal's values, or the type itself."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        return tuple(option for each in typing.get_args(hint) for option in _options(each))
    if typing.get_origin(hint) is Literal:
        return tuple({type(value) for value in typing.get_args(hint)})
    return (hint,)

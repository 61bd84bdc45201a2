"""Values of any kind as people write them: as in Python, `{'a': None}`, in JSON, `{"a": null}`, or YAML, `{a: null}`.

Hydra's grammar has no keys in quotes and no None. A text is read in the three ways and in Hydra's, and written again in
Hydra's grammar.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

ESCAPED = re.compile(r"([\\()\[\]{}:=,\s])")  # in a key of Hydra's
KEY = re.compile(r"[\w\s/.$%*@?|+\\()\[\]{}:=,-]*[^\W\d][\w\s/.$%*@?|+\\()\[\]{}:=,-]*", re.ASCII)
WORDS = {"true", "false", "null", "inf", "nan"}  # as keys these would become values
PLAIN = (bool, int, float, str, type(None))


class NotWritten(ValueError):
    """A text that is no value in any of the grammars, or a value that Hydra cannot be given."""


def read(text: str) -> Any:
    """The value that a text means: mappings, lists, texts, numbers, True, False and None.

    Raises: NotWritten for a text that is none.
    """
    for grammar in (_python, _json, _hydra, _yaml):
        try:
            return _check(grammar(text))
        except (ValueError, SyntaxError, HydraException, yaml.YAMLError, MemoryError, RecursionError):
            continue
    raise NotWritten(text)


def write(value: Any, literal: re.Pattern[str]) -> str:
    """The value in Hydra's grammar. literal: the `${` in a text that start no reference to another key.

    Raises: NotWritten for a key that Hydra would change.
    """
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_key(key)}: {write(each, literal)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(write(each, literal) for each in value)}]"
    if isinstance(value, str):
        return QuotedString(literal.sub(r"\1\1\\${", value), Quote.single).with_quotes()
    return "null" if value is None else str(value).lower()


def _key(key: Any) -> str:
    if isinstance(key, bool | None) or (isinstance(key, str) and (not KEY.fullmatch(key) or key.lower() in WORDS)):
        raise NotWritten(f"{key!r}: a key that the command line cannot give")
    return ESCAPED.sub(r"\\\1", key) if isinstance(key, str) else str(key)


def _check(value: Any) -> Any:
    """The value, if it is made of mappings, lists and plain values. Raises ValueError if it is not."""
    for each in _leaves(value):
        if type(each) not in PLAIN:
            raise ValueError(f"{each!r}: not a plain value")
    return value


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value
    if isinstance(value, Mapping | list | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(each)
    else:
        yield value


def _python(text: str) -> Any:
    return ast.literal_eval(text.strip())


def _json(text: str) -> Any:
    return json.loads(text)


def _hydra(text: str) -> Any:
    override = _parser().parse_override(f"key={text}")
    if override.is_sweep_override():
        raise ValueError(f"{text}: several values")
    return _bare(override._value)  # in which texts in quotes are marked


def _bare(value: Any) -> Any:
    """Hydra's value with plain texts, and None where it is written without quotes."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, Mapping):
        return {_bare(key): _bare(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_bare(each) for each in value]
    return None if value == "None" else value


def _yaml(text: str) -> Any:
    node = yaml.compose(text, _Loader)
    for each in _nodes(node):
        if isinstance(each, yaml.ScalarNode) and each.style is None and not each.value:
            raise ValueError(f"{text}: a key without a value")
    return yaml.load(text, _Loader)


class _Loader(yaml.SafeLoader):
    """YAML in which None is null, too."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("None"), ["N"])


def _nodes(node: yaml.Node | None) -> Iterator[yaml.Node]:
    if node is not None:
        yield node
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from (each for side in pair for each in _nodes(side))
    elif isinstance(node, yaml.SequenceNode):
        yield from (each for item in node.value for each in _nodes(item))


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()

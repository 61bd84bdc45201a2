"""The keys of all commands, environments and presets, from the dataclasses that `--help` reads."""

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from worldmodel import envs
from worldmodel.cli.main import GROUPS, MODULES, entry
from worldmodel.cli.schema import PRESETS, PRESETS_OF, defaults, explained
from worldmodel.io.config import MISSING

CODE = re.compile(r"(`[^`]*`)")
COLUMNS = re.compile(r"^ |\S {2,}\S", re.MULTILINE)  # a paragraph of aligned columns


def commands() -> str:
    """Each command: what it does, and its keys with defaults and explanations."""
    return "\n".join(line for names in GROUPS.values() for name in names for line in _command(name))


def _command(name: str) -> Iterator[str]:
    schema = entry(name).schema
    about = inspect.getdoc(importlib.import_module(MODULES[name])) or ""
    yield from [f"## {name.replace('_', '-')}", "", *_prose(about), ""]
    if name in PRESETS_OF:
        yield from [f"Its preset is `{PRESETS_OF[name]}`, unless `preset=` names another.", ""]
    yield from _keys(schema, defaults(schema))


def environments() -> str:
    """Each environment, with its keys."""
    lines: list[str] = []
    for name, schema in envs.SCHEMAS.items():
        about = inspect.getdoc(schema) or ""
        lines += [f"## {name}", "", *_prose(about), "", *_keys(schema, defaults(schema), "env.")]
    return "\n".join(lines)


def presets() -> str:
    """Each preset: its first comment, and its file."""
    lines: list[str] = []
    for path in sorted(PRESETS.glob("*.yaml")):
        lines += [f"## {path.stem}", "", "```yaml", path.read_text(encoding="utf-8").rstrip(), "```", ""]
    return "\n".join(lines)


def _keys(schema: type, values: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """A list of definitions in MyST's Markdown."""
    for key, value, text in explained(schema, values, above):
        shown = f"{key}=" if value == MISSING else f"{key}={value}"
        needed = "Required. " if value == MISSING else ""
        if key != "env.name":
            yield from [f"`{shown}`", f": {needed}{escaped(text)}", ""]


def _prose(text: str) -> Iterator[str]:
    """Paragraphs, and those with aligned columns as they are."""
    for paragraph in text.split("\n\n"):
        yield from ["```text", paragraph, "```", ""] if COLUMNS.search(paragraph) else [escaped(paragraph), ""]


def escaped(text: str) -> str:
    """Plain text as Markdown: what it would act on is escaped outside of code."""
    parts = CODE.split(text)
    parts[::2] = [re.sub(r"([*<>\[\]|#])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)

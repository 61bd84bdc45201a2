"""The pages of the documentation, and what they show: Python, commands, and words in code."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from worldmodel import envs
from worldmodel.cli.main import entry
from worldmodel.cli.schema import defaults, explained

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = re.compile(r"(?<!<!-- not run -->\n)```python\n(?P<code>.*?)```", re.DOTALL)
SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
VARIABLE = re.compile(r'^(\w+)="([^"]*)"$', re.MULTILINE)
COMMAND = re.compile(r"(?:scripts/(\w+)\.py|(?<![\w/.-])worldmodel ([a-z][a-z-]+))([^\n;&]*)")
Command = tuple[str, tuple[str, ...]]


def name_of(page: Path) -> str:
    """A page as its path below the root."""
    return str(page.relative_to(ROOT))


def commands_in(page: Path) -> list[Command]:
    """The commands in the shell blocks of a page: their names and their arguments."""
    return [found for block in SHELL.findall(page.read_text()) for found in _commands(block)]


def _commands(block: str) -> Iterator[Command]:
    """Of loops, the first round; of variables, the value that is set in the same block."""
    values = {"s": "0", **dict(VARIABLE.findall(block))}
    text = re.sub(r"\$(\w+)", lambda found: values.get(found[1], found[0]), block.replace("\\\n", " "))
    for script, command, rest in COMMAND.findall(text):
        arguments = [each for each in shlex.split(rest.replace("…", "x"), comments=True) if each not in ("x", "--help")]
        yield (script or command).replace("-", "_"), tuple(arguments)


def code_spans(page: Path) -> list[str]:
    """What is in single backticks, outside of blocks."""
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def keys_of(name: str) -> Iterator[str]:
    """The keys of a command, those of all environments included."""
    schema = entry(name).schema
    yield from (key for key, _, _ in explained(schema, defaults(schema), ""))
    for each in envs.SCHEMAS.values():
        yield from (key for key, _, _ in explained(each, defaults(each), "env."))

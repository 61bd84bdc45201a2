"""Text that is made when the site is built, in the place of a comment of a page.

The comment is `<!-- generated: NAME arguments -->`, alone on its line.

On GitHub the comment is invisible, so a page says in a sentence what stands there.
"""

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from sphinx.application import Sphinx

from _ext.keys import commands, environments, presets

MARK = re.compile(r"^<!-- generated: (.+) -->$", re.MULTILINE)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", fill)
    return {"parallel_read_safe": True}


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the generated text into a page. Raises: KeyError for an unknown name."""
    source[0] = MARK.sub(lambda mark: generate(*mark[1].split()), source[0])


def generate(name: str, *arguments: str) -> str:
    """The text for one comment."""
    return MAKERS[name](*arguments)


def api(module: str, *names: str) -> str:
    """The public names of a module, or these names alone, from their docstrings."""
    found = importlib.import_module(module)
    lines = [line for name in names or _public(found) for line in _directive(module, name, getattr(found, name))]
    return "\n".join(["```{eval-rst}", *lines, "```"])


def _public(module: Any) -> list[str]:
    """What a module exports and what has a docstring of its own: classes and functions."""
    kinds = (inspect.isclass, inspect.isfunction)
    return [name for name in module.__all__ if any(is_kind(getattr(module, name)) for is_kind in kinds)]


def _directive(module: str, name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield from [f".. autoclass:: {module}.{name}", "   :members:", ""]
    else:
        yield from [f".. autofunction:: {module}.{name}", ""]


MAKERS: dict[str, Callable[..., str]] = {
    "api": api,
    "commands": commands,
    "environments": environments,
    "presets": presets,
}

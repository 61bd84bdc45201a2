"""Docstrings and signatures of this project as Sphinx reads them.

A block of lines `name: text`, below `Args:` or alone, becomes a list of arguments. Below `Raises:`
it becomes a list of errors. Types lose the modules that they come from.
"""

import re
import textwrap
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

FIELDS = {"Args:": "param", "Raises:": "raises"}
ENTRY = re.compile(r"(?!Raises|Args|Returns)(\w+(?:, \w+)*): (.*)")
INLINE = re.compile(r"^(Raises|Args|Returns): ", re.MULTILINE)  # `Raises: ValueError for …`


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", rewrite)
    app.connect("autodoc-process-signature", shorten)
    return {"parallel_read_safe": True}


def rewrite(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Rewrite the lines of a docstring in place."""
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines))
    lines[:] = [line for each in paragraphs for line in [*_paragraph(each.rstrip()), ""]]


def shorten(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Signature and return type, without `~` and the modules after it; none for a protocol."""
    if getattr(value, "_is_protocol", False):
        return "", None
    short = [each and re.sub(r"~[\w.]*\.(?=\w)", "", each) for each in (signature, returns)]
    return short[0], short[1]


def _paragraph(text: str) -> Iterator[str]:
    first, _, rest = text.partition("\n")
    if first in FIELDS:
        yield from _entries(FIELDS[first], textwrap.dedent(rest))
    elif ENTRY.match(text) and all(ENTRY.match(line) or line.startswith("    ") for line in text.splitlines()):
        yield from _entries("param", text)
    else:
        yield from INLINE.sub(r"**\1:** ", text).splitlines()


def _entries(field: str, text: str) -> Iterator[str]:
    for line in text.splitlines():
        entry = ENTRY.match(line)
        yield f":{field} {entry[1]}: {entry[2]}" if entry else f"    {line.strip()}"

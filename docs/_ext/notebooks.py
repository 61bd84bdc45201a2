"""Notebooks as pages: text, code, and the pictures and prints that are stored. Nothing runs."""

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx


class NotebookParser(MystParser):
    """Reads a notebook as the Markdown that `markdown` makes of it."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        super().parse(markdown(json.loads(inputstring)), document)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(NotebookParser)
    return {"parallel_read_safe": True}


def markdown(notebook: dict[str, Any]) -> str:
    """A notebook as Markdown."""
    return "\n\n".join(part for cell in notebook["cells"] for part in _cell(cell))


def _cell(cell: dict[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
    elif source:
        yield f"```python\n{source}\n```"
        yield from filter(None, map(_output, cell["outputs"]))


def _output(output: dict[str, Any]) -> str:
    """What a cell has printed or shown; "" for anything that is neither text nor a picture."""
    if "text" in output:
        return f"```text\n{''.join(output['text']).rstrip()}\n```"
    data = output.get("data", {})
    for kind in ("image/png", "image/gif"):
        if kind in data:
            packed = "".join(data[kind]).replace("\n", "")
            alt = escape("".join(data.get("text/plain", "picture")), quote=True)
            return f'<p><img class="output" alt="{alt}" src="data:{kind};base64,{packed}"></p>'
    return f"```text\n{''.join(data['text/plain'])}\n```" if "text/plain" in data else ""

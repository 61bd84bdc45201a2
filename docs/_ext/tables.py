"""The tables of results, from JSON: `python docs/_ext/tables.py` rewrites them in the pages.

A page has a table between `<!-- table: NAME.json -->` and `<!-- end of table -->`. Its JSON is
beside it, with the commit, the machine, and the rows that the command has written (`make bench`:
benchmarks/results.json, `make torture`: torture.json). The table of worlds is made of the reports
that come with the package.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # also as a script
from worlds_table import signed, worlds

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
MARKS = {None: "", True: "yes", False: "**no**"}


def refreshed(page: Path) -> str:
    """The text of a page, with its tables as their JSON says.

    Raises: KeyError for a table of an unknown name.
    """
    return BLOCK.sub(lambda found: found[1] + table(found[2]) + found[3], page.read_text(encoding="utf-8"))


def table(name: str) -> str:
    """The Markdown of a table, with a sentence on commit and machine where its JSON has them."""
    if name == "worlds.json":
        return "\n".join([*worlds(), ""])
    found = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    about = f"*Commit {found['commit']}, {found['machine']}; `{found['command']}`.*"
    rows = MAKERS[name.partition("_")[0].removesuffix(".json")](found)
    return "\n".join([about, "", *rows, ""])


def speed(found: dict[str, Any]) -> Iterator[str]:
    yield from ["| figure | value | target | reached | |", "|---|---|---|---|---|"]
    for row in found["rows"]:
        value = f"{row['value']:.4g} {row['unit']}".strip()
        yield f"| {row['name']} | {value} | {row['target']} | {MARKS[row['ok']]} | {row['note']} |"


def robustness(found: dict[str, Any]) -> Iterator[str]:
    yield from ["| what was done | times | lost or wrong | |", "|---|---|---|---|"]
    for row in found["rows"]:
        yield f"| {row['name']} | {row['tried']:,} | {row['failed']} | {row['note']} |"


def agents(found: dict[str, Any]) -> Iterator[str]:
    yield from ["| agent | learned from | real return | |", "|---|---|---|---|"]
    for row in found["rows"]:
        mean, low, high = (signed(f"{row[key]:.{found['digits']}f}") for key in ("mean", "low", "high"))
        bold = "**" if row["dreams"] else ""
        yield f"| {bold}{row['agent']}{bold} | {row['learned_from'] or '–'} | {bold}{mean}{bold} | [{low}, {high}] |"


MAKERS: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "speed": speed, "robustness": robustness, "agents": agents,
}  # fmt: skip


def outdated() -> list[Path]:
    """The pages with tables that differ from their JSON."""
    return [page for page in sorted(RESULTS.glob("*.md")) if refreshed(page) != page.read_text(encoding="utf-8")]


def main() -> None:
    for page in outdated():
        page.write_text(refreshed(page), encoding="utf-8")
        print(f"rewritten: {page}")


if __name__ == "__main__":
    main()

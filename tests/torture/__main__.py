"""The long torture: `python -m tests.torture [torture.json]`, or `make torture`. Under half an hour on 2 cores."""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.torture import Row
from tests.torture.rows import ROWS


def main(path: Path) -> int:
    """Runs every row at length, prints the table, writes the rows as JSON; the exit status."""
    found: list[Row] = []
    for row, _, often in ROWS:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            found.append(row(often, Path(folder)))
        print(f"{found[-1]} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        path.write_text(json.dumps([asdict(each) for each in found], indent=1, ensure_ascii=False) + "\n")
    print(markdown(found))
    return int(any(each.failed for each in found))


def markdown(rows: Sequence[Row]) -> str:
    """The table as the README shows it."""
    lines = [f"| {each.name} | {each.tried:,} | {each.failed} | {each.note} |" for each in rows]
    return "\n".join(["| what was done | times | lost or wrong | |", "|---|---|---|---|", *lines])


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "torture.json")))

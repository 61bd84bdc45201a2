"""The long torture: `python -m tests.torture [torture.json]`, or `make torture`. Under half an hour on 2 cores."""

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from tests.torture import Row
from tests.torture.rows import ROWS, at_length


def main(path: Path) -> int:
    """Runs every row at length, two at a time, prints the table, writes the rows as JSON; the exit status."""
    done: dict[int, Row] = {}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(at_length, row, often): place for place, (row, _, often) in enumerate(ROWS)}
        for each in as_completed(running):
            done[running[each]], seconds = each.result()
            print(f"{done[running[each]]} in {seconds:.0f} s", file=sys.stderr, flush=True)
            rows = [done[place] for place in sorted(done)]
            path.write_text(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False) + "\n")
    print(markdown(rows := [done[place] for place in sorted(done)]))
    return int(any(each.failed for each in rows))


def markdown(rows: Sequence[Row]) -> str:
    """The table as docs/results/robustness.md shows it."""
    lines = [f"| {each.name} | {each.tried:,} | {each.failed} | {each.note} |" for each in rows]
    return "\n".join(["| what was done | times | lost or wrong | |", "|---|---|---|---|", *lines])


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "torture.json")))

"""Done to this software on purpose, many times over: kills, crashes, full disks, damaged files. Nothing may be lost.

Each row is a function `(tried, folder) -> Row` that does its harm `tried` times within an empty folder.
`rows.py` lists them all; `python -m tests.torture` runs them at length, `tests/test_torture.py` in a minute.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """What was done how often, and how often that lost something, went unnoticed or ended in a wrong result."""

    name: str
    tried: int
    failed: int
    note: str = ""

"""The processor time that each command takes until it could begin its work."""

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator

from measure import ROOT, Row, row

from worldmodel.cli.main import MODULES

TIMES = 3
MOST = 2.0  # seconds
NEEDED = {"push": ("repo=a/b",), "bundle": ("to=x", "commands=[]")}  # keys without a default


def starting() -> Iterator[Row]:
    """Each command with --help, which imports all that the command needs and composes its settings."""
    for name in MODULES:
        command = [sys.executable, "-m", "worldmodel", name, *NEEDED.get(name, ()), "--help"]
        spent = statistics.median(_seconds(command) for _ in range(TIMES))
        note = "of one processor: imports and settings, by --help"
        yield row(f"start of worldmodel {name.replace('_', '-')}", spent, "s", most=MOST, note=note)


def _seconds(command: list[str]) -> float:
    """The processor time of a process, user and system."""
    before = os.times()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system

"""Processes to be killed: functions and scripts run in forks of one server that has imported everything already."""

import multiprocessing
import os
import random
import runpy
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE = 300.0  # seconds; whatever lasts longer hangs
KILLED = -signal.SIGKILL  # the exit code of a process that was killed

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["torch", "hydra", "worldmodel.world", "worldmodel.evaluate", "worldmodel.training"])


def start(call: Callable[..., Any], *values: Any) -> Any:
    """A process that calls a function; its `exitcode` says how that ended."""
    process = server.Process(target=call, args=values)
    process.start()
    return process


def finished(process: Any) -> bool:
    """Waits for the end of a process; whether all went well. One that hangs is killed."""
    process.join(PATIENCE)
    process.kill()
    process.join()
    return process.exitcode == 0


def struck(process: Any, chance: random.Random, within: float) -> int:
    """Kills a process at a random moment within so many seconds; its exit code says whether that came in time."""
    process.join(chance.uniform(0, within))
    process.kill()
    process.join()
    return process.exitcode


def script(log: Path, name: str, *settings: str) -> None:
    """Runs in a process: scripts/<name>.py as a user would, with what it prints in the log."""
    with open(log, "ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.chdir(ROOT)
    sys.argv = [f"scripts/{name}.py", *settings]
    runpy.run_path(sys.argv[0], run_name="__main__")


def ended(pid: int) -> bool:
    """Whether a process is gone, or dead and not buried yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def all_end(pids: list[int], seconds: float = 30.0) -> bool:
    """Whether all processes end within so many seconds."""
    until = time.monotonic() + seconds
    while not all(map(ended, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return all(map(ended, pids))


def contents(folder: Path, below: str = "") -> dict[str, bytes]:
    """Every file in a folder, or in one folder `below` it, by its path within the former."""
    files = (path for path in (folder / below).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}

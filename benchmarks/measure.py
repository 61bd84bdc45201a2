"""How the benchmark measures: medians after a warm-up, and ratios whose two sides take turns in one run."""

import json
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from worldmodel.cli.command import composed
from worldmodel.cli.main import entry

ROOT = Path(__file__).resolve().parents[1]
Work = Callable[[], Any]


@dataclass
class Row:
    """One row of the table; `ok` is None if there is no target."""

    name: str
    value: float
    unit: str
    target: str = ""
    ok: bool | None = None
    note: str = ""


def row(name: str, value: float, unit: str, *, most: float | None = None, least: float | None = None, note="") -> Row:
    """A row for a value that should be at most `most` or at least `least`; with neither, it has no target."""
    if most is not None:
        return Row(name, value, unit, f"≤ {most:g}", value <= most, note)
    if least is not None:
        return Row(name, value, unit, f"≥ {least:g}", value >= least, note)
    return Row(name, value, unit, note=note)


def seconds(work: Work) -> float:
    """The time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def typical(work: Work, repeats: int = 7) -> float:
    """Median seconds of a call, after one to warm up."""
    work()
    return median(seconds(work) for _ in range(repeats))


def versus(work: Work, yardstick: Work, repeats: int = 7) -> tuple[float, float, float]:
    """Median of time(work) ÷ time(yardstick) over pairs of calls, and the median seconds of each of the two.

    Each call starts after a rest: PyTorch's idle threads spin for some milliseconds and would slow the other side down.
    """

    def rested(call: Work) -> float:
        time.sleep(0.03)
        return seconds(call)

    work()
    yardstick()
    pairs = [(rested(work), rested(yardstick)) for _ in range(repeats)]
    return median(a / b for a, b in pairs), median(a for a, _ in pairs), median(b for _, b in pairs)


def memory() -> float:
    """Bytes of this process in memory now; without /proc, the most that it has ever used."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def extra_memory(work: Work) -> float:
    """The most bytes that a call takes beyond those in use before it, as measured a thousand times per second."""
    seen, done = [before := memory()], threading.Event()

    def sample() -> None:
        while not done.wait(0.001):
            seen.append(memory())

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        work()
    finally:
        done.set()
        sampler.join()
    return max(seen) - before


def gemm_flops() -> float:
    """Float32 GEMM ceiling of this machine, in FLOP/s: 2048 × 2048 × 2048 in PyTorch."""
    n = 2048
    a, b, out = torch.randn(n, n), torch.randn(n, n), torch.empty(n, n)
    return 2 * n**3 / typical(lambda: torch.mm(a, b, out=out))


def copy_speed() -> float:
    """Bytes a second that a copy of 256 MB moves (each read once and written once)."""
    source = np.ones(1 << 25)
    target = np.empty_like(source)
    return source.nbytes / typical(lambda: np.copyto(target, source))


def preset(command: str, name: str = "demo") -> dict[str, Any]:
    """The values of a command's config under a preset."""
    (values,) = composed(entry(command).schema, command, [f"preset={name}"])
    return values


def machine() -> str:
    """One line on the commit, the machine and the versions that a result was measured with."""
    commit = _output("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    model = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "")
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"commit {commit}, {torch.get_num_threads()} threads of {model or platform.processor()} ({capability}), "
        f"Python {platform.python_version()}, PyTorch {torch.__version__}, NumPy {np.__version__}"
    )


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def markdown(rows: Sequence[Row], about: str) -> str:
    """The table as docs/results/speed.md shows it."""
    marks = {None: "", True: "yes", False: "**no**"}
    lines = [f"| {r.name} | {r.value:.4g} {r.unit} | {r.target} | {marks[r.ok]} | {r.note} |" for r in rows]
    return "\n".join([about, "", "| figure | value | target | reached | |", "|---|---|---|---|---|", *lines, ""])


def write(rows: Sequence[Row], folder: Path) -> str:
    """Write results.json and results.md; returns the table."""
    (folder / "results.json").write_text(json.dumps([asdict(each) for each in rows], indent=1, ensure_ascii=False))
    text = markdown(rows, machine())
    (folder / "results.md").write_text(text)
    return text

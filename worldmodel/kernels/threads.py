"""How many threads a program takes, and how its idle threads wait; an import changes neither.

OpenMP divides each operation into equal parts, one for each thread, and the operation lasts as long as the slowest
part. Beside one other busy process, a training with a thread on every core is therefore as slow as its interrupted
thread. Threads that spin while they wait make it worse: they use up the time that the slow thread needs.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # environment variables by which a person sets the number
# Variables of the two OpenMP libraries: GNU's (PyTorch for Linux) and LLVM's or Intel's (macOS, Windows, conda).
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
WAITING_SET = (*WAITING, "GOMP_SPINCOUNT", "KMP_LIBRARY")


def wait_asleep() -> None:
    """Let idle OpenMP threads of this process sleep instead of spin; variables that are set already stay.

    OpenMP reads its variables once, when it is loaded: call this before the first import of torch.
    """
    if not any(name in os.environ for name in WAITING_SET):
        os.environ.update(WAITING)


def set_threads() -> int:
    """Give torch `own_count()` threads, or what OMP_NUM_THREADS or MKL_NUM_THREADS says; returns the number."""
    import torch

    if not set_by_person():
        torch.set_num_threads(own_count())
    return torch.get_num_threads()


def set_by_person() -> bool:
    """Whether the environment says how many threads to take."""
    return any(os.environ.get(name) for name in COUNTS)


def own_count() -> int:
    """All cores but one, which is left for data workers and other programs; at least one.

    It depends on the machine alone and not on its load, as sums depend in their last bits on the number of threads.
    """
    return max(1, usable_cores() - 1)


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute with this number of threads inside the block (None: no change), unless the environment sets one."""
    import torch

    before = torch.get_num_threads()
    try:
        if count is not None and count != before and not set_by_person():
            torch.set_num_threads(count)
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def usable_cores() -> int:
    """Physical cores that this process may use: by its affinity, and by the quota of its control group."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = len({_core(cpu) for cpu in allowed})
    return max(1, min([cores, *(int(quota) for quota in _quotas())]))


def _core(cpu: int) -> str:
    """The names of all logical CPUs of a core; that of this one alone where the system does not say."""
    return _text(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")) or str(cpu)


def _quotas(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[float]:
    """Cores that each control group of this process grants it, as containers and job systems set them."""
    for line in _text(own).splitlines():
        controllers, path = line.split(":", 2)[1:]
        if controllers == "" or "cpu" in controllers.split(","):
            group = root / (controllers and "cpu") / path.lstrip("/")
            places = [place for place in (group, *group.parents) if place.is_relative_to(root)]
            yield from (quota for place in places if (quota := _quota(place)))


def _quota(group: Path) -> float | None:
    """Cores of one control group: cpu.max is "QUOTA PERIOD" in microseconds, or two files in version 1."""
    words = _text(group / "cpu.max").split()
    words = words or [_text(group / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
    if all(word.isdigit() for word in words) and int(words[1]):  # not "max" and not -1
        return int(words[0]) / int(words[1])
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""

"""The worker pool: the death of a parent, worker or engine ends what depends on it, and nothing else."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator
from functools import partial
from itertools import islice
from pathlib import Path

import pytest

from tests.torture.processes import all_end
from worldmodel.data.collect.worker_pool import Attempt, run_tasks


class Square:
    """Has results."""

    def __call__(self, task: int) -> Attempt:
        return Attempt(task, task**2)

    def close(self) -> None:
        """Nothing is open."""


class Program(Square):
    """Starts a program, as some engines do, leaves both process ids in a folder, and crashes (task 0) or hangs."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, task: int) -> Attempt:
        program = subprocess.Popen(["sleep", "3600"], close_fds=False)
        for pid in (os.getpid(), program.pid):
            (self.folder / str(pid)).touch()
        time.sleep(3600 if task else 0)
        os.kill(os.getpid(), signal.SIGSEGV)
        return super().__call__(task)


class Stubborn(Square):
    """Starts a program and then holds Python's lock in C, deaf to signals and threads."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, task: int) -> Attempt:
        program = subprocess.Popen(["sleep", "3600"])
        for pid in (os.getpid(), program.pid):
            (self.folder / str(pid)).touch()
        ctypes.PyDLL(None).sleep(3600)
        return super().__call__(task)


class Unpicklable(Exception):
    """Cannot travel between processes: it cannot be made from its message."""

    def __init__(self, one: int, two: int):
        super().__init__(f"{one} and {two}")


class Refuse(Square):
    def __call__(self, task: int) -> Attempt:
        raise Unpicklable(task, 2)


def pids(folder: Path, count: int) -> list[int]:
    """The process ids that appear in a folder, once there are so many."""
    until = time.monotonic() + 60
    while len(found := os.listdir(folder)) < count:
        assert time.monotonic() < until, "no worker has started"
        time.sleep(0.05)
    return [int(name) for name in found]


@pytest.mark.parametrize("workers", [1, 3])
def test_every_task_is_done_once_and_those_put_back_again(workers):
    tasks, done = deque([3, 1, 2]), []
    for attempt in run_tasks(Square(), tasks, workers=workers):
        if done == []:
            tasks.append(5)
        done.append((attempt.task, attempt.result))
    assert sorted(done) == [(1, 1), (2, 4), (3, 9), (5, 25)]


def test_an_error_that_cannot_be_pickled_is_reported_all_the_same():
    with pytest.raises(RuntimeError, match="Unpicklable: 1 and 2"):
        list(run_tasks(Refuse(), deque([1]), workers=1))


def test_a_crash_is_noticed_and_takes_along_what_the_engine_started(tmp_path):
    (attempt,) = run_tasks(Program(tmp_path), deque([0]), workers=1)
    assert "SIGSEGV" in attempt.problem
    assert all_end(pids(tmp_path, 2))


def test_a_hang_is_killed_with_all_that_the_engine_started(tmp_path):
    (attempt,) = run_tasks(Program(tmp_path), deque([1]), workers=1, timeout=1.0)
    assert attempt.problem == "took longer than timeout=1 seconds"
    assert all_end(pids(tmp_path, 2))


def test_whoever_stops_listening_leaves_no_process(tmp_path):
    attempts = run_tasks(Program(tmp_path), deque([0, 1]), workers=2)
    assert [attempt.task for attempt in islice(attempts, 1)] == [0]
    waiting = pids(tmp_path, 4)
    assert isinstance(attempts, Generator)
    attempts.close()
    assert all_end(waiting)


def test_an_engine_that_holds_pythons_lock_is_killed_when_its_time_is_over(tmp_path):
    (attempt,) = run_tasks(Stubborn(tmp_path), deque([1]), workers=1, timeout=1.0)
    assert attempt.problem == "took longer than timeout=1 seconds"
    assert all_end(pids(tmp_path, 2))


@pytest.mark.parametrize("work", ["Program", "Stubborn"])
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_parent_however_it_ends(tmp_path, signum, work):
    task = f"t.run_tasks(t.{work}(t.Path({str(tmp_path)!r})), t.deque([1, 2]), workers=2)"
    command = [sys.executable, "-c", f"import test_worker_pool as t; list({task})"]
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # shells have what they start with & deaf to it
    env = {**os.environ, "PYTHONPATH": path}
    parent = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL, preexec_fn=heard)
    waiting = pids(tmp_path, 4)
    parent.send_signal(signum)
    assert parent.wait(timeout=20) != 0
    assert all_end(waiting)

"""Work in processes of their own, and watched: a task that kills its process or hangs harms no other task.

Each process leads a process group, so that what an engine started (ViZDoom's is a program of its own) goes with
it, and so that Ctrl-C at a terminal reaches the parent alone. When the parent is gone, however it went, each
process closes its engine and ends. A guard, a fork of the process within its group, sees to that: an engine that
holds Python's lock (the GIL) would let no thread of its own process act. Only a program that leaves the group
(setsid) is out of reach.
"""

import contextlib
import math
import os
import pickle
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Pipe, wait
from queue import SimpleQueue
from typing import Any, Protocol, runtime_checkable

from joblib.externals.loky.backend import get_context

SHUTDOWN_SECONDS = 5.0  # seconds that a process has to close its engine before it is killed
STARTED = None  # what a process says when it begins with a task: its own start takes seconds that are not the task's


@dataclass(frozen=True)
class Attempt:
    """What became of one attempt at a task: its result, or the problem that it met."""

    task: int
    result: Any = 0
    problem: str = ""


@runtime_checkable
class Worker(Protocol):
    """What a process does: attempts at tasks, between which it may keep things open that `close` ends."""

    def __call__(self, task: int, /) -> Attempt: ...

    def close(self) -> None: ...


def run_tasks(work: Worker, tasks: deque[int], *, workers: int, timeout: float | None = None) -> Iterator[Attempt]:
    """Attempts at the tasks, as they end; what is put back into `tasks` meanwhile is tried again.

    A process that dies, or takes longer than `timeout` seconds over a task, costs that attempt and is replaced.

    Raises:
        Exception: whatever `work` raises; all processes are ended first.
    """
    crew = [_WorkerProcess(work, timeout) for _ in range(workers)]
    try:
        while True:
            for worker in crew:
                if worker.task is None and tasks:
                    worker.begin(tasks.popleft())
            busy = [worker for worker in crew if worker.task is not None]
            if not busy:
                return
            yield from _ended(busy)
    finally:
        _end(crew)


def _ended(busy: Sequence["_WorkerProcess"]) -> Iterator[Attempt]:
    """Waits until at least one of the workers has an answer or has had its time."""
    patience = min(worker.deadline for worker in busy) - time.monotonic()
    ready = wait([worker.pipe for worker in busy], None if patience == math.inf else max(0.0, patience))
    for worker in busy:
        if worker.pipe in ready:
            if (attempt := worker.answer()) is not None:
                yield attempt
        elif time.monotonic() >= worker.deadline:
            yield worker.kill_on_timeout()


def _end(crew: Sequence["_WorkerProcess"]) -> None:
    """All at once, so that they share the time that closing takes."""
    running = [worker for worker in crew if worker.process is not None]
    for worker in running:
        worker.process.terminate()
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    for worker in running:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.kill()


class _WorkerProcess:
    """A process, started when there is a task for it and again after each death, with one task at a time."""

    process: Any = None
    pipe: Any = None  # to the process; what comes out of it is an Attempt, an error, or STARTED
    lifeline: Any = None  # nothing is ever sent: that it ends tells the guard that this process is gone
    task: int | None = None
    deadline = math.inf

    def __init__(self, work: Worker, timeout: float | None):
        self.work, self.timeout = work, timeout

    def begin(self, task: int) -> None:
        if self.process is None:
            self._start()
        self.task, self.deadline = task, math.inf
        with contextlib.suppress(OSError):  # a process that was killed while idle: its answer will be that it died
            self.pipe.send(task)

    def answer(self) -> Attempt | None:
        """What became of the task; None when the process says that it begins with it, from when on time counts."""
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            return self._failed(f"its process {_death(self.kill())}")
        if answer is STARTED:
            self.deadline = time.monotonic() + (math.inf if self.timeout is None else self.timeout)
            return None
        self.task = None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def kill_on_timeout(self) -> Attempt:
        """Kills a process that has had its time."""
        self.kill()
        return self._failed(f"took longer than timeout={self.timeout:g} seconds")

    def kill(self) -> int:
        """Ends the process and all that it started; returns its exit code."""
        for kill in (os.killpg, os.kill):  # it may not lead a group yet
            with contextlib.suppress(OSError):
                kill(self.process.pid, signal.SIGKILL)
        self.process.join()
        code, self.process = self.process.exitcode, None
        self.pipe.close()
        self.lifeline.close()
        return code

    def _failed(self, problem: str) -> Attempt:
        task, self.task = self.task, None
        assert task is not None
        return Attempt(task, problem=problem)

    def _start(self) -> None:
        self.pipe, theirs = Pipe()
        guarded, self.lifeline = Pipe(duplex=False)
        # loky starts processes as "spawn" does, but without importing the main module, which may take seconds.
        loky: Any = get_context("loky")
        process = loky.Process(target=_serve, args=(self.work, theirs, guarded))
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: deaf to Ctrl-C from the start
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
            guarded.close()
        self.process = process


def _death(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended by itself with status {code}"


def _serve(work: Worker, pipe: Any, lifeline: Any) -> None:
    """Runs in the process: does what the parent asks for until it is told to stop, or the parent is gone."""
    os.setpgrp()
    _post_guard(lifeline)
    os.set_inheritable(pipe.fileno(), False)  # else an engine's own process would keep it open when this one dies
    signal.signal(signal.SIGTERM, _leave)
    tasks: SimpleQueue[int] = SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, tasks), daemon=True).start()
    try:
        while True:
            task = tasks.get()
            pipe.send(STARTED)
            pipe.send(_answer(work, task))
    finally:
        with contextlib.suppress(Exception):
            work.close()
        os.killpg(0, signal.SIGKILL)


def _answer(work: Worker, task: int) -> Attempt | Exception:
    """What `work` returns or raises, in a form that can travel."""
    try:
        return work(task)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return RuntimeError(f"{type(error).__name__}: {error}")
        return error


def _listen(pipe: Any, tasks: "SimpleQueue[int]") -> None:
    """Takes the parent's orders, until there is no parent any more."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            tasks.put(pipe.recv())


def _post_guard(lifeline: Any) -> None:
    """Fork the guard, which ends this process and all that it started when the parent is gone."""
    worker = os.getpid()
    with warnings.catch_warnings(action="ignore"):  # NumPy's threads: the guard needs none of what they hold
        guard = os.fork()
    if guard:
        lifeline.close()
        return
    try:
        _watch_over(worker, lifeline.fileno())
    finally:
        os._exit(0)


def _watch_over(worker: int, lifeline: int) -> None:
    """Runs in the guard. It keeps no file open, or the parent would not see the end of the worker."""
    most = min(os.sysconf("SC_OPEN_MAX"), 1 << 16)
    os.closerange(0, lifeline)
    os.closerange(lifeline + 1, most)
    os.read(lifeline, 1)  # returns when the parent is gone
    if os.getppid() == worker:  # else the worker is gone, and its number may be another's
        os.kill(worker, signal.SIGTERM)
        time.sleep(SHUTDOWN_SECONDS)
    os.killpg(0, signal.SIGKILL)


def _leave(signum: int, frame: object) -> None:
    """An orderly exit, which closes engines; once is enough."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + signum)

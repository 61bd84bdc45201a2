"""Runs tasks in worker processes: a task that crashes or hangs its process harms no other task.

Each worker leads a process group, because engines start programs of their own (ViZDoom does). The group is killed as a
whole, and Ctrl-C at a terminal reaches the parent alone. When the parent is gone, for whatever reason, each worker
closes its engine and ends. A guard process in the worker's group ensures this: an engine that holds Python's lock (the
GIL) would let no thread of the worker act. Only a program that leaves the group (setsid) escapes.

Why not a library: `multiprocessing` imports the main module again in each worker, which takes seconds, and
`concurrent.futures` and loky's executor break as a whole when a worker dies. pebble 5.2.3 was tried: its pools broke or
stalled when workers were killed, it has no hook that closes an engine, and it kills no process groups. The numbers are
in docs/dependencies.md.
"""

import contextlib
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from queue import SimpleQueue
from typing import Any, Protocol, runtime_checkable

import cloudpickle

SHUTDOWN_SECONDS = 5.0  # a worker has this long to close its engine before it is killed
STARTED = None  # a worker sends this when it starts a task: the time limit excludes the start of the process


@dataclass(frozen=True)
class Attempt:
    """The outcome of one attempt at a task: its result, or the problem that ended it."""

    task: int
    result: Any = 0
    problem: str = ""


@runtime_checkable
class Worker(Protocol):
    """Runs in each process: attempts tasks, and may keep an engine open between them until `close`."""

    def __call__(self, task: int, /) -> Attempt: ...

    def close(self) -> None: ...


def run_tasks(work: Worker, tasks: deque[int], *, workers: int, timeout: float | None = None) -> Iterator[Attempt]:
    """Yield attempts as they end. A task that is put back into `tasks` meanwhile is attempted again.

    A process that dies, or takes longer than `timeout` seconds for a task, costs that attempt and is replaced.

    Raises:
        Exception: any exception of `work`; all processes are ended first.
    """
    pool = [_WorkerProcess(work, timeout) for _ in range(workers)]
    try:
        while True:
            for worker in pool:
                if worker.task is None and tasks:
                    worker.submit(tasks.popleft())
            busy = [worker for worker in pool if worker.task is not None]
            if not busy:
                return
            yield from _wait_for_attempts(busy)
    finally:
        _shut_down(pool)


def _wait_for_attempts(busy: Sequence["_WorkerProcess"]) -> Iterator[Attempt]:
    """Wait until at least one worker has answered or has exceeded its time limit."""
    seconds = min(worker.deadline for worker in busy) - time.monotonic()
    ready = wait([worker.pipe for worker in busy], None if seconds == math.inf else max(0.0, seconds))
    for worker in busy:
        if worker.pipe in ready:
            if (attempt := worker.receive()) is not None:
                yield attempt
        elif time.monotonic() >= worker.deadline:
            yield worker.kill_on_timeout()


def _shut_down(pool: Sequence["_WorkerProcess"]) -> None:
    """End all workers at once, so that they share the time for closing their engines."""
    running = [worker for worker in pool if worker.process is not None]
    for worker in running:
        worker.process.terminate()
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    for worker in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        worker.kill()


class _WorkerProcess:
    """A process with one task at a time; started for its first task, and again after each death."""

    process: Any = None
    pipe: Any = None  # from the process come Attempts, exceptions and STARTED
    lifeline: Any = None  # nothing is sent through it: its end tells the guard that the parent is gone
    task: int | None = None
    deadline = math.inf

    def __init__(self, work: Worker, timeout: float | None):
        self.work, self.timeout = work, timeout

    def submit(self, task: int) -> None:
        self.task, self.deadline = task, math.inf
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has died: `receive` will say so
            if self.process is None:
                self._start()
            self.pipe.send(task)

    def receive(self) -> Attempt | None:
        """The outcome of the task; None when the process starts the task, which sets the deadline."""
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            return self._failed(f"its process {_describe_exit(self.kill())}")
        if answer is STARTED:
            self.deadline = time.monotonic() + (math.inf if self.timeout is None else self.timeout)
            return None
        self.task = None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def kill_on_timeout(self) -> Attempt:
        self.kill()
        return self._failed(f"took longer than timeout={self.timeout:g} seconds")

    def kill(self) -> int:
        """End the process and all programs that it started; returns its exit code."""
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        code, self.process = self.process.wait(), None
        self.pipe.close()
        self.lifeline.close()
        return code

    def _failed(self, problem: str) -> Attempt:
        task, self.task = self.task, None
        assert task is not None
        return Attempt(task, problem=problem)

    def _start(self) -> None:
        content = cloudpickle.dumps(self.work)  # what is defined in the main module travels too
        self.pipe, theirs = Pipe()
        guarded, self.lifeline = Pipe(duplex=False)
        ends = theirs.fileno(), guarded.fileno()
        program = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import _serve; _serve{ends}"
        command = [sys.executable, "-c", program]
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: Ctrl-C does not reach it
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=ends, process_group=0)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
            guarded.close()
        self.pipe.send_bytes(content)


def _describe_exit(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended by itself with status {code}"


def _serve(pipe_handle: int, lifeline: int) -> None:
    """Runs in the worker process: does the parent's tasks until it is stopped or the parent is gone."""
    for handle in (pipe_handle, lifeline):  # else an engine's program would keep them open when this process dies
        os.set_inheritable(handle, False)
    _fork_guard(lifeline)
    pipe = Connection(pipe_handle)
    signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        work = pickle.loads(pipe.recv_bytes())
    except EOFError:  # the parent is gone; the guard does the rest
        return
    tasks: SimpleQueue[int] = SimpleQueue()
    threading.Thread(target=_receive_tasks, args=(pipe, tasks), daemon=True).start()
    try:
        while True:
            task = tasks.get()
            pipe.send(STARTED)
            pipe.send(_attempt(work, task))
    finally:
        with contextlib.suppress(Exception):
            work.close()
        os.killpg(0, signal.SIGKILL)


def _attempt(work: Worker, task: int) -> Attempt | Exception:
    """The result of `work`, or its exception in a form that can be pickled."""
    try:
        return work(task)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return RuntimeError(f"{type(error).__name__}: {error}")
        return error


def _receive_tasks(pipe: Connection, tasks: "SimpleQueue[int]") -> None:
    """Queue the parent's tasks until the parent is gone."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            tasks.put(pipe.recv())


def _fork_guard(lifeline: int) -> None:
    """Fork the guard, which ends this process and all that it started when the parent is gone."""
    worker = os.getpid()
    with warnings.catch_warnings(action="ignore"):  # about NumPy's threads: the guard needs nothing of theirs
        guard = os.fork()
    if guard:
        os.close(lifeline)
        return
    try:
        _watch_parent(worker, lifeline)
    finally:
        os._exit(0)


def _watch_parent(worker: int, lifeline: int) -> None:
    """Runs in the guard. It closes all other files, or the parent would not notice the end of the worker."""
    most = min(os.sysconf("SC_OPEN_MAX"), 1 << 16)
    os.closerange(0, lifeline)
    os.closerange(lifeline + 1, most)
    os.read(lifeline, 1)  # returns when the parent is gone
    if os.getppid() == worker:  # else the worker is gone, and its id may be another process's
        os.kill(worker, signal.SIGTERM)
        time.sleep(SHUTDOWN_SECONDS)
    os.killpg(0, signal.SIGKILL)


def _exit_on_signal(signum: int, frame: object) -> None:
    """Exit in order, which closes engines; a second signal changes nothing."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + signum)

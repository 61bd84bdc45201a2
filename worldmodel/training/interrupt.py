"""Stops a training run between two steps when the user or the system asks for it."""

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any


class Interrupted(SystemExit):
    """Training was asked to stop and has saved itself; uncaught, it ends the program with 128 + the signal."""

    def __init__(self, step: int, signum: int = signal.SIGINT):
        super().__init__(128 + signum)  # 130 for Ctrl-C, 143 for SIGTERM, as shells have it
        self.step = step


class SignalGuard:
    """Ctrl-C and SIGTERM become `signum`, to be read between steps; asked a second time, they stop at once.

    Inside `interruptible()`, where nothing is half done, they raise KeyboardInterrupt, so that a wait ends too.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._waiting = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "SignalGuard":
        if threading.current_thread() is threading.main_thread():  # the only one that may set handlers
            self._before = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A wait that a signal may cut short with KeyboardInterrupt."""
        self._waiting = True
        try:
            yield
        except KeyboardInterrupt:
            self.signum = self.signum or signal.SIGINT
            raise
        finally:
            self._waiting = False

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        again, self.signum = bool(self.signum), signum
        if again or self._waiting:
            raise KeyboardInterrupt


def leave_signals_to_parent(worker: int) -> None:
    """Let a data worker ignore Ctrl-C and SIGTERM: terminals and job systems signal the parent too.

    The parent ends its workers itself. A worker that died first would interrupt the parent's step or checkpoint.
    """
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)


def end_readers(readers: Iterable[BaseProcess]) -> None:
    """Kill the data workers that hang: they ignore SIGTERM, so Python would wait for them forever as it ends."""
    for reader in readers:
        with suppress(RuntimeError):  # PyTorch's, about a reader that is killed
            if reader.is_alive():
                reader.kill()
                reader.join()

"""Runs native decoders in a child process: if one crashes, hangs or exhausts memory, the file is refused.

The child writes its answer to a pipe as JSON and raw numbers. On Linux its memory is limited, and so are the files that
it writes (one megabyte); the time limit holds on every system.
"""

import json
import math
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

import numpy as np

from worldmodel.io.untrusted import EPISODE_BYTES, UntrustedFileError

try:
    import resource
except ImportError:  # Windows
    resource = None

MEMORY = 1 << 32  # bytes of address space of a child
LOG_BYTES = 1 << 20  # of a child's standard error, and of any file that it writes
ANSWER_BYTES = 1 << 24  # of the JSON before the arrays
SECONDS = 60.0  # default time limit of one read from a child
TYPES = {f"{kind}{size}" for kind in ("<i", "<u", "<f") for size in (2, 4, 8)} | {"|i1", "|u1", "|b1"}


class Child:
    """A process that decodes the file `what` and writes to its standard output; a context manager that ends it.

    Args:
        command: the program and its arguments.
        what: the file, for messages.
        stdin: what the child reads: a file, or a pipe for `ask`.
        env: its environment variables; None: those of this process.
        seconds: time limit of one read.

    Raises:
        UntrustedFileError: from each read, if the child died, took too long or returned too little.
    """

    def __init__(
        self,
        command: Sequence[str],
        what: object,
        stdin: IO[bytes] | int,
        env: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ):
        self.what, self.seconds = what, SECONDS if seconds is None else seconds
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        pipes: dict[str, Any] = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": self._log}
        self.process = subprocess.Popen(list(command), env=env, **pipes)
        _limit(self.process.pid)
        self._deadline, self._late = math.inf, False
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the child."""
        self._closed.set()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self._log):
            if pipe is not None:
                pipe.close()

    def _watch(self) -> None:
        while not self._closed.wait(min(1.0, self.seconds / 4)):
            if time.monotonic() > self._deadline:
                self._late = True
                self.process.kill()
                return

    def line(self) -> bytes:
        """The next line, without its line break; empty if the child has closed its output."""
        assert self.process.stdout is not None
        self._deadline = time.monotonic() + self.seconds
        found = self.process.stdout.readline(ANSWER_BYTES)
        self._deadline = math.inf
        return found.rstrip(b"\n")

    def array(self, shape: Sequence[int], dtype: str = "|u1") -> np.ndarray:
        """The next array, of exactly this shape and type."""
        if math.prod(shape) * np.dtype(dtype).itemsize > EPISODE_BYTES:
            raise UntrustedFileError(f"{self.what}: its decoder gave an array of {tuple(shape)}")
        output: Any = self.process.stdout  # buffered: it reads until the array is complete
        found = np.empty(shape, dtype)
        self._deadline = time.monotonic() + self.seconds
        got = output.readinto(found.reshape(-1).view(np.uint8)) if found.size else 0
        self._deadline = math.inf
        if got != found.nbytes:
            raise self.failure()
        return found

    def ask(self, **request: Any) -> tuple[dict[str, Any], np.ndarray | None]:
        """Send one line of JSON; the child answers with a line of JSON and, if that has the key `array`, an array.

        Raises:
            UntrustedFileError: the answer has the key `error`, or there is no answer.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:  # it is gone
            raise self.failure() from error
        answer = self._answer()
        if "error" in answer:
            raise UntrustedFileError(f"{self.what}: {answer['error']}")
        if "array" not in answer:
            return answer, None
        return answer, self.array(*self._announced(answer["array"]))

    def _answer(self) -> dict[str, Any]:
        if not (line := self.line()):
            raise self.failure()
        try:
            return dict(json.loads(line))
        except (ValueError, TypeError) as error:
            raise UntrustedFileError(f"{self.what}: its decoder gave no answer that can be read") from error

    def _announced(self, array: Any) -> tuple[list[int], str]:
        """Shape and type of the array that follows."""
        problem = UntrustedFileError(f"{self.what}: expected an array of numbers, got {array}")
        if not isinstance(array, list) or len(array) != 2 or not isinstance(array[0], list):
            raise problem
        if array[1] not in sorted(TYPES) or not all(isinstance(size, int) and size >= 0 for size in array[0]):
            raise problem
        return array[0], array[1]

    def failure(self) -> UntrustedFileError:
        """The error that says why the child's output ended."""
        status = self._status()
        if self._late:
            return UntrustedFileError(f"{self.what}: damaged: decoding took more than {self.seconds:g} seconds")
        if status < 0:
            name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
            return UntrustedFileError(f"{self.what}: damaged: its decoder crashed ({name})")
        last = self.log().strip().splitlines()[-3:] or ["its decoder stopped without a message"]
        return UntrustedFileError(f"{self.what}: damaged, or of another kind: {'; '.join(last)}")

    def _status(self) -> int:
        """The exit status of the child, after it had time to end by itself."""
        try:
            return self.process.wait(self.seconds)
        except subprocess.TimeoutExpired:
            self._late = True
            self.process.kill()
            return self.process.wait()

    def log(self) -> str:
        """What the child wrote to its standard error."""
        self._log.seek(0)
        return self._log.read(LOG_BYTES).decode(errors="replace")


def _limit(pid: int) -> None:
    """Limit the child's memory and files; only Linux lets another process set these limits."""
    if resource is None or not hasattr(resource, "prlimit"):
        return
    limits = {resource.RLIMIT_AS: MEMORY, resource.RLIMIT_FSIZE: LOG_BYTES, resource.RLIMIT_CORE: 0}
    for limit, value in limits.items():
        try:
            _, most = resource.prlimit(pid, limit)
            value = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.prlimit(pid, limit, (value, value))
        except (OSError, ValueError):  # it has ended already, or this system forbids it
            return

"""A decoder in a child process: its crash, its silence and its flood are refusals here, and it is gone afterwards."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from worldmodel.io.sandbox import Child
from worldmodel.io.untrusted import UntrustedFileError


def child(code: str, seconds: float = 20.0) -> Child:
    return Child([sys.executable, "-c", code], "x.bin", subprocess.PIPE, seconds=seconds)


def answering(head: str, rest: str = "b''") -> str:
    """A child that reads one request and answers like this."""
    write = f"sys.stdout.buffer.write({head.encode()!r} + b'\\n' + {rest}); sys.stdout.buffer.flush()"
    return f"import sys; sys.stdin.readline(); {write}; sys.stdin.readline()"


def test_values_and_arrays_come_back():
    with child(answering('{"x": 1, "array": [[2, 2], "<f4"]}', "b'\\0\\0\\x80\\x3f' * 4")) as made:
        values, found = made.ask(do="x")
    assert values["x"] == 1
    np.testing.assert_array_equal(found, np.ones((2, 2), np.float32), strict=True)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX")
@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGBUS"])
def test_a_crash_is_a_refusal_that_names_the_file_and_the_signal(name):
    match = rf"x\.bin: damaged: its decoder crashed \({name}\)"
    code = f"import os, signal; os.kill(os.getpid(), signal.{name})"
    with child(code) as made, pytest.raises(UntrustedFileError, match=match):
        made.ask(do="x")


@pytest.mark.parametrize("before", ["", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "])
def test_a_child_that_never_answers_is_ended(before):
    started = time.monotonic()
    match = r"x\.bin: damaged: decoding took more than 1 seconds"
    with child(f"{before}import time; time.sleep(600)", 1.0) as made, pytest.raises(UntrustedFileError, match=match):
        made.ask(do="x")
    assert made.process.returncode is not None and time.monotonic() - started < 30


@pytest.mark.skipif(sys.platform != "linux", reason="the ceiling is of Linux")
def test_a_child_that_floods_memory_ends_and_may_not_write_much(tmp_path):
    with child("x = bytearray(1 << 36)") as made, pytest.raises(UntrustedFileError, match="MemoryError"):
        made.ask(do="x")
    path = tmp_path / "much"
    code = f"import sys; sys.stdin.readline(); open({str(path)!r}, 'wb').write(bytes(1 << 24))"
    with child(code) as made, pytest.raises(UntrustedFileError):
        made.ask(do="x")
    assert not path.exists() or path.stat().st_size <= 1 << 20


@pytest.mark.parametrize(
    ("head", "rest", "error"),
    [
        ("no json", "b''", "no answer that can be read"),
        ("[1]", "b''", "no answer that can be read"),
        ('{"error": "bad"}', "b''", r"x\.bin: bad"),
        ('{"array": [[2], "<f4"]}', "b'12'", "damaged|took more"),
        ('{"array": [[2], "|O"]}', "bytes(16)", "expected an array of numbers"),
        ('{"array": [[2], "9999f8"]}', "bytes(16)", "expected an array of numbers"),
        ('{"array": [[-2], "<f4"]}', "bytes(16)", "expected an array of numbers"),
        ('{"array": [[99999999999], "<f4"]}', "bytes(16)", "gave an array of"),
        ('{"array": 3}', "bytes(16)", "expected an array of numbers"),
    ],
)
def test_an_answer_that_is_none_is_a_refusal(head, rest, error):
    with child(answering(head, rest), seconds=2.0) as made, pytest.raises(UntrustedFileError, match=error):
        made.ask(do="x")


def test_errors_that_a_child_prints_are_raised():
    match = r"x\.bin: damaged, or of another kind: no such thing"
    with child("raise SystemExit('no such thing')") as made, pytest.raises(UntrustedFileError, match=match):
        made.ask(do="x")


def test_a_child_ends_with_its_context_and_reads_a_file_as_its_input(tmp_path: Path):
    (tmp_path / "in").write_bytes(b"P6\nabc")
    command = [sys.executable, "-c", "import sys, time; print(sys.stdin.read(), flush=True); time.sleep(600)"]
    with open(tmp_path / "in", "rb") as file, Child(command, "x", file) as made:
        assert (made.line(), made.line(), made.process.poll()) == (b"P6", b"abc", None)
    assert made.process.returncode is not None

"""One writer for a folder: the second one is told who holds it, and no lock outlives its process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from worldmodel.io.lock import FILE, FolderInUse, writer_lock

HOLD = """
import sys, time
from worldmodel.io.lock import writer_lock
with writer_lock(sys.argv[1], "training"):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(folder: Path) -> subprocess.Popen:
    """A process that holds the lock of a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_second_writer_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with hold(tmp_path) as holder:
        try:
            words = rf"process {holder.pid} on .+, since .+ \(training\)"
            with pytest.raises(FolderInUse, match=words), writer_lock(tmp_path, "collection"):
                pass
        finally:
            holder.kill()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_lock_ends_with_its_process(tmp_path: Path, signum: int) -> None:
    with hold(tmp_path) as holder:
        holder.send_signal(signum)
    with writer_lock(tmp_path, "collection"):
        assert str(os.getpid()) in (tmp_path / FILE).read_text()


def test_one_process_cannot_lock_a_folder_twice(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "run")
    with writer_lock(tmp_path / "run", "training"):
        for name in ("run", "link"):
            with (
                pytest.raises(FolderInUse, match="this process writes there already"),
                writer_lock(tmp_path / name, "training"),
            ):
                pass
    with writer_lock(tmp_path / "run", "training"):
        pass


def test_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    with writer_lock(tmp_path, "training"):
        child = os.fork()
        if child == 0:
            signal.pause()
    try:
        code = "import sys; from worldmodel.io.lock import writer_lock\nwith writer_lock(sys.argv[1], 'x'): pass"
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"pid": 1}'])
def test_stale_text_locks_nobody_out(tmp_path: Path, text: bytes) -> None:
    (tmp_path / FILE).write_bytes(text)
    with writer_lock(tmp_path, "training"):
        pass

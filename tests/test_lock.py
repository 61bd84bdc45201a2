"""One writer for a folder: the error of a second one says who holds it, and no lock outlives its process."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from worldmodel.io import files
from worldmodel.io.lock import FolderInUse, lock_file, writer_lock

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


def test_the_error_of_a_second_writer_says_who_holds_the_folder(tmp_path: Path) -> None:
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
        assert str(os.getpid()) in lock_file(tmp_path).read_text()


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
        assert lock_file(tmp_path).exists()
    try:
        code = "import sys; from worldmodel.io.lock import writer_lock\nwith writer_lock(sys.argv[1], 'x'): pass"
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"pid": 1}'])
def test_stale_text_locks_nobody_out(tmp_path: Path, text: bytes) -> None:
    lock_file(tmp_path).write_bytes(text)
    with writer_lock(tmp_path, "training"):
        pass


def test_folder_itself_stays_as_it_is_and_no_file_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "episodes"
    with writer_lock(folder, "collection") as locked:
        assert locked and os.listdir(folder) == [] and lock_file(folder).exists()
    assert sorted(os.listdir(tmp_path)) == ["episodes"]


def test_lock_is_found_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "episodes").symlink_to(tmp_path / "disk")
    assert lock_file(tmp_path / "run" / "episodes") == lock_file(tmp_path / "disk") == tmp_path / ".disk.lock"


def test_mount_point_has_its_lock_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path)
    assert lock_file(tmp_path) == tmp_path / f".{tmp_path.name}.lock"


def test_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / ".run.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="got a link"), writer_lock(tmp_path / "run", "training"):
        pass
    assert (tmp_path / "precious").read_text() == "mine"


def test_pipe_in_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".run.lock")
    with pytest.raises(OSError, match="expected a plain file"), writer_lock(tmp_path / "run", "training"):
        pass


def test_fork_that_leaves_the_block_does_not_delete_the_lock(tmp_path: Path) -> None:
    with writer_lock(tmp_path, "training"):
        block = writer_lock(tmp_path / "other", "training")
        block.__enter__()
        child = os.fork()
        if child == 0:
            block.__exit__(None, None, None)
            os._exit(0)
        os.waitpid(child, 0)
        assert lock_file(tmp_path / "other").exists()
        block.__exit__(None, None, None)


def test_many_processes_never_hold_a_lock_together(tmp_path: Path) -> None:
    """Each writes its number, waits, and reads it again; the file of the lock is deleted many times meanwhile."""
    code = """
import sys, time
from worldmodel.io.lock import FolderInUse, writer_lock
folder, me = sys.argv[1:]
for _ in range(40):
    try:
        with writer_lock(folder, "race"):
            open(folder + "/who", "w").write(me)
            time.sleep(0.001)
            assert open(folder + "/who").read() == me
    except FolderInUse:
        pass
"""
    racing = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(i)]) for i in range(4)]
    assert [process.wait(60) for process in racing] == [0] * 4


def test_a_disk_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("worldmodel.io.lock.fcntl.lockf", refuse)
    with pytest.warns(RuntimeWarning, match="no locks"), writer_lock(tmp_path, "training") as locked:
        assert not locked


def test_a_partial_file_that_is_removed_before_it_has_its_lock_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = files._lock

    def lock_late(handle: int) -> None:
        monkeypatch.setattr(files, "_lock", lock)
        assert files.remove_partial(tmp_path) == 1
        lock(handle)

    monkeypatch.setattr(files, "_lock", lock_late)
    files.write_atomic(tmp_path / "x", b"whole")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"whole")]


def test_of_several_files_none_is_replaced_before_all_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    files.write_files(dict.fromkeys(paths, (b"old",)))
    flushed: list[int] = []

    def full(handle: int) -> None:
        flushed.append(handle)
        if len(flushed) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_files(dict.fromkeys(paths, (b"new",)))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(paths, b"old")

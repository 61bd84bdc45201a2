"""One writer for a folder: a lock that names its holder and that the kernel releases when its process dies.

The lock is a POSIX record lock on the file `.NAME.lock` beside the folder NAME, so that the folder
itself can be listed, compared and replaced. If the folder is a mount point, or its parent is not
writable, that file is inside. The lock works on network folders that have such locks (NFS 4, SMB,
most cluster file systems). A fork does not inherit it, so data-loading workers and engines never
keep it alive. The text in the file only names the holder: a stale text locks nobody out. The file
is deleted when the lock is released.
"""

import contextlib
import errno
import json
import os
import socket
import stat
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from worldmodel.io.folders import make_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

WAIT_SECONDS = 0.5  # seconds that a second writer waits: some writers hold the lock only briefly
NO_LOCKS = "this disk has no locks: make sure yourself that only one process writes into {folder}"

_held: set[str] = set()  # folders that this process has locked: a record lock does not exclude its own process
_guard = threading.Lock()


class FolderInUse(ValueError):
    """Another process, or another thread of this one, writes into the folder; the message says which, since when."""


@contextlib.contextmanager
def writer_lock(folder: str | Path, work: str) -> Iterator[bool]:
    """Be the only writer of `folder` until the block ends; the folder is made if it is missing.

    Args:
        folder: the folder to write into, such as RUN/episodes. Links are followed.
        work: what this writer does, for the message to the others ("collection", "training").

    Yields:
        Whether the disk has locks. If it has none, a warning says so, and other writers are possible.

    Raises:
        FolderInUse: another process or thread holds the lock.
        OSError: the lock file cannot be made.
    """
    folder = Path(folder)
    make_folder(folder)
    key = os.path.realpath(folder)
    until = time.monotonic() + WAIT_SECONDS
    with _lock_in_process(key, folder, work, until):
        file, locked = _lock(folder, work, until)
        owner = os.getpid()
        try:
            yield locked
        finally:
            _release(file, lock_file(folder), locked and os.getpid() == owner)  # a fork does not own it


def lock_file(folder: str | Path) -> Path:
    """The lock file of `folder`."""
    real = Path(os.path.realpath(folder))
    inside = os.path.ismount(real) or not os.access(real.parent, os.W_OK)
    return (real if inside else real.parent) / f".{real.name}.lock"


@contextlib.contextmanager
def _lock_in_process(key: str, folder: Path, work: str, until: float) -> Iterator[None]:
    while not _reserve(key):
        if time.monotonic() >= until:
            raise FolderInUse(f"{folder}: this process writes there already; expected one {work} at a time")
        time.sleep(0.02)
    try:
        yield
    finally:
        with _guard:
            _held.discard(key)


def _reserve(key: str) -> bool:
    with _guard:
        free = key not in _held
        _held.add(key)
        return free


def _lock(folder: Path, work: str, until: float) -> tuple[BinaryIO, bool]:
    """The locked file, which names this process as the holder, and whether the disk has locks."""
    path = lock_file(folder)
    while True:
        file = _open(path)
        try:
            locked = _try_lock(file, folder)
            if not locked or _is_at(file, path):  # else its holder has deleted it meanwhile
                _write_holder(file, work)
                return file, locked
        except FolderInUse:
            if time.monotonic() >= until:
                file.close()
                raise
            time.sleep(0.02)
        except BaseException:
            file.close()
            raise
        file.close()


def _open(path: Path) -> BinaryIO:
    """Open the lock file; a link in its place is not followed."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        file = open(os.open(path, flags, 0o666), "rb+", buffering=0)  # noqa: SIM115
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(errno.ELOOP, "expected a plain file, got a link: delete it", str(path)) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "expected a plain file: delete what is there", str(path))
    return file


def _try_lock(file: BinaryIO, folder: Path) -> bool:
    if fcntl is None:
        warnings.warn(NO_LOCKS.format(folder=folder), RuntimeWarning, stacklevel=5)
        return False
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: somebody else holds it
        raise FolderInUse(_holder_message(file, folder)) from None
    except OSError:  # ENOLCK, ENOTSUP: no locks on this disk
        warnings.warn(NO_LOCKS.format(folder=folder), RuntimeWarning, stacklevel=5)
        return False
    return True


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.lstat(path))
    except FileNotFoundError:
        return False


def _write_holder(file: BinaryIO, work: str) -> None:
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now(), "work": work}
    with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
        file.truncate(0)
        file.write(json.dumps(holder).encode())


def _release(file: BinaryIO, path: Path, ours: bool) -> None:
    """Delete the file, then release it: in this order no other process can hold a lock on a deleted file."""
    with file:
        if ours and _is_at(file, path):
            with contextlib.suppress(OSError):
                os.unlink(path)


def _holder_message(file: BinaryIO, folder: Path) -> str:
    """The error message: who holds the lock, as the file says."""
    try:
        holder: dict[str, Any] = json.loads(file.read(4096))
        who = f"process {holder['pid']} on {holder['host']}, since {holder['since']} ({holder['work']})"
    except (ValueError, KeyError, TypeError):  # it is being written
        who = "another process"
    return f"{folder}: {who} writes there; wait until it has ended, stop it, or name another run="


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _reset_after_fork() -> None:
    """A forked child has none of its parent's record locks, and no thread that could release the guard."""
    global _guard
    _guard = threading.Lock()
    _held.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_reset_after_fork)

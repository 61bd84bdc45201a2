"""One writer for a folder: a lock that says who holds it, and that the kernel gives up when its process dies.

The lock is a POSIX record lock on the file `.lock` in the folder. It works on network folders that have such
locks (NFS 4, SMB, most cluster file systems). A fork does not inherit it, so data-loading workers and engines
never keep it alive. The text in the file only says who holds the lock: a stale text locks nobody out.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

FILE = ".lock"
NO_LOCKS = "this disk has no locks: make sure by yourself that one process alone writes into {folder}"

_held: set[str] = set()  # folders that this process has locked: record locks don't exclude one's own process
_guard = threading.Lock()


class FolderInUse(ValueError):
    """Another process, or another part of this one, writes into the folder; the message says who, and since when."""


@contextlib.contextmanager
def writer_lock(folder: str | Path, work: str) -> Iterator[None]:
    """Be the only writer of `folder` until the block ends; the folder is made where it is missing.

    Args:
        folder: what is written into, such as RUN/episodes.
        work: what is done, for the message that the others get ("collection", "training").

    Raises:
        FolderInUse: another process or thread holds the lock.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    key = os.path.realpath(folder)
    with _own_process(key, folder, work):
        file = _lock(folder, work)
        try:
            yield
        finally:
            file.close()  # this gives the lock up


@contextlib.contextmanager
def _own_process(key: str, folder: Path, work: str) -> Iterator[None]:
    with _guard:
        if key in _held:
            raise FolderInUse(f"{folder}: this process writes there already; expected one {work} at a time")
        _held.add(key)
    try:
        yield
    finally:
        with _guard:
            _held.discard(key)


def _lock(folder: Path, work: str) -> BinaryIO:
    """The locked file, with the holder's name in it."""
    file = open(os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o666), "rb+", buffering=0)  # noqa: SIM115
    try:
        _take(file, folder)
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now(), "work": work}
        file.truncate(0)
        file.write(json.dumps(holder).encode())
        return file
    except BaseException:
        file.close()
        raise


def _take(file: BinaryIO, folder: Path) -> None:
    if fcntl is None:
        warnings.warn(NO_LOCKS.format(folder=folder), RuntimeWarning, stacklevel=4)
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: somebody else holds it
        raise FolderInUse(_who(file, folder)) from None
    except OSError:  # ENOLCK, ENOTSUP: no locks on this disk
        warnings.warn(NO_LOCKS.format(folder=folder), RuntimeWarning, stacklevel=4)


def _who(file: BinaryIO, folder: Path) -> str:
    """Who holds the lock, as far as the file says."""
    try:
        holder: dict[str, Any] = json.loads(file.read(4096))
        who = f"process {holder['pid']} on {holder['host']}, since {holder['since']} ({holder['work']})"
    except (ValueError, KeyError, TypeError):  # it is being written
        who = "another process"
    return f"{folder}: {who} writes there; wait until it has ended, stop it, or name another run="


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_held.clear)  # a child has none of its parent's record locks

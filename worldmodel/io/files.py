"""Files and folders that are whole or absent: written aside, renamed; what a killed writer left is swept away.

And `Recent`, which keeps only so many of them open.
"""

import contextlib
import fcntl
import glob
import os
import secrets
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from worldmodel.io.lock import lock_file, writer_lock
from worldmodel.io.model_folder import sync

PARTIAL = ".partial"  # suffix of a file or folder that is being written; no reader looks at it

T = TypeVar("T")


def write_atomic(path: Path, *parts: bytes | memoryview) -> None:
    """Writes the parts to `path` so that a kill or a power cut leaves the old file, no file, or the new one.

    Raises:
        OSError: the disk is full or refuses; nothing of the new file stays behind.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL}")
    try:
        with open(partial, "xb") as file:
            with contextlib.suppress(OSError):  # some network disks have no locks
                _lock(file.fileno())  # while it is held, `sweep` in another process leaves the file alone
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
            os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def is_empty(folder: Path) -> bool:
    """Whether nothing is at `folder`, or an empty folder."""
    return not os.path.lexists(folder) or (folder.is_dir() and not set(os.listdir(folder)) - {lock_file(folder).name})


@contextlib.contextmanager
def atomic_folder(folder: Path, unused: Callable[[Path], bool] = is_empty) -> Iterator[Path]:
    """An empty folder to fill, of the same name; it takes its place when the block ends without an error.

    Links are followed: the folder that they lead to is replaced. `unused` says whether what is there may go.
    While the block lasts, no other process may write to `folder`.

    Raises:
        ValueError: something is there already, or the folder cannot be replaced, such as a mount point.
        FolderInUse: another process writes there.
    """
    real = Path(os.path.realpath(folder))
    if not unused(real):
        raise ValueError(_taken(folder))
    new = not real.exists()
    with writer_lock(real, "a new folder") as alone:
        try:
            if alone:
                remove_partial_folders(real)
            if not unused(real):  # another process was faster
                raise ValueError(_taken(folder))
            yield from _replaced(folder, real)
        except BaseException:
            if new:
                with contextlib.suppress(OSError):
                    real.rmdir()
            raise
    sync(real.parent)


def _taken(folder: Path) -> str:
    return f"{folder} is there already: name another folder, or move it away"


def _replaced(folder: Path, real: Path) -> Iterator[Path]:
    """The folder to fill, which then takes the place of the other one; whether it can is tried out before."""
    aside = Path(tempfile.mkdtemp(prefix=f".{real.name}.", suffix=PARTIAL, dir=real.parent))
    filled = aside / real.name
    try:
        for path in set(real.iterdir()) - {lock_file(real)}:
            path.unlink()
        filled.mkdir()
        try:
            os.replace(filled, real)
        except OSError as error:
            remedy = "it is a disk of its own, or in use: name a folder within it, or one elsewhere"
            raise ValueError(f"{folder} cannot be replaced by a new folder ({error.strerror}); {remedy}") from error
        filled.mkdir()
        yield filled
        os.replace(filled, real)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remove_partial_folders(folder: Path) -> None:
    """Delete what killed calls of `atomic_folder` left beside `folder`; only for the holder of its lock."""
    real = Path(os.path.realpath(folder))
    for path in real.parent.glob(f".{glob.escape(real.name)}.*{PARTIAL}"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def remove_partial(folder: Path) -> int:
    """Deletes partial files that no living process is writing; returns how many."""
    swept = 0
    for path in folder.glob(f".*{PARTIAL}"):
        with contextlib.suppress(OSError), open(path, "rb+") as file:
            _lock(file.fileno())
            path.unlink()
            swept += 1
    return swept


def _lock(handle: int) -> None:
    """An advisory lock that the kernel gives up when its process dies, however it dies."""
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


class LRUCache(Generic[T]):
    """The `size` values asked for last; `drop` is called on each one that has to go."""

    def __init__(self, size: int, drop: Callable[[T], None] = lambda value: None):
        self._size, self._drop = size, drop
        self._values: OrderedDict[int, T] = OrderedDict()

    def get(self, key: int, make: Callable[[], T]) -> T:
        if key not in self._values:
            self._values[key] = make()
            if len(self._values) > self._size:
                self._drop(self._values.popitem(last=False)[1])
        self._values.move_to_end(key)
        return self._values[key]

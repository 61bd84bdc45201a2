"""Files and folders that are complete or absent, whatever kills their writer.

They are written beside their place under another name and then renamed. `remove_partial` deletes what killed writers
left. `LRUCache` keeps a limited number of files open.
"""

import contextlib
import fcntl
import glob
import os
import secrets
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from worldmodel.io.folders import sync
from worldmodel.io.lock import lock_file, writer_lock

PARTIAL = ".partial"  # suffix of a file or folder that is being written; no reader looks at it

Bytes = bytes | memoryview
T = TypeVar("T")


def write_atomic(path: Path, *parts: Bytes) -> None:
    """Write the parts to `path`: a kill or a power cut leaves the old file, no file, or the new one.

    Raises:
        OSError: the disk is full or refuses; nothing of the new file stays behind.
    """
    _write({path: parts})


def write_files(contents: Mapping[Path, Iterable[Bytes]]) -> None:
    """Write several files: all of them are complete on the disk before the first takes its place.

    Deletes what killed writers of the same files left.

    Raises:
        OSError: the disk is full or refuses; the old files stay.
    """
    for path in contents:
        remove_partial(path.parent, glob.escape(path.name))
    _write(contents)


def _write(contents: Mapping[Path, Iterable[Bytes]]) -> None:
    with contextlib.ExitStack() as stack:
        partial = {path: stack.enter_context(_partial_file(path, parts)) for path, parts in contents.items()}
        for path in contents:
            os.replace(partial[path], path)
    for folder in {path.parent for path in contents}:
        sync(folder)


@contextlib.contextmanager
def _partial_file(path: Path, parts: Iterable[Bytes]) -> Iterator[Path]:
    """A file with the parts, flushed to disk, for the block to rename; deleted if it does not."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL}")
    try:
        with _create_locked(partial) as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
            yield partial
    finally:
        partial.unlink(missing_ok=True)


def _create_locked(path: Path) -> BinaryIO:
    """A new file with a lock, so that `remove_partial` in another process leaves it alone."""
    while True:
        file = open(path, "xb")  # noqa: SIM115
        with contextlib.suppress(OSError):  # some network disks have no locks
            _lock(file.fileno())
        if os.path.exists(path):
            return file
        file.close()  # another process deleted it before it had its lock


def is_empty(folder: Path) -> bool:
    """Whether nothing is at `folder`, or an empty folder."""
    return not os.path.lexists(folder) or (folder.is_dir() and not set(os.listdir(folder)) - {lock_file(folder).name})


@contextlib.contextmanager
def atomic_folder(folder: Path, unused: Callable[[Path], bool] = is_empty) -> Iterator[Path]:
    """An empty folder of the same name to fill; it replaces `folder` when the block ends without an error.

    Links are followed: the folder that they lead to is replaced. `unused` says whether what is there may be deleted.
    While the block lasts, no other process may write to `folder`.

    Raises:
        ValueError: something is there already, or the folder cannot be replaced (a mount point, for example).
        FolderInUse: another process writes there.
    """
    real = Path(os.path.realpath(folder))
    if not unused(real):
        raise ValueError(_exists_message(folder))
    new = [path for path in (real, *real.parents) if not path.exists()]  # the innermost first
    try:
        with writer_lock(real, "a new folder") as locked:
            if locked:
                remove_partial_folders(real)
            if not unused(real):  # another process was faster
                raise ValueError(_exists_message(folder))
            yield from _fill_and_replace(folder, real)
    except BaseException:
        for path in new:  # an error leaves no new folder behind, unless others use it
            with contextlib.suppress(OSError):
                path.rmdir()
        raise
    sync(real.parent)


def _exists_message(folder: Path) -> str:
    return f"{folder} is there already: name another folder, or move it away"


def _fill_and_replace(folder: Path, real: Path) -> Iterator[Path]:
    """Yield a folder to fill, which then replaces `real`; an empty one replaces it first, to see whether that works."""
    parent = Path(tempfile.mkdtemp(prefix=f".{real.name}.", suffix=PARTIAL, dir=real.parent))
    filled = parent / real.name
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
        shutil.rmtree(parent, ignore_errors=True)


def remove_partial_folders(folder: Path) -> None:
    """Delete what killed calls of `atomic_folder` left beside `folder`; the caller must hold its lock."""
    real = Path(os.path.realpath(folder))
    for path in real.parent.glob(f".{glob.escape(real.name)}.*{PARTIAL}"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def remove_partial(folder: Path, name: str = "*") -> int:
    """Delete partial files that no living process is writing; returns how many.

    name: a glob pattern for the names of the complete files.
    """
    removed = 0
    for path in folder.glob(f".{name}.*{PARTIAL}"):
        with contextlib.suppress(OSError), open(path, "rb+") as file:
            _lock(file.fileno())
            path.unlink()
            removed += 1
    return removed


def _lock(handle: int) -> None:
    """An advisory lock that the kernel releases when its process dies, however it dies."""
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


class LRUCache(Generic[T]):
    """The `size` values that were used last; `drop` is called on each value that is removed."""

    def __init__(self, size: int, drop: Callable[[T], None] = lambda value: None):
        self._size, self._drop = size, drop
        self._values: OrderedDict[int, T] = OrderedDict()

    def get(self, key: int, make: Callable[[], T]) -> T:
        """The value of the key, made by `make` if it is not in the cache."""
        if key not in self._values:
            self._values[key] = make()
            if len(self._values) > self._size:
                self._drop(self._values.popitem(last=False)[1])
        self._values.move_to_end(key)
        return self._values[key]

"""Files and folders that are whole or absent: written aside, renamed; what a killed writer left is swept away.

And `Recent`, which keeps only so many of them open.
"""

import contextlib
import fcntl
import os
import secrets
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from worldmodel.checkpoint import sync

PARTIAL = ".partial"  # suffix of a file that is being written; no reader looks at it

T = TypeVar("T")


def write_whole(path: Path, *parts: bytes | memoryview) -> None:
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


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, of the same name; it takes its place when the block ends without an error.

    Raises:
        ValueError: something is there already.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder} is there already: name another folder, or move it away")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as aside:
        filled = Path(aside) / folder.name
        filled.mkdir()
        yield filled
        os.replace(filled, folder)
    sync(folder.parent)


def sweep(folder: Path) -> int:
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


class Recent(Generic[T]):
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

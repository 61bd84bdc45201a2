"""Makes folders, also where a link leads to a place that is not there yet, and flushes them to the disk."""

import contextlib
import errno
import os
from pathlib import Path


def make_folder(folder: str | Path) -> None:
    """Make a folder and those above it. Links are followed, and what they lead to is made.

    Raises:
        NotADirectoryError: a file, or a link that leads back to itself, is in the way; names it.
        OSError: the disk refuses.
    """
    try:
        Path(os.path.realpath(folder)).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTDIR, errno.ELOOP):
            raise
        found = "a link that leads back to itself" if _is_loop(folder) else f"a file in {error.filename}"
        raise NotADirectoryError(errno.ENOTDIR, f"expected a folder, got {found}", str(folder)) from error


def _is_loop(path: str | Path) -> bool:
    try:
        os.stat(path)
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk; does nothing for folders on Windows."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

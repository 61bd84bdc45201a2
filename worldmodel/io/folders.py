"""Makes folders, also where a link leads to a place that is not there yet, and flushes them to the disk.

Also says which command makes a part of a run.
"""

import contextlib
import errno
import os
import shlex
from pathlib import Path

MAKERS = {"episodes": "collect", "tokenizer": "train-tokenizer", "world": "train-prior", "agent": "train-agent"}


def maker(folder: str | Path) -> str:
    """The command that makes a part of a run, as it is typed; empty for a folder of another name."""
    folder = Path(folder)
    name = MAKERS.get(folder.name)
    return f"`worldmodel {name} {shlex.quote(f'run={folder.parent}')}`" if name else ""


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

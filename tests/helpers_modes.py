"""Whether files and folders are as readable as the umask of who made them says."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    """This process under a umask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def wrong_modes(folder: Path, mask: int) -> dict[str, str]:
    """Modes of all files and folders below a folder that are other than the umask has them."""
    found = {}
    for path in sorted(folder.rglob("*")):
        expected = (0o777 if path.is_dir() else 0o666) & ~mask
        if (mode := path.lstat().st_mode & 0o777) != expected:
            found[str(path.relative_to(folder))] = oct(mode)
    return found

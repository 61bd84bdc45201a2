"""Numba's cache of compiled functions, with checksums: a damaged file is ignored, and its function compiled again.

numba keeps native code in pickles and reads them without a check. So a truncated file stopped every dream, and one
with a flipped bit would run as it is. Here each file ends in the sha256 of its bytes. This finds accidental
damage; it does not protect against a person who can write to that folder.
"""

import contextlib
import hashlib
import io
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from numba.core.caching import IndexDataCacheFile
from tqdm import tqdm

from worldmodel.io.untrusted import UntrustedFileError, read_bytes

SEAL = hashlib.sha256().digest_size  # bytes at the end of each file
MOST_BYTES = 1 << 28  # of a file


def sealed(dispatcher: Any) -> Any:
    """The same compiled function, which keeps its code in sealed files beside those of numba's own."""
    kept = dispatcher._cache
    kept._cache_file = SealedFile(
        cache_path=kept._cache_path,
        filename_base=f"sealed.{kept._impl.filename_base}",
        source_stamp=kept._impl.locator.get_source_stamp(),
    )
    return dispatcher


class SealedFile(IndexDataCacheFile):
    """The index and the code of one function."""

    def save(self, key: Any, data: Any) -> None:
        try:
            super().save(key, data)
        except OSError as error:  # a full disk, for example
            _warn(f"what was compiled cannot be kept ({error}), so it is compiled at every start")

    def _load_index(self) -> dict[Any, str]:
        found = super()._load_index() if self._whole(self._index_path) else {}
        if not found:
            _announce()
        return found

    def _load_data(self, name: str) -> Any:
        if not self._whole(self._data_path(name)):
            raise FileNotFoundError(name)  # for numba: compiled anew
        return super()._load_data(name)

    @contextlib.contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[Any]:
        written = io.BytesIO()
        yield written
        with super()._open_for_write(filepath) as file:
            file.write(written.getvalue() + hashlib.sha256(written.getvalue()).digest())

    def _whole(self, path: str) -> bool:
        """Whether the file is there and as it was written; warns where it is damaged."""
        try:
            found = read_bytes(path, MOST_BYTES)
        except FileNotFoundError:
            return False
        except (OSError, UntrustedFileError) as error:
            _warn(f"what was compiled cannot be read ({error}); it is compiled anew")
            return False
        if whole := hashlib.sha256(found[:-SEAL]).digest() == found[-SEAL:]:
            return whole
        _warn(f"{Path(path).parent}: damaged files of compiled code; they are compiled anew, which takes a while")
        return False


@cache
def _announce() -> None:
    """Say once why the first step of a dream takes so long."""
    tqdm.write("compiling the kernels, once for this machine: about half a minute", sys.stderr)


@cache
def _warn(message: str) -> None:
    """Warn once for each message."""
    warnings.warn(message, stacklevel=2)

"""Reads HDF5 files from anyone in a child process: if HDF5 crashes over a file, the file is refused."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldmodel.io.sandbox import TYPES, Child
from worldmodel.io.untrusted import UntrustedFileError, check_episode, check_regular, errors_name

PROGRAM = Path(__file__).with_name("child.py")
BATCH_BYTES = 1 << 23  # of rows that are read at once
BYTES = "bytes"  # the type of rows of bytes, one image each


@dataclass(frozen=True)
class Group:
    """The names in a group; `seed` is the attribute of this name if it is an integer."""

    members: tuple[str, ...]
    seed: int | None


@dataclass(frozen=True)
class Array:
    """An array: its type as NumPy writes it (or "bytes"), and its shape."""

    dtype: str
    shape: tuple[int, ...]


class ForeignHDF5:
    """A file from anyone, to be closed after use. Paths are names, from the root inwards.

    Raises:
        UntrustedFileError: from every method, for any fault of the file.
    """

    def __init__(self, path: Path):
        check_regular(path)
        self.path = path
        env = {**os.environ, "HDF5_PLUGIN_PRELOAD": "::"}  # no filters but h5py's own
        self._child = Child([sys.executable, "-P", str(PROGRAM), str(path)], path, subprocess.PIPE, env)

    def close(self) -> None:
        self._child.close()

    def describe(self, *path: str) -> Group | Array:
        """What is at a path."""
        found, _ = self._child.ask(do="describe", path=path)
        with errors_name(self.path):  # the child may answer anything
            if "members" in found:
                seed = found["seed"]
                return Group(tuple(map(str, found["members"])), None if seed is None else int(seed))
            return Array(str(found["dtype"]), tuple(map(int, found["shape"])))

    def array(self, *path: str) -> Array:
        """The type and shape of an array.

        Raises:
            UntrustedFileError: no array is there, or it claims more than an episode may hold.
        """
        if isinstance(found := self.describe(*path), Group):
            raise UntrustedFileError(f"{self.path}: {'/'.join(path)}: expected an array, got a group")
        if found.dtype not in TYPES | {BYTES} and found.dtype.replace(">", "<") not in TYPES:
            raise UntrustedFileError(f"{self.path}: {'/'.join(path)}: expected numbers, got {found.dtype}")
        size = 1 if found.dtype == BYTES else np.dtype(found.dtype).itemsize
        check_episode(f"{self.path}, {'/'.join(path)}", math.prod(found.shape), size)
        return found

    def read(self, *path: str) -> np.ndarray:
        """A whole array of numbers."""
        found = self.array(*path)
        if not found.shape:
            return self._rows("read", path, 0, 1)
        parts = list(self._batches("read", path, found))
        return np.concatenate(parts) if parts else np.empty(found.shape, found.dtype)

    def images(self, *path: str) -> Iterator[np.ndarray]:
        """The rows of an array, one by one; rows that are JPEG files are decoded."""
        found = self.array(*path)
        packed = found.dtype == BYTES or len(found.shape) == 2
        for batch in self._batches("jpeg" if packed else "read", path, found):
            yield from batch

    def _batches(self, do: str, path: tuple[str, ...], found: Array) -> Iterator[np.ndarray]:
        row = 0 if found.dtype == BYTES else math.prod(found.shape[1:]) * np.dtype(found.dtype).itemsize
        at_once = max(1, BATCH_BYTES // row) if row and do == "read" else 16
        for start in range(0, found.shape[0], at_once):
            yield self._rows(do, path, start, start + at_once)

    def _rows(self, do: str, path: tuple[str, ...], start: int, stop: int) -> np.ndarray:
        _, rows = self._child.ask(do=do, path=path, start=start, stop=stop)
        assert rows is not None
        return rows

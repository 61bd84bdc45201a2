"""Unpacks stored chunks: Zstd with a fletcher32 checksum at the end, unpacked by HDF5 in a file of our own.

HDF5 never sees the file that a chunk comes from. It gets a file in memory that is made here, with the filters named
here, and one chunk whose sizes were checked: a chunk shorter than its checksum, or one that unpacks to less than
its array, makes HDF5 2.0.0 read outside of its memory.
"""

import os
import secrets
import threading
from typing import Any

import h5py
import hdf5plugin
import numpy as np

FILTERS = (32015, 3)  # Zstd and fletcher32, by their numbers in HDF5
CHECKSUM_BYTES = 4
MAGIC = b"\x28\xb5\x2f\xfd"  # of a Zstd frame
MAX_SIZES = 16  # arrays that are kept, one for each size of a chunk
OPTIONS: dict[str, Any] = {"fletcher32": True, **hdf5plugin.Zstd(1)}  # the compression level does not matter here


def packed_bytes(size: int) -> int:
    """The most that `size` bytes take when they are stored."""
    return size + size // 128 + 1024


def unpack(stored: bytes, out: np.ndarray) -> None:
    """Fill `out`, a contiguous array, with a stored chunk.

    Raises:
        ValueError: the chunk does not hold as many bytes as `out`.
        OSError: it is damaged.
    """
    if len(stored) > packed_bytes(out.nbytes) or _unpacked_bytes(stored[:-CHECKSUM_BYTES]) != out.nbytes:
        raise ValueError(f"{len(stored):,} stored bytes are not a chunk of {out.nbytes:,}")
    _unpacker(stored, out.reshape(-1).view(np.uint8))


def _unpacked_bytes(frame: bytes) -> int | None:
    """The size that a Zstd frame claims; None if it is not a frame, or does not say."""
    if len(frame) < 6 or frame[:4] != MAGIC:
        return None
    flags = frame[4]
    width, single = flags >> 6, flags >> 5 & 1
    size = (1 << width) if width or single else 0
    start = 5 + (not single)
    if not size or flags & 0b1011 or len(frame) < start + size:  # the last bits: reserved, and a dictionary
        return None
    return int.from_bytes(frame[start : start + size], "little") + 256 * (width == 1)


class _Unpacker:
    """Arrays of one chunk each in a file in memory, in which HDF5 unpacks."""

    def __init__(self):
        self._lock = threading.Lock()
        self._file: Any = None
        self._arrays: dict[int, Any] = {}

    def __call__(self, stored: bytes, out: np.ndarray) -> None:
        with self._lock:
            array = self._array(out.nbytes)
            array.write_direct_chunk((0,), stored)
            array.read(h5py.h5s.ALL, h5py.h5s.ALL, out)

    def _array(self, size: int) -> Any:
        if size not in self._arrays:
            full = self._file is None or len(self._arrays) == MAX_SIZES
            file: Any = self._new_file() if full else self._file
            made = file.create_dataset(str(size), (size,), np.uint8, chunks=(size,), **OPTIONS)
            self._arrays[size] = made.id
        return self._arrays[size]

    def _new_file(self) -> Any:
        if self._file is not None:
            self._file.close()
        self._arrays, name = {}, f"chunk {secrets.token_hex(8)}"  # HDF5 does not open a name twice, even in memory
        self._file = h5py.File(name, "w", driver="core", backing_store=False, libver=("v110", "v110"))
        return self._file


_unpacker = _Unpacker()


def _reset_after_fork() -> None:
    global _unpacker
    _unpacker = _Unpacker()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)  # neither HDF5's handles nor a held lock may cross a fork

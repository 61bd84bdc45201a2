"""Reads one episode's HDF5 file, in slices or whole, and notices every flipped bit and every cut.

A file may come from anyone, and a hostile file can crash HDF5. So HDF5 writes files but never reads them:
`worldmodel.io.hdf5.index` finds the chunks, and `worldmodel.io.hdf5.chunks` unpacks them. Shapes, chunks
and filters must be the ones that `hdf5.to_bytes` writes, within the ceilings of `worldmodel.io.untrusted`.
"""

import contextlib
import errno
import hashlib
import json
import math
import re
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.episode import Episode
from worldmodel.data.episodes.hdf5 import (
    CHECKS,
    FRAMES_PER_CHUNK,
    MAX_FILE_BYTES,
    SCHEMA,
    EpisodeError,
    Header,
    check_sizes,
    chunk_shape,
    crc32s,
    sha256,
)
from worldmodel.io.config import from_mapping
from worldmodel.io.hdf5.chunks import FILTERS, packed_bytes, unpack
from worldmodel.io.hdf5.index import Chunked, read_arrays, read_attributes
from worldmodel.io.untrusted import ByteSource, check_unpacked

CACHE_BYTES = 1 << 18  # per open file: keeps one chunk of 64 x 64 frames for readers of single frames
SYSTEM_ERRORS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM}  # faults of the machine
DTYPE = re.compile(r"[<>|][biuf](1|2|4|8|16)")


class EpisodeFile:
    """An open episode file. Opening checks the header; each read checks the arrays that it reads.

    A `header` that was read from the same file before halves the time to open it. With `content`, the
    file's bytes in memory, nothing is read from the disk and `path` only names the bytes in messages.

    Raises:
        EpisodeError: from every method, for any fault of the file.
    """

    def __init__(self, path: Path, header: Header | None = None, content: bytes | None = None):
        self.path = path
        with _episode_errors(path):
            self._octets = ByteSource(path, content, MAX_FILE_BYTES)
            try:
                self.header = header or self._read_header()
                self._arrays = read_arrays(self._octets.read)
                self._check_arrays()
            except BaseException:
                self.close()
                raise
        chunks = -(-self.header.frames // FRAMES_PER_CHUNK)
        self._checked = np.zeros(chunks, bool)  # chunks of frames whose crc32 was compared
        self._last_chunk: tuple[int, np.ndarray] | None = None

    def _read_header(self) -> Header:
        attributes = read_attributes(self._octets.read)
        if missing := {"header", "sha256"} - attributes.keys():
            raise ValueError(f"no attribute {min(missing)} of plain text")
        text, digest = attributes["header"], attributes["sha256"]
        if hashlib.sha256(text).hexdigest().encode() != digest:
            raise ValueError("the header does not match its sha256")
        values = json.loads(text)
        if (schema := values.pop("schema")) != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA}, got {schema}: another version of this software wrote it")
        header = from_mapping(Header, {**values, "sha256": digest.decode()})
        _check_header(header)
        return header

    def _check_arrays(self) -> None:
        """Check that each array of the header is stored in the file, within the ceilings."""
        for name, claimed in self.header.arrays.items():
            _check_array(name, claimed, self._arrays.get(name), self._octets.size)
        unpacked = check_sizes(self.path, self.header.arrays)
        check_unpacked(self.path, self._octets.size, unpacked)

    def frames(self, start: int, stop: int) -> UInt8[np.ndarray, "t h w c"]:
        """Frames `start` to `stop - 1`; only their chunks are read and checked.

        Raises:
            IndexError: a slice that reaches outside the episode.
        """
        if not 0 <= start <= stop <= self.header.frames:
            raise IndexError(
                f"{self.path.name}: expected 0 <= start <= stop <= {self.header.frames}, got {start}:{stop}"
            )
        found = np.empty((stop - start, *self.header.arrays["frames"]["shape"][1:]), np.uint8)
        with _episode_errors(self.path):
            for number in range(start // FRAMES_PER_CHUNK, -(-stop // FRAMES_PER_CHUNK)):
                before = number * FRAMES_PER_CHUNK
                rows = self._frame_chunk(number)[max(0, start - before) : stop - before]
                at = max(0, before - start)
                found[at : at + len(rows)] = rows
        return found

    def _frame_chunk(self, number: int) -> np.ndarray:
        """One chunk of frames, whose crc32 is compared at its first read."""
        if self._last_chunk is not None and self._last_chunk[0] == number:
            return self._last_chunk[1]
        rows = self._chunk("frames", number)
        if not self._checked[number]:
            if CHECKS in self.header.arrays and zlib.crc32(rows.data) != self._checks[number]:
                raise ValueError("frames do not match their crc32")
            self._checked[number] = True
        self._last_chunk = (number, rows) if rows.nbytes <= CACHE_BYTES else None
        return rows

    @cached_property
    def _checks(self) -> np.ndarray:
        return self.array(CHECKS)

    def _chunk(self, name: str, number: int) -> np.ndarray:
        """The rows of an array in one of its chunks."""
        claimed, chunk = self.header.arrays[name], self._arrays[name].chunk
        rows = np.empty(chunk, claimed["dtype"])
        self._unpack(name, number, rows)
        return rows[: claimed["shape"][0] - number * chunk[0]]

    def _unpack(self, name: str, number: int, rows: np.ndarray) -> None:
        """Unpack a chunk into `rows`, which has the shape of a chunk."""
        address, size, _ = self._arrays[name].places[number].tolist()
        unpack(self._octets.read(address, size), rows)

    def array(self, name: str) -> np.ndarray:
        """A whole array, checked against its sha256."""
        with _episode_errors(self.path):
            claimed, rows = self.header.arrays[name], self._arrays[name].chunk[0]
            values = np.empty(claimed["shape"], claimed["dtype"])
            for number in range(len(self._arrays[name].places)):
                part = values[number * rows : (number + 1) * rows]
                if len(part) == rows:
                    self._unpack(name, number, part)
                else:  # the last chunk has more rows than the array
                    part[...] = self._chunk(name, number)
            if sha256(values) != claimed["sha256"]:
                raise ValueError(f"{name} does not match its sha256")
            if values.dtype.kind == "b" and values.view(np.uint8).max() > 1:
                raise ValueError(f"{name}: expected bytes of 0 and 1 for false and true")
            return values

    def episode(self) -> Episode:
        """The whole episode, with every array checked."""
        names = ("frames", "actions", "rewards")
        arrays: dict[str, Any] = {name: self.array(name) for name in names}
        infos = {name: self.array(f"infos/{name}") for name in self.header.infos}
        fields = {name: getattr(self.header, name) for name in ("terminated", "truncated", "seed", "index")}
        with _episode_errors(self.path):
            if CHECKS in self.header.arrays and crc32s(arrays["frames"]) != self._checks.tolist():
                raise ValueError("frames do not match their crc32")
            return Episode(**arrays, **fields, infos=infos)

    def check_belongs(self, index: int, info: DatasetInfo) -> None:
        """Raises EpisodeError if the file holds another episode, or an episode of another dataset."""
        found = self.header
        if found.signature != info.signature or found.index != index:
            raise EpisodeError(
                f"{self.path}: expected episode {index} with {info.signature}, got episode {found.index} with "
                f"{found.signature}; it belongs to another dataset"
            )

    def close(self) -> None:
        self._octets.close()


def _check_array(name: str, claimed: dict[str, Any], found: Chunked | None, size: int) -> None:
    """Check a stored array against the header: shape, chunks and filters, in a file of `size` bytes."""
    if found is None:
        raise ValueError(f"{name}: missing")
    if found.filters != FILTERS or found.places[:, 2].any():
        got = f"{found.filters} and chunks without" if found.filters == FILTERS else found.filters or "none"
        raise ValueError(f"{name}: expected chunks packed by Zstd with checksums (filters {FILTERS}), got {got}")
    if list(found.shape) != claimed["shape"] or found.itemsize != np.dtype(claimed["dtype"]).itemsize:
        raise ValueError(f"{name}: expected {claimed}, got {found.itemsize} bytes each of {list(found.shape)}")
    if found.chunk != (expected := chunk_shape(name, found.shape, found.itemsize)):
        raise ValueError(f"{name}: expected chunks of {expected}, got {found.chunk}")
    most = min(size, packed_bytes(math.prod(found.chunk) * found.itemsize))
    addresses, sizes = found.places[:, 0], found.places[:, 1]
    if (sizes > most).any() or (addresses > size - sizes).any():
        raise ValueError(f"{name}: chunks that are missing, or larger than their content")


def _check_header(header: Header) -> None:
    """Check that the arrays of a header are those of one episode."""
    for name, array in header.arrays.items():
        if not DTYPE.fullmatch(str(array.get("dtype"))):
            raise ValueError(f"{name}: expected numbers, got {array.get('dtype')!r}")
        if not array["shape"] or not all(type(size) is int and size > 0 for size in array["shape"]):
            raise ValueError(f"{name}: expected a shape of positive numbers, got {array['shape']}")
    if missing := {"frames", "actions", "rewards"} - header.arrays.keys():
        raise ValueError(f"the header misses {', '.join(sorted(missing))}")
    if header.arrays["frames"]["dtype"] != "|u1" or header.arrays["rewards"]["dtype"] != "<f4":
        raise ValueError("expected frames of uint8 and rewards of float32")
    _check_lengths({name: (array["dtype"], array["shape"]) for name, array in header.arrays.items()})


def _check_lengths(arrays: dict[str, tuple[str, list[int]]]) -> None:
    """Check the shapes of frames, actions, rewards and checks against each other."""
    frames, actions, rewards = (arrays[name][1] for name in ("frames", "actions", "rewards"))
    if len(frames) != 4 or frames[0] < 2 or actions[:1] != [frames[0] - 1] or rewards != [frames[0] - 1]:
        raise ValueError(f"frames {frames}, actions {actions} and rewards {rewards} are not those of one episode")
    if CHECKS in arrays and arrays[CHECKS] != ("<u4", [-(-frames[0] // FRAMES_PER_CHUNK)]):
        raise ValueError(f"{CHECKS}: expected one for each {FRAMES_PER_CHUNK} frames, got {arrays[CHECKS][1]}")


@contextlib.contextmanager
def _episode_errors(path: Path) -> Iterator[None]:
    """Turn any fault of a file into an EpisodeError. Faults of the machine are raised as they are."""
    try:
        yield
    except (EpisodeError, MemoryError):
        raise
    except FileNotFoundError:
        raise EpisodeError(f"{path}: no such episode; `worldmodel collect` collects missing episodes") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in SYSTEM_ERRORS:
            raise
        remedy = "`worldmodel data repair` moves it away; then repeat the command that collected it"
        problem = str(error).removeprefix(f"{path}: ")
        raise EpisodeError(f"{path}: damaged or unreadable: {problem}; {remedy}") from error

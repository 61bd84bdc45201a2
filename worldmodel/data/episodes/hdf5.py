"""One episode as the bytes of one HDF5 file and back, with every flipped bit and every cut noticed.

The file holds `frames`, `actions`, `rewards` and `infos/<name>`, each chunk with a fletcher32 checksum, `checks`,
the crc32 of each chunk of frames, and the attribute `header`: JSON with the scalar fields and the sha256 of each
array. The attribute `sha256` covers the header. So a header or a small array is checked against sha256 whenever
it is read, a chunk of frames against its crc32 when an open file first shows it and against fletcher32 always:
the latter alone would not see two chunks change places. HDF5's own structures carry checksums in the 1.10 format,
which is why it is asked for. No time of day and no name of a machine is written (h5py < 3.15 dates groups): equal
episodes give equal bytes.

A file may come from anyone, and HDF5 can crash over a hostile one. So HDF5 writes files, but does not read them:
`worldmodel.io.hdf5.index` finds the chunks, and `worldmodel.io.hdf5.chunks` unpacks them. Shapes, chunks and filters
have to be those that `to_bytes` writes, within the ceilings of `worldmodel.io.untrusted`, which `to_bytes` keeps too.
"""

import contextlib
import errno
import hashlib
import io
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from jaxtyping import UInt8

from worldmodel.data.episodes.episode import Episode
from worldmodel.io.config import typed
from worldmodel.io.hdf5.chunks import FILTERS, packed_bytes, unpack
from worldmodel.io.hdf5.index import Chunked, read_arrays, read_attributes
from worldmodel.io.untrusted import (
    EPISODE_BYTES,
    FULL_BYTES,
    TIMES,
    Octets,
    UntrustedFileError,
    check_episode,
    check_frame,
    check_unpacked,
)

SCHEMA = 1
FRAMES_PER_CHUNK = 16  # about one training clip: a random clip decompresses two chunks
SMALL_CHUNK_BYTES = 1 << 16
CACHE_BYTES = 1 << 18  # per open file: one chunk of 64 x 64 frames is kept for readers of single frames
ZSTD_LEVEL = 1  # level 3 takes half as long again for files of 0.47 instead of 0.51 of the raw size
HDF5_FORMAT = ("v110", "v110")
MOST_BYTES = EPISODE_BYTES + EPISODE_BYTES // 8  # of a file: what cannot be packed takes a little more than it is
HEADER_BYTES = 60_000  # larger attributes lie elsewhere in the file
MOST_CHUNKS = 1 << 19  # of an array
CHECKS = "checks"  # older files have none, and are held to fletcher32 alone
MACHINE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM}  # errors that say nothing of a file
DTYPE = re.compile(r"[<>|][biuf](1|2|4|8|16)")


class EpisodeError(UntrustedFileError):
    """An episode file that is damaged, cut short or none at all; names file, problem and remedy."""


@dataclass(frozen=True)
class Header:
    """The scalar fields of a stored episode; `arrays` maps names to {dtype, shape, sha256}."""

    index: int
    seed: int
    terminated: bool
    truncated: bool
    arrays: dict[str, dict[str, Any]]
    sha256: str

    @property
    def frames(self) -> int:
        """How many frames: one more than actions."""
        return self.arrays["frames"]["shape"][0]

    @property
    def infos(self) -> tuple[str, ...]:
        return tuple(name.removeprefix("infos/") for name in self.arrays if name.startswith("infos/"))

    @property
    def content(self) -> dict[str, dict[str, Any]]:
        """{dtype, shape, sha256} of the arrays of the episode itself: equal for equal episodes, however stored."""
        names = ("frames", "actions", "rewards", *(f"infos/{name}" for name in self.infos))
        return {name: self.arrays[name] for name in names}


def to_bytes(episode: Episode) -> memoryview:
    """The episode as the content of an HDF5 file: a pure function of the episode.

    Raises:
        ValueError: the episode is larger than any that is read, or an info has an impossible name.
    """
    arrays = {"frames": episode.frames, "actions": episode.actions, "rewards": episode.rewards}
    arrays |= {f"infos/{name}": values for name, values in sorted(episode.infos.items())}
    arrays |= {CHECKS: np.array(_crc32s(episode.frames), np.uint32)}
    arrays = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    header = {
        "schema": SCHEMA,
        "index": int(episode.index),
        "seed": int(episode.seed),
        "terminated": bool(episode.terminated),
        "truncated": bool(episode.truncated),
        "arrays": {name: _describe(values) for name, values in arrays.items()},
    }
    text = json.dumps(header).encode()
    _check_writable(f"episode {episode.index}", header["arrays"], text)
    image = io.BytesIO()  # in memory: HDF5 itself dies hard on a full disk
    with h5py.File(image, "w", libver=HDF5_FORMAT) as file:
        for name, values in arrays.items():
            options = {"chunks": _chunk(name, values.shape, values.itemsize), "fletcher32": True, "track_times": False}
            file.create_dataset(name, data=values, **options, **hdf5plugin.Zstd(ZSTD_LEVEL))
        file.attrs["header"] = np.bytes_(text)
        file.attrs["sha256"] = np.bytes_(hashlib.sha256(text).hexdigest())
    _fill_up(image, sum(values.nbytes for values in arrays.values()))
    return image.getbuffer()


def _chunk(name: str, shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """The shape of the chunks of an array: some rows of it."""
    row = itemsize * math.prod(shape[1:])
    rows = FRAMES_PER_CHUNK if name == "frames" else max(1, SMALL_CHUNK_BYTES // max(1, row))
    return (min(rows, shape[0]), *shape[1:])


def _check_writable(what: str, arrays: Mapping[str, dict[str, Any]], header: bytes) -> None:
    """What is written has to be what is read."""
    for name in arrays:
        if "" in name.split("/") or {".", ".."} & set(name.split("/")) or "\0" in name:
            raise ValueError(f"{what}: info {name.removeprefix('infos/')!r}: expected a name without empty parts")
    if len(header) > HEADER_BYTES:
        raise ValueError(
            f"{what}: {len(arrays)} arrays need a header of {len(header):,} bytes, expected at most "
            f"{HEADER_BYTES:,}; keep fewer info_keys, or give them shorter names"
        )
    _check_sizes(what, arrays)


def _check_sizes(what: str | Path, arrays: Mapping[str, dict[str, Any]]) -> int:
    """Refuse an episode beyond the ceilings; returns the bytes of all its arrays."""
    frames = arrays["frames"]["shape"]
    check_frame(what, frames[1:])
    sizes = [math.prod(each["shape"]) * np.dtype(each["dtype"]).itemsize for each in arrays.values()]
    check_episode(what, frames[0], -(-sum(sizes) // frames[0]))
    for name, each in arrays.items():
        shape, itemsize = tuple(each["shape"]), np.dtype(each["dtype"]).itemsize
        if (count := -(-shape[0] // _chunk(name, shape, itemsize)[0])) > MOST_CHUNKS:
            raise ValueError(f"{what}: {name}: {count:,} chunks, expected at most {MOST_CHUNKS:,}; cut the episode")
    return sum(sizes)


def _fill_up(image: io.BytesIO, size: int) -> None:
    """Zeros behind an episode that is smaller than readers expect of its size, such as one of a still picture."""
    if size > FULL_BYTES:
        image.seek(0, io.SEEK_END)
        image.write(bytes(max(0, -(-size // TIMES) - image.tell())))


def _describe(values: np.ndarray) -> dict[str, Any]:
    return {"dtype": values.dtype.str, "shape": list(values.shape), "sha256": _sha256(values)}


def _crc32s(frames: np.ndarray) -> list[int]:
    """One for all frames that lie together in the file."""
    chunks = (frames[start : start + FRAMES_PER_CHUNK] for start in range(0, len(frames), FRAMES_PER_CHUNK))
    return [zlib.crc32(np.ascontiguousarray(chunk).data) for chunk in chunks]


def _sha256(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


class EpisodeFile:
    """An open episode file; its header has been checked, its arrays are checked as they are read.

    A `header` that was read from the file before halves the time to open it. Bytes in memory are given as
    `content`; the path then only names them.

    Raises:
        EpisodeError: from every method, for whatever is wrong with the file.
    """

    def __init__(self, path: Path, header: Header | None = None, content: bytes | None = None):
        self.path = path
        with _blaming(path):
            self._octets = Octets(path, content, MOST_BYTES)
            try:
                self.header = header or self._read_header()
                self._arrays = read_arrays(self._octets.read)
                self._check_claims()
            except BaseException:
                self.close()
                raise
        self._shown = np.zeros(-(-self.header.frames // FRAMES_PER_CHUNK), bool)  # chunks that were checked
        self._kept: tuple[int, np.ndarray] | None = None  # the chunk of frames that was read last

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
        header = typed(Header, {**values, "sha256": digest.decode()})
        _check_together(header)
        return header

    def _check_claims(self) -> None:
        """All that the header claims is there, and no larger than it may be."""
        for name, claimed in self.header.arrays.items():
            _check_array(name, claimed, self._arrays.get(name), self._octets.size)
        unpacked = _check_sizes(self.path, self.header.arrays)
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
        with _blaming(self.path):
            for number in range(start // FRAMES_PER_CHUNK, -(-stop // FRAMES_PER_CHUNK)):
                before = number * FRAMES_PER_CHUNK
                rows = self._frame_chunk(number)[max(0, start - before) : stop - before]
                at = max(0, before - start)
                found[at : at + len(rows)] = rows
        return found

    def _frame_chunk(self, number: int) -> np.ndarray:
        """One chunk of frames, checked where it was not before."""
        if self._kept is not None and self._kept[0] == number:
            return self._kept[1]
        rows = self._chunk("frames", number)
        if not self._shown[number]:
            if CHECKS in self.header.arrays and zlib.crc32(rows.data) != self._checks[number]:
                raise ValueError("frames do not match their crc32")
            self._shown[number] = True
        self._kept = (number, rows) if rows.nbytes <= CACHE_BYTES else None
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
        """Fill `rows`, as many as a chunk has."""
        address, size, _ = self._arrays[name].places[number].tolist()
        unpack(self._octets.read(address, size), rows)

    def array(self, name: str) -> np.ndarray:
        """A whole array, checked against its sha256."""
        with _blaming(self.path):
            claimed, rows = self.header.arrays[name], self._arrays[name].chunk[0]
            values = np.empty(claimed["shape"], claimed["dtype"])
            for number in range(len(self._arrays[name].places)):
                part = values[number * rows : (number + 1) * rows]
                if len(part) == rows:
                    self._unpack(name, number, part)
                else:  # the last chunk has more rows than the array
                    part[...] = self._chunk(name, number)
            if _sha256(values) != claimed["sha256"]:
                raise ValueError(f"{name} does not match its sha256")
            if values.dtype.kind == "b" and values.view(np.uint8).max() > 1:
                raise ValueError(f"{name}: expected bytes of 0 and 1 for false and true")
            return values

    def episode(self) -> Episode:
        """All of it, checked."""
        names = ("frames", "actions", "rewards")
        arrays: dict[str, Any] = {name: self.array(name) for name in names}
        infos = {name: self.array(f"infos/{name}") for name in self.header.infos}
        fields = {name: getattr(self.header, name) for name in ("terminated", "truncated", "seed", "index")}
        with _blaming(self.path):
            if CHECKS in self.header.arrays and _crc32s(arrays["frames"]) != self._checks.tolist():
                raise ValueError("frames do not match their crc32")
            return Episode(**arrays, **fields, infos=infos)

    def close(self) -> None:
        self._octets.close()


def _check_array(name: str, claimed: dict[str, Any], found: Chunked | None, size: int) -> None:
    """An array is what the header claims, in chunks as they are written, within a file of `size` bytes."""
    if found is None:
        raise ValueError(f"{name}: missing")
    if found.filters != FILTERS or found.places[:, 2].any():
        raise ValueError(
            f"{name}: expected chunks packed by Zstd with checksums (filters {FILTERS}), got "
            f"{found.filters or 'none'}{' and chunks without' if found.filters == FILTERS else ''}"
        )
    if list(found.shape) != claimed["shape"] or found.itemsize != np.dtype(claimed["dtype"]).itemsize:
        raise ValueError(f"{name}: expected {claimed}, got {found.itemsize} bytes each of {list(found.shape)}")
    if found.chunk != _chunk(name, found.shape, found.itemsize):
        raise ValueError(f"{name}: expected chunks of {_chunk(name, found.shape, found.itemsize)}, got {found.chunk}")
    most = min(size, packed_bytes(math.prod(found.chunk) * found.itemsize))
    addresses, sizes = found.places[:, 0], found.places[:, 1]
    if (sizes > most).any() or (addresses > size - sizes).any():
        raise ValueError(f"{name}: chunks that are missing, or larger than their content")


def _check_together(header: Header) -> None:
    """The arrays are those of one episode."""
    for name, array in header.arrays.items():
        if not DTYPE.fullmatch(str(array.get("dtype"))):
            raise ValueError(f"{name}: expected numbers, got {array.get('dtype')!r}")
        if not array["shape"] or not all(type(size) is int and size > 0 for size in array["shape"]):
            raise ValueError(f"{name}: expected a shape of positive numbers, got {array['shape']}")
    shapes = {name: array["shape"] for name, array in header.arrays.items()}
    if missing := {"frames", "actions", "rewards"} - shapes.keys():
        raise ValueError(f"the header misses {', '.join(sorted(missing))}")
    frames, actions, rewards = shapes["frames"], shapes["actions"], shapes["rewards"]
    if header.arrays["frames"]["dtype"] != "|u1" or header.arrays["rewards"]["dtype"] != "<f4":
        raise ValueError("expected frames of uint8 and rewards of float32")
    if len(frames) != 4 or frames[0] < 2 or actions[:1] != [frames[0] - 1] or rewards != [frames[0] - 1]:
        raise ValueError(f"frames {frames}, actions {actions} and rewards {rewards} are not those of one episode")
    if CHECKS in shapes and (shapes[CHECKS], header.arrays[CHECKS]["dtype"]) != (
        [-(-frames[0] // FRAMES_PER_CHUNK)],
        "<u4",
    ):
        raise ValueError(f"{CHECKS}: expected one for each {FRAMES_PER_CHUNK} frames, got {shapes[CHECKS]}")


@contextlib.contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file becomes one EpisodeError. A file that the machine cannot read is not damaged."""
    try:
        yield
    except (EpisodeError, MemoryError):
        raise
    except FileNotFoundError:
        raise EpisodeError(f"{path}: no such episode; scripts/collect.py collects what is missing") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in MACHINE:
            raise
        remedy = "scripts/data.py repair moves it away, and the same scripts/collect.py command collects it again"
        problem = str(error).removeprefix(f"{path}: ")
        raise EpisodeError(f"{path}: damaged or unreadable: {problem}; {remedy}") from error

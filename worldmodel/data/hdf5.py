"""One episode as the bytes of one HDF5 file and back, with every flipped bit and every cut noticed.

The file holds `frames`, `actions`, `rewards` and `infos/<name>`, each chunk with a fletcher32 checksum, `checks`,
the crc32 of each chunk of frames, and the attribute `header`: JSON with the scalar fields and the sha256 of each
array. The attribute `sha256` covers the header. So a header or a small array is checked against sha256 whenever
it is read, a chunk of frames against its crc32 when an open file first shows it and against fletcher32 always:
the latter alone would not see two chunks change places. HDF5's own structures carry checksums in the 1.10 format,
which is why it is asked for. No time of day and no name of a machine is written (h5py < 3.15 dates groups): equal
episodes give equal bytes.

Shapes are claims until they are checked: an array must lie in the file itself, and may not be larger than its
stored bytes can unpack to, or a small file could ask for all memory.
"""

import contextlib
import hashlib
import io
import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from jaxtyping import UInt8

from worldmodel.config import typed
from worldmodel.data.episode import Episode

SCHEMA = 1
FRAMES_PER_CHUNK = 16  # about one training clip: a random clip decompresses two chunks
SMALL_CHUNK_BYTES = 1 << 16
CACHE_BYTES = 1 << 18  # per open array: one chunk of 64 x 64 frames, for whoever reads frame by frame
ZSTD_LEVEL = 1  # level 3 takes half as long again for files of 0.47 instead of 0.51 of the raw size
HDF5_FORMAT = ("v110", "v110")
EXPANSION = 1 << 15  # the most that Zstd unpacks a byte to: a block of 128 KB takes 4
CHECKS = "checks"  # files of before they were written have none, and are held to fletcher32 alone


class EpisodeError(ValueError):
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
    """The episode as the content of an HDF5 file: a pure function of the episode."""
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
    image = io.BytesIO()  # in memory: HDF5 itself dies hard on a full disk
    with h5py.File(image, "w", libver=HDF5_FORMAT) as file:
        for name, values in arrays.items():
            rows = FRAMES_PER_CHUNK if name == "frames" else max(1, SMALL_CHUNK_BYTES // max(1, values[0].nbytes))
            chunks = (min(rows, len(values)), *values.shape[1:])
            options = {"chunks": chunks, "fletcher32": True, "track_times": False}
            file.create_dataset(name, data=values, **options, **hdf5plugin.Zstd(ZSTD_LEVEL))
        file.attrs["header"] = np.bytes_(text)
        file.attrs["sha256"] = np.bytes_(hashlib.sha256(text).hexdigest())
    return image.getbuffer()


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

    Whoever opened the file before hands its `header` in, which halves the time to open it; who has its bytes in
    memory, its `content`, and the path only names it.

    Raises:
        EpisodeError: from every method, for whatever is wrong with the file.
    """

    def __init__(self, path: Path, header: Header | None = None, content: bytes | None = None):
        self.path = path
        with _blaming(path):
            # Finished files never change, and some network disks have no locks: none is asked for.
            where: Any = path if content is None else io.BytesIO(content)
            self._file: Any = h5py.File(where, "r", locking=False, rdcc_nbytes=CACHE_BYTES)
            try:
                self.header = header or self._read_header()
                self._frames = self._file["frames"]
                self._shown = np.zeros(-(-self.header.frames // FRAMES_PER_CHUNK), bool)  # chunks that were checked
            except BaseException:
                self.close()
                raise

    def _read_header(self) -> Header:
        text, digest = (bytes(self._file.attrs[name]) for name in ("header", "sha256"))
        if hashlib.sha256(text).hexdigest().encode() != digest:
            raise ValueError("the header does not match its sha256")
        values = json.loads(text)
        if (schema := values.pop("schema")) != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA}, got {schema}: another version of this software wrote it")
        header = typed(Header, {**values, "sha256": digest.decode()})
        for name, claimed in header.arrays.items():
            _check_claim(self._file, name, claimed)
        _check_together(header)
        return header

    def frames(self, start: int, stop: int) -> UInt8[np.ndarray, "t h w c"]:
        """Frames `start` to `stop - 1`; only their chunks are read and checked.

        Raises:
            IndexError: a slice that reaches outside the episode.
        """
        if not 0 <= start <= stop <= self.header.frames:
            raise IndexError(
                f"{self.path.name}: expected 0 <= start <= stop <= {self.header.frames}, got {start}:{stop}"
            )
        chunks = slice(start // FRAMES_PER_CHUNK, -(-stop // FRAMES_PER_CHUNK))
        with _blaming(self.path):
            if self._shown[chunks].all():
                return self._frames[start:stop]
            before = chunks.start * FRAMES_PER_CHUNK
            rows = self._frames[before : chunks.stop * FRAMES_PER_CHUNK]
            self._check_chunks(rows, chunks)
            return rows[start - before : stop - before]

    def _check_chunks(self, rows: np.ndarray, chunks: slice) -> None:
        if CHECKS in self.header.arrays and _crc32s(rows) != self._checks[chunks].tolist():
            raise ValueError("frames do not match their crc32")
        self._shown[chunks] = True

    @cached_property
    def _checks(self) -> np.ndarray:
        return self.array(CHECKS)

    def array(self, name: str) -> np.ndarray:
        """A whole array, checked against its sha256."""
        with _blaming(self.path):
            values = self._file[name][...]
            if _sha256(values) != self.header.arrays[name]["sha256"]:
                raise ValueError(f"{name} does not match its sha256")
            return values

    def episode(self) -> Episode:
        """All of it, checked."""
        names = ("frames", "actions", "rewards")
        arrays: dict[str, Any] = {name: self.array(name) for name in names}
        infos = {name: self.array(f"infos/{name}") for name in self.header.infos}
        fields = {name: getattr(self.header, name) for name in ("terminated", "truncated", "seed", "index")}
        with _blaming(self.path):
            return Episode(**arrays, **fields, infos=infos)

    def close(self) -> None:
        self._file.close()


def _check_claim(file: Any, name: str, claimed: dict[str, Any]) -> None:
    """What the header claims of an array is so, and its bytes are in this file (links may lead to others)."""
    found = file[name]
    if not isinstance(found, h5py.Dataset) or found.file != file or found.chunks is None or found.is_virtual:
        raise ValueError(f"{name}: expected an array in chunks, within this file")
    if found.dtype.str != claimed.get("dtype") or list(found.shape) != claimed.get("shape"):
        raise ValueError(f"{name}: expected {claimed}, got {found.dtype} {found.shape}")
    size, stored = math.prod(found.shape) * found.dtype.itemsize, found.id.get_storage_size()
    if found.dtype.kind not in "biuf" or math.prod(found.chunks) > math.prod(found.shape) or size > EXPANSION * stored:
        raise ValueError(f"{name}: {stored} stored bytes cannot hold {found.dtype} {found.shape}")


def _check_together(header: Header) -> None:
    """The arrays are those of one episode."""
    shapes = {name: array["shape"] for name, array in header.arrays.items()}
    if missing := {"frames", "actions", "rewards"} - shapes.keys():
        raise ValueError(f"the header misses {', '.join(sorted(missing))}")
    frames, actions, rewards = shapes["frames"], shapes["actions"], shapes["rewards"]
    if header.arrays["frames"]["dtype"] != "|u1" or header.arrays["rewards"]["dtype"] != "<f4":
        raise ValueError("expected frames of uint8 and rewards of float32")
    if len(frames) != 4 or frames[0] < 2 or actions[:1] != [frames[0] - 1] or rewards != [frames[0] - 1]:
        raise ValueError(f"frames {frames}, actions {actions} and rewards {rewards} are not those of one episode")
    if CHECKS in shapes and shapes[CHECKS] != [-(-frames[0] // FRAMES_PER_CHUNK)]:
        raise ValueError(f"{CHECKS}: expected one for each {FRAMES_PER_CHUNK} frames, got {shapes[CHECKS]}")


@contextlib.contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Whatever HDF5 raises over a damaged file (OSError, RuntimeError, ...) becomes one EpisodeError."""
    try:
        yield
    except EpisodeError:
        raise
    except FileNotFoundError:
        raise EpisodeError(f"{path}: no such episode; scripts/collect.py collects what is missing") from None
    except Exception as error:
        remedy = "scripts/data.py repair moves it away, and the same scripts/collect.py command collects it again"
        raise EpisodeError(f"{path}: damaged or unreadable: {error}; {remedy}") from error

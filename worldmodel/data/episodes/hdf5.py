"""Writes one episode as the bytes of one HDF5 file, and defines the format that `episode_file` reads.

The file holds `frames`, `actions`, `rewards` and `infos/<name>`. Each array is stored in chunks, each
with a fletcher32 checksum. `checks` holds the crc32 of each chunk of frames. The attribute `header` is
JSON with the scalar fields and the sha256 of each array; the attribute `sha256` covers the header.

A header or a small array is checked against its sha256 whenever it is read. A chunk of frames is checked
against its crc32 when an open file first reads it, and against fletcher32 at every read. (fletcher32 alone
would not notice that two chunks changed places.) HDF5's own structures have checksums in the 1.10 format,
so files use this format. No date and no machine name is written (h5py < 3.15 dates groups), so equal
episodes give equal bytes.
"""

import hashlib
import io
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from worldmodel.data.episodes.episode import Episode, EpisodeSignature
from worldmodel.io.untrusted import (
    EPISODE_BYTES,
    MAX_EXPANSION,
    MIN_UNPACKED_LIMIT,
    UntrustedFileError,
    check_episode,
    check_frame,
)

SCHEMA = 1
FRAMES_PER_CHUNK = 16  # about one training clip: a random clip decompresses two chunks
SMALL_CHUNK_BYTES = 1 << 16
ZSTD_LEVEL = 1  # level 3 takes 1.5 times as long, for files of 0.47 instead of 0.51 of the raw size
HDF5_FORMAT = ("v110", "v110")
MAX_FILE_BYTES = EPISODE_BYTES + EPISODE_BYTES // 8  # incompressible data grows a little when packed
HEADER_BYTES = 60_000  # HDF5 stores larger attributes in another way, which is not read
MAX_CHUNKS = 1 << 19  # per array
CHECKS = "checks"  # older files lack this array; for them fletcher32 is the only check of a slice


class EpisodeError(UntrustedFileError):
    """An episode file is missing, damaged or cut short; the message names the file, the fault and the remedy."""


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
        """The number of frames, one more than the number of actions."""
        return self.arrays["frames"]["shape"][0]

    @property
    def infos(self) -> tuple[str, ...]:
        return tuple(name.removeprefix("infos/") for name in self.arrays if name.startswith("infos/"))

    @property
    def signature(self) -> EpisodeSignature:
        frames, actions = self.arrays["frames"], self.arrays["actions"]
        shapes = tuple(frames["shape"][1:]), tuple(actions["shape"][1:])
        return EpisodeSignature(*shapes, actions["dtype"], tuple(sorted(self.infos)))

    @property
    def content(self) -> dict[str, dict[str, Any]]:
        """{dtype, shape, sha256} of the episode's own arrays: equal for equal episodes, in any chunking."""
        names = ("frames", "actions", "rewards", *(f"infos/{name}" for name in self.infos))
        return {name: self.arrays[name] for name in names}


def to_bytes(episode: Episode) -> memoryview:
    """The content of an episode's HDF5 file: a pure function of the episode.

    Raises:
        ValueError: the episode is larger than the ceilings for reading, or an info has an impossible name.
    """
    arrays = {"frames": episode.frames, "actions": episode.actions, "rewards": episode.rewards}
    arrays |= {f"infos/{name}": values for name, values in sorted(episode.infos.items())}
    arrays |= {CHECKS: np.array(crc32s(episode.frames), np.uint32)}
    arrays = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    records = {name: _record(values) for name, values in arrays.items()}
    text = json.dumps(_header(episode, records)).encode()
    _check_writable(f"episode {episode.index}", records, text)
    image = io.BytesIO()  # in memory, because HDF5 itself may crash on a full disk
    with h5py.File(image, "w", libver=HDF5_FORMAT) as file:
        for name, values in arrays.items():
            chunks = chunk_shape(name, values.shape, values.itemsize)
            options = {"chunks": chunks, "fletcher32": True, "track_times": False}
            file.create_dataset(name, data=values, **options, **hdf5plugin.Zstd(ZSTD_LEVEL))
        file.attrs["header"] = np.bytes_(text)
        file.attrs["sha256"] = np.bytes_(hashlib.sha256(text).hexdigest())
    _pad(image, sum(values.nbytes for values in arrays.values()))
    return image.getbuffer()


def _header(episode: Episode, records: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "index": int(episode.index),
        "seed": int(episode.seed),
        "terminated": bool(episode.terminated),
        "truncated": bool(episode.truncated),
        "arrays": records,
    }


def _record(values: np.ndarray) -> dict[str, Any]:
    return {"dtype": values.dtype.str, "shape": list(values.shape), "sha256": sha256(values)}


def sha256(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def crc32s(frames: np.ndarray) -> list[int]:
    """The crc32 of each chunk of frames."""
    chunks = (frames[start : start + FRAMES_PER_CHUNK] for start in range(0, len(frames), FRAMES_PER_CHUNK))
    return [zlib.crc32(np.ascontiguousarray(chunk).data) for chunk in chunks]


def chunk_shape(name: str, shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """The shape of an array's chunks: some whole rows of the array."""
    row = itemsize * math.prod(shape[1:])
    rows = FRAMES_PER_CHUNK if name == "frames" else max(1, SMALL_CHUNK_BYTES // max(1, row))
    return (min(rows, shape[0]), *shape[1:])


def _check_writable(what: str, arrays: Mapping[str, dict[str, Any]], header: bytes) -> None:
    """Refuse what the reader would refuse."""
    for name in arrays:
        if "" in name.split("/") or {".", ".."} & set(name.split("/")) or "\0" in name:
            raise ValueError(f"{what}: info {name.removeprefix('infos/')!r}: expected a name without empty parts")
    if len(header) > HEADER_BYTES:
        raise ValueError(
            f"{what}: {len(arrays)} arrays need a header of {len(header):,} bytes, expected at most "
            f"{HEADER_BYTES:,}; keep fewer info_keys, or give them shorter names"
        )
    check_sizes(what, arrays)


def check_sizes(what: str | Path, arrays: Mapping[str, dict[str, Any]]) -> int:
    """The bytes of all arrays together.

    Raises:
        ValueError: an array exceeds a ceiling of `worldmodel.io.untrusted`, or has too many chunks.
    """
    frames = arrays["frames"]["shape"]
    check_frame(what, frames[1:])
    sizes = [math.prod(each["shape"]) * np.dtype(each["dtype"]).itemsize for each in arrays.values()]
    check_episode(what, frames[0], -(-sum(sizes) // frames[0]))
    for name, each in arrays.items():
        shape, itemsize = tuple(each["shape"]), np.dtype(each["dtype"]).itemsize
        if (count := -(-shape[0] // chunk_shape(name, shape, itemsize)[0])) > MAX_CHUNKS:
            raise ValueError(f"{what}: {name}: {count:,} chunks, expected at most {MAX_CHUNKS:,}; cut the episode")
    return sum(sizes)


def _pad(image: io.BytesIO, size: int) -> None:
    """Append zeros to a file that is too small for its content to pass `check_unpacked`, as of a still picture."""
    if size > MIN_UNPACKED_LIMIT:
        image.seek(0, io.SEEK_END)
        image.write(bytes(max(0, -(-size // MAX_EXPANSION) - image.tell())))

"""The child process that reads HDF5 files from anyone; it imports h5py and little else.

python child.py FILE

Each line of standard input is a request in JSON; see `worldmodel.io.hdf5.untrusted`. Everything is checked before it is
read: links may not lead out of the file, its data must be in the file, only h5py's own filters may unpack it, and
claimed sizes must agree with the stored bytes.
"""

import io
import json
import math
import os
import signal
import sys
from typing import Any

import h5py
import numpy as np

# What h5py itself can write: gzip, shuffle, fletcher32, lzf. Others crashed, or did not end, over damaged chunks.
FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}
LAYOUTS = {h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED}
EXPANSION = 1100  # the most that gzip unpacks a byte to is 1032
CHUNK_BYTES = 1 << 28
FRAME_BYTES = 1 << 26
SECONDS = 120  # of one request: after that the child ends itself, in case its parent is gone

Answer = tuple[dict[str, Any], np.ndarray | None]


def find(file: h5py.File, path: list[str]) -> Any:
    """The group or dataset at a path of names; only links within this file are followed."""
    node: Any = file
    for name in path:
        link = node.get(name, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            raise ValueError(f"no {'/'.join(path)} in it")
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{'/'.join(path)}: expected data in this file, got a link to elsewhere")
        node = node[name]
    if not isinstance(node, h5py.Group | h5py.Dataset):
        raise ValueError(f"{'/'.join(path)}: expected a group or an array")
    return node


def describe(file: h5py.File, path: list[str]) -> Answer:
    """Members and number attributes of a group, or type and shape of an array."""
    node = find(file, path)
    if isinstance(node, h5py.Group):
        seed = node.attrs.get("seed")
        seed = int(seed) if isinstance(seed, np.integer) else None
        return {"members": list(node), "seed": seed}, None
    check(node)
    kind = "bytes" if h5py.check_vlen_dtype(node.dtype) == np.uint8 else node.dtype.str
    return {"shape": list(node.shape), "dtype": kind}, None


def check(data: h5py.Dataset) -> None:
    """Refuse an array whose data is outside of the file, uses other filters, or is less than it claims."""
    settings = data.id.get_create_plist()
    if settings.get_layout() not in LAYOUTS or settings.get_external_count():
        raise ValueError(f"{data.name}: expected data in this file, got data elsewhere")
    filters = {settings.get_filter(i)[0]: settings.get_filter(i)[3] for i in range(settings.get_nfilters())}
    if foreign := {number: name for number, name in filters.items() if number not in FILTERS}:
        names = ", ".join(f"{name.decode(errors='replace')} ({number})" for number, name in foreign.items())
        raise ValueError(f"{data.name}: expected gzip, lzf, shuffle or fletcher32, got the filter {names}; repack it")
    if data.shape is None or any(size < 0 for size in data.shape):
        raise ValueError(f"{data.name}: expected an array")
    claimed, stored = math.prod(data.shape) * data.dtype.itemsize, data.id.get_storage_size()
    if claimed > stored * (EXPANSION if filters else 1):
        raise ValueError(f"{data.name}: {stored:,} stored bytes cannot hold {data.dtype} {data.shape}")
    if data.chunks is not None:
        check_chunks(data, data.chunks)


def check_chunks(data: h5py.Dataset, chunks: tuple[int, ...]) -> None:
    """Refuse missing chunks, which HDF5 would read as zeros, and chunks that are too large."""
    if (size := math.prod(chunks) * data.dtype.itemsize) > CHUNK_BYTES:
        raise ValueError(f"{data.name}: chunks of {size:,} bytes, expected at most {CHUNK_BYTES:,}")
    expected = math.prod(-(-n // chunk) for n, chunk in zip(data.shape, chunks, strict=True))
    if (found := data.id.get_num_chunks()) != expected:
        raise ValueError(f"{data.name}: expected {expected:,} chunks, found {found:,}")


def array(file: h5py.File, path: list[str]) -> h5py.Dataset:
    """The array at a path, checked."""
    data = find(file, path)
    if not isinstance(data, h5py.Dataset):
        raise ValueError(f"{'/'.join(path)}: expected an array, got a group")
    check(data)
    return data


def read(file: h5py.File, path: list[str], start: int, stop: int) -> Answer:
    """Rows of an array of numbers; a scalar is read as it is."""
    data = array(file, path)
    if data.dtype.kind not in "biuf" or data.dtype.itemsize > 8:
        raise ValueError(f"{data.name}: expected numbers, got {data.dtype}")
    values = data[start:stop] if data.shape else data[()]
    values = np.asarray(values, data.dtype.newbyteorder("<"))
    return {"array": [list(values.shape), values.dtype.str]}, values


def jpeg(file: h5py.File, path: list[str], start: int, stop: int) -> Answer:
    """Images that Minari stored as JPEG, one row of bytes each."""
    from PIL import Image  # only few files need it

    data = array(file, path)
    images = np.stack([decoded(Image, data.name, row) for row in data[start:stop]])
    return {"array": [list(images.shape), images.dtype.str]}, images


def decoded(Image: Any, name: Any, row: Any) -> np.ndarray:
    row = np.asarray(row)
    if row.dtype != np.uint8 or row.ndim != 1:
        raise ValueError(f"{name}: expected JPEG images, got {row.dtype} {row.shape}")
    with Image.open(io.BytesIO(row.tobytes()), formats=["JPEG"]) as image:
        if image.width * image.height * len(image.getbands()) > FRAME_BYTES:
            raise ValueError(f"{name}: images of {image.height} x {image.width} are too large")
        return np.asarray(image)


REQUESTS = {"describe": describe, "read": read, "jpeg": jpeg}


def main(path: str) -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # other output must not mix with the answers
    with h5py.File(path, "r", locking=False, rdcc_nbytes=0) as file:
        for line in sys.stdin.buffer:
            if hasattr(signal, "alarm"):
                signal.alarm(SECONDS)
            answers.write(b"".join(answer(file, json.loads(line))))
            answers.flush()


def answer(file: h5py.File, request: dict[str, Any]) -> tuple[bytes, bytes, Any]:
    """A line of JSON, and the bytes of the array that it announces."""
    try:
        reply, values = REQUESTS[request.pop("do")](file, **request)
    except Exception as error:
        plain = isinstance(error, ValueError)
        reply, values = {"error": str(error) if plain else f"damaged: {type(error).__name__}: {error}"}, None
    return json.dumps(reply).encode(), b"\n", b"" if values is None else np.ascontiguousarray(values).data


if __name__ == "__main__":
    main(sys.argv[1])

"""Where the arrays of an HDF5 file lie, read without the HDF5 library, which a hostile file can crash.

It reads the part of the format that `worldmodel.data.episodes.hdf5` writes: object headers of version 2, groups of hard
links, arrays in chunks, attributes of fixed length. Anything else in a file (external storage, links to other files,
virtual arrays, references, types by name, user blocks) is refused or never read. Every block is compared with its
checksum, and every address with the size of the file.

The format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from worldmodel.io.hdf5.blocks import MAX_BYTES, NOWHERE, Fields, Source, check_block, limit_source
from worldmodel.io.hdf5.objects import (
    ATTRIBUTE,
    DATASPACE,
    FILTERS,
    LAYOUT,
    Message,
    only_message,
    read_attribute,
    read_links,
    read_object,
    root_address,
)

MAX_DEPTH = 8  # groups within groups


@dataclass(frozen=True)
class Chunked:
    """An array in chunks: their shape, the bytes of an element, the filters, and where each chunk lies.

    places: one row for each chunk in row-major order: address, stored bytes, mask of filters left out.
    """

    chunk: tuple[int, ...]
    itemsize: int
    shape: tuple[int, ...]
    filters: tuple[int, ...]
    places: np.ndarray


def read_attributes(read: Source) -> dict[str, bytes]:
    """The fixed-length text attributes of the root group.

    Raises:
        ValueError: the bytes are not those of such a file.
    """
    read = limit_source(read)
    found = (read_attribute(content) for kind, _, content in read_object(read, root_address(read)) if kind == ATTRIBUTE)
    return {name: value for name, value in found if value is not None}


def read_arrays(read: Source) -> dict[str, Chunked]:
    """All arrays by their path, such as "frames" and "infos/health"; down to `MAX_DEPTH` groups.

    Raises:
        ValueError: the bytes are not those of such a file, or an array is not stored in chunks within it.
    """
    read = limit_source(read)
    return dict(_arrays(read, read_object(read, root_address(read)), ""))


def _arrays(read: Source, group: list[Message], prefix: str) -> Iterator[tuple[str, Chunked]]:
    for name, address in read_links(read, group):
        messages = read_object(read, address)
        if any(kind == LAYOUT for kind, _, _ in messages):
            yield prefix + name, _array(read, messages, prefix + name)
        elif prefix.count("/") < MAX_DEPTH:
            yield from _arrays(read, messages, f"{prefix}{name}/")


def _array(read: Source, messages: list[Message], name: str) -> Chunked:
    layout = only_message(messages, LAYOUT)
    version, kind = layout.number(1), layout.number(1)
    if (version, kind) != (4, 2):  # 0: in the header, 1: in one piece, maybe of other files, 3: virtual
        raise ValueError(f"{name}: expected an array in chunks, within this file")
    flags, rank, width = (layout.number(1) for _ in range(3))
    *chunk, itemsize = (layout.number(width) for _ in range(rank))
    shape = _shape(only_message(messages, DATASPACE))
    if len(shape) != len(chunk) or 0 in chunk or 0 in shape:
        raise ValueError(f"{name}: expected chunks of as many axes as the array has, got {chunk} of {shape}")
    count = math.prod(-(-size // part) for size, part in zip(shape, chunk, strict=True))
    places = _places(read, layout, flags, count, name)
    return Chunked(tuple(chunk), itemsize, shape, _filters(messages), places)


def _shape(fields: Fields) -> tuple[int, ...]:
    version, rank, _, _ = (fields.number(1) for _ in range(4))
    if version != 2 or rank > 32:
        raise ValueError("expected a shape of version 2")
    return tuple(fields.number(8) for _ in range(rank))


def _filters(messages: list[Message]) -> tuple[int, ...]:
    """The numbers of the filters that each chunk went through, in order."""
    if not any(kind == FILTERS for kind, _, _ in messages):
        return ()
    fields = only_message(messages, FILTERS)
    version, count = fields.number(1), fields.number(1)
    if version != 2:
        raise ValueError("expected filters of version 2")
    return tuple(_filter(fields) for _ in range(count))


def _filter(fields: Fields) -> int:
    number = fields.number(2)
    name = fields.number(2) if number >= 256 else 0
    _, values = fields.number(2), fields.number(2)
    fields.take(name + 4 * values)
    return number


def _places(read: Source, layout: Fields, flags: int, count: int, name: str) -> np.ndarray:
    index = layout.number(1)
    if index == 1 and flags & 2 and count == 1:
        size, mask, address = layout.number(8), layout.number(4), layout.number(8)
        return np.array([[address, size, mask]], np.uint64)
    if index == 3:
        layout.take(1)
        return _fixed_array(read, layout.number(8), count, name)
    raise ValueError(f"{name}: expected chunks that went through filters, in an array of fixed size")


def _fixed_array(read: Source, address: int, count: int, name: str) -> np.ndarray:
    """The places in a fixed array of `count` chunks; a large one lies in pages."""
    if address == NOWHERE:
        raise ValueError(f"{name}: all of its {count:,} chunks are missing")
    header = Fields(check_block(read(address, 28), b"FAHD"))
    _, client, entry, bits = (header.number(1) for _ in range(4))
    found, block = header.number(8), header.number(8)
    if client != 1 or found != count or not 13 <= entry <= 20 or bits > 32 or count * entry > MAX_BYTES:
        raise ValueError(f"{name}: the index is not that of {count:,} chunks")
    page = 1 << bits
    pages = -(-count // page) if count > page else 0
    bitmap = -(-pages // 8)
    if not pages:
        content = check_block(read(block, 14 + count * entry + 4), b"FADB")[10:]
    else:
        check_block(read(block, 14 + bitmap + 4), b"FADB")
        starts = range(block + 18 + bitmap, block + 18 + bitmap + pages * (page * entry + 4), page * entry + 4)
        sizes = [page * entry] * (pages - 1) + [(count - page * (pages - 1)) * entry]
        content = b"".join(check_block(read(at, size + 4)) for at, size in zip(starts, sizes, strict=True))
    rows = np.frombuffer(content, np.uint8).reshape(count, entry)
    return np.stack([_numbers(rows[:, a:b]) for a, b in ((0, 8), (8, entry - 4), (entry - 4, entry))], 1)


def _numbers(columns: np.ndarray) -> np.ndarray:
    wide = np.zeros((len(columns), 8), np.uint8)
    wide[:, : columns.shape[1]] = columns
    return wide.view("<u8")[:, 0]

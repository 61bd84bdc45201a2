"""Where the arrays of an HDF5 file lie, read without the HDF5 library, which a hostile file can crash.

This reads the part of the format that `worldmodel.data.episodes.hdf5` writes: version 2 object headers, groups of
hard links, arrays in chunks, attributes of fixed length. Whatever else a file holds (external storage, links to
other files, virtual arrays, references, types by name, user blocks) is refused or is never looked at. Every
block is checked against its checksum, and every address against the size of the file.

The format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

SIGNATURE = b"\x89HDF\r\n\x1a\n"
NOWHERE = 2**64 - 1  # the address of what is not there
DATASPACE, LINK_INFO, DATATYPE, LINK, LAYOUT, FILTERS, ATTRIBUTE, CONTINUATION = 1, 2, 3, 6, 8, 11, 12, 16
MOST_BYTES = 1 << 24  # of blocks that describe arrays: they are checked in Python, at a few MB a second
MOST_MESSAGES = 4096  # of one object
MOST_DEPTH = 8  # groups within groups
MASK = 0xFFFFFFFF


Source = Callable[[int, int], bytes]  # (start, size) to bytes; ValueError where the file is shorter


@dataclass(frozen=True)
class ChunkedPolicy:
    """An array in chunks: their shape, the bytes of an element, the filters, and where each chunk lies.

    places: one row for each chunk in row-major order: address, stored bytes, mask of filters left out.
    """

    chunk: tuple[int, ...]
    itemsize: int
    shape: tuple[int, ...]
    filters: tuple[int, ...]
    places: np.ndarray


Message = tuple[int, int, bytes]  # type, flags, content


def read_attributes(read: Source) -> dict[str, bytes]:
    """The fixed-length text attributes of the root group.

    Raises:
        ValueError: no such file.
    """
    read = _limited(read)
    found = (_attribute(content) for kind, _, content in _object(read, _root(read)) if kind == ATTRIBUTE)
    return {name: value for name, value in found if value is not None}


def read_arrays(read: Source) -> dict[str, ChunkedPolicy]:
    """All arrays by their path, such as "frames" and "infos/health"; down to `MOST_DEPTH` groups.

    Raises:
        ValueError: no such file, or an array that is not stored in chunks within it.
    """
    read = _limited(read)
    return dict(_arrays(read, _object(read, _root(read)), ""))


def _limited(read: Source) -> Source:
    """A source that gives no more than `MOST_BYTES` in all."""
    left = MOST_BYTES

    def limited(start: int, size: int) -> bytes:
        nonlocal left
        left -= size
        if left < 0:
            raise ValueError(f"more than {MOST_BYTES:,} bytes describe the arrays of the file")
        return read(start, size)

    return limited


def _arrays(read: Source, group: list[Message], prefix: str) -> Iterator[tuple[str, ChunkedPolicy]]:
    for name, address in _links(read, group):
        messages = _object(read, address)
        if any(kind == LAYOUT for kind, _, _ in messages):
            yield prefix + name, _array(read, messages, prefix + name)
        elif prefix.count("/") < MOST_DEPTH:
            yield from _arrays(read, messages, f"{prefix}{name}/")


class _Fields:
    """The fields of a block, one after the other; what reaches beyond its end is refused."""

    def __init__(self, content: bytes):
        self.content, self.at = content, 0

    def take(self, size: int) -> bytes:
        if size > len(self.content) - self.at:
            raise ValueError("a block of the file is cut short")
        self.at += size
        return self.content[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    @property
    def left(self) -> int:
        return len(self.content) - self.at


def _root(read: Source) -> int:
    """The address of the root group."""
    fields = _Fields(_checked(read(0, 48)))
    if fields.take(8) != SIGNATURE or fields.number(1) not in (2, 3) or fields.take(2) != b"\x08\x08":
        raise ValueError("expected an HDF5 file of format 1.10 that starts with its signature")
    fields.take(1)
    base, _, _, root = (fields.number(8) for _ in range(4))
    if base:
        raise ValueError("expected an HDF5 file that starts at its first byte")
    return root


def _object(read: Source, address: int) -> list[Message]:
    """All messages of the object header at an address."""
    start = read(address, 6)
    if start[:5] != b"OHDR\x02":
        raise ValueError("expected an object header of version 2")
    flags = start[5]
    before = 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
    width = 1 << (flags & 3)
    size = int.from_bytes(read(address + before, width), "little")
    block = _checked(read(address, before + width + size + 4))
    todo, found = [block[before + width :]], []
    while todo:
        for message in _messages(todo.pop(), ordered=bool(flags & 4)):
            found.append(message)
            if len(found) > MOST_MESSAGES:
                raise ValueError("an object header has no end")
            if message[0] == CONTINUATION:
                todo.append(_continued(read, message[2]))
    return found


def _continued(read: Source, content: bytes) -> bytes:
    fields = _Fields(content)
    return _checked(read(fields.number(8), fields.number(8)), b"OCHK")


def _messages(content: bytes, ordered: bool) -> Iterator[Message]:
    fields = _Fields(content)
    while fields.left >= 4 + 2 * ordered:
        kind, size, flags = fields.number(1), fields.number(2), fields.number(1)
        fields.take(2 * ordered)
        yield kind, flags, fields.take(size)


def _only(messages: list[Message], kind: int) -> _Fields:
    """The one message of a kind, whose content is not elsewhere (flag 2: shared)."""
    match [(flags, content) for each, flags, content in messages if each == kind]:
        case [(flags, content)] if not flags & 2:
            return _Fields(content)
    raise ValueError("expected one description of each array, within its own header")


def _attribute(content: bytes) -> tuple[str, bytes | None]:
    """Name and value; None for a value that is no text of fixed length."""
    fields = _Fields(content)
    version, flags = fields.number(1), fields.number(1)
    sizes = [fields.number(2) for _ in range(3)]
    fields.take(version == 3)
    name, kind, space = (fields.take(size) for size in sizes)
    scalar = len(space) >= 4 and space[:2] == b"\x02\x00" and space[3] == 0
    if version != 3 or flags or len(kind) < 8 or kind[0] & 15 != 3 or not scalar:
        return name.rstrip(b"\0").decode("utf-8", "replace"), None
    return name.rstrip(b"\0").decode("utf-8"), fields.take(int.from_bytes(kind[4:8], "little"))


def _links(read: Source, group: list[Message]) -> Iterator[tuple[str, int]]:
    """Names and addresses of what a group holds."""
    for kind, _, content in group:
        if kind == LINK:
            yield _link(_Fields(content))
        if kind == LINK_INFO:
            fields = _Fields(content)
            _, flags = fields.number(1), fields.number(1)
            fields.take(8 * (flags & 1))
            if (heap := fields.number(8)) != NOWHERE:
                yield from _heap_links(read, heap)


def _link(fields: _Fields) -> tuple[str, int]:
    _, flags = fields.number(1), fields.number(1)
    kind = fields.number(1) if flags & 8 else 0
    fields.take(8 * bool(flags & 4) + bool(flags & 0x10))
    name = fields.take(fields.number(1 << (flags & 3))).decode("utf-8")
    if kind:
        raise ValueError(f"{name}: expected an array in chunks, within this file, got a link")
    return name, fields.number(8)


def _heap_links(read: Source, address: int) -> Iterator[tuple[str, int]]:
    """The links of a large group, which lie one behind the other in the blocks of a heap."""
    heap = _Fields(_checked(read(address, 146), b"FRHP"))
    heap.take(3)
    filters, flags = heap.number(2), heap.number(1)
    heap.take(100)
    width, first, largest, bits, _, root, rows = (heap.number(size) for size in (2, 8, 8, 2, 2, 8, 2))
    if filters or rows > 16 or not 1 <= width <= 16 or not 64 <= first <= largest <= 1 << 16:
        raise ValueError("expected a group of fewer links")
    before = 13 + -(-bits // 8)
    blocks = [(root, first)] if not rows else _heap_blocks(read, root, before, width, first, rows)
    for block, size in blocks:
        content = read(block, size)
        if content[:5] != b"FHDB\0":
            raise ValueError("expected a block of links")
        fields = _Fields(content[before + 4 * bool(flags & 2) :])
        while fields.left and fields.content[fields.at] == 1:  # the rest of the block is free
            yield _link(fields)


def _heap_blocks(
    read: Source, address: int, before: int, width: int, first: int, rows: int
) -> Iterator[tuple[int, int]]:
    """Addresses and sizes of the blocks of a heap: each row from the third on has blocks twice as large."""
    fields = _Fields(_checked(read(address, before + 8 * width * rows + 4), b"FHIB"))
    fields.take(before - 4)
    for row in range(rows):
        for _ in range(width):
            if (block := fields.number(8)) != NOWHERE:
                yield block, first << max(0, row - 1)


def _array(read: Source, messages: list[Message], name: str) -> ChunkedPolicy:
    layout = _only(messages, LAYOUT)
    version, kind = layout.number(1), layout.number(1)
    if (version, kind) != (4, 2):  # 0: in the header, 1: in one piece, maybe of other files, 3: virtual
        raise ValueError(f"{name}: expected an array in chunks, within this file")
    flags, rank, width = (layout.number(1) for _ in range(3))
    *chunk, itemsize = (layout.number(width) for _ in range(rank))
    shape = _shape(_only(messages, DATASPACE))
    if len(shape) != len(chunk) or 0 in chunk or 0 in shape:
        raise ValueError(f"{name}: expected chunks of as many axes as the array has, got {chunk} of {shape}")
    count = math.prod(-(-size // part) for size, part in zip(shape, chunk, strict=True))
    places = _places(read, layout, flags, count, name)
    return ChunkedPolicy(tuple(chunk), itemsize, shape, _filters(messages), places)


def _shape(fields: _Fields) -> tuple[int, ...]:
    version, rank, _, _ = (fields.number(1) for _ in range(4))
    if version != 2 or rank > 32:
        raise ValueError("expected a shape of version 2")
    return tuple(fields.number(8) for _ in range(rank))


def _filters(messages: list[Message]) -> tuple[int, ...]:
    """The numbers of the filters that each chunk went through, in order."""
    if not any(kind == FILTERS for kind, _, _ in messages):
        return ()
    fields = _only(messages, FILTERS)
    version, count = fields.number(1), fields.number(1)
    if version != 2:
        raise ValueError("expected filters of version 2")
    return tuple(_filter(fields) for _ in range(count))


def _filter(fields: _Fields) -> int:
    number = fields.number(2)
    name = fields.number(2) if number >= 256 else 0
    _, values = fields.number(2), fields.number(2)
    fields.take(name + 4 * values)
    return number


def _places(read: Source, layout: _Fields, flags: int, count: int, name: str) -> np.ndarray:
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
    header = _Fields(_checked(read(address, 28), b"FAHD"))
    _, client, entry, bits = (header.number(1) for _ in range(4))
    found, block = header.number(8), header.number(8)
    if client != 1 or found != count or not 13 <= entry <= 20 or bits > 32 or count * entry > MOST_BYTES:
        raise ValueError(f"{name}: the index is not that of {count:,} chunks")
    page = 1 << bits
    pages = -(-count // page) if count > page else 0
    bitmap = -(-pages // 8)
    if not pages:
        content = _checked(read(block, 14 + count * entry + 4), b"FADB")[10:]
    else:
        _checked(read(block, 14 + bitmap + 4), b"FADB")
        starts = range(block + 18 + bitmap, block + 18 + bitmap + pages * (page * entry + 4), page * entry + 4)
        sizes = [page * entry] * (pages - 1) + [(count - page * (pages - 1)) * entry]
        content = b"".join(_checked(read(at, size + 4)) for at, size in zip(starts, sizes, strict=True))
    rows = np.frombuffer(content, np.uint8).reshape(count, entry)
    return np.stack([_numbers(rows[:, a:b]) for a, b in ((0, 8), (8, entry - 4), (entry - 4, entry))], 1)


def _numbers(octets: np.ndarray) -> np.ndarray:
    wide = np.zeros((len(octets), 8), np.uint8)
    wide[:, : octets.shape[1]] = octets
    return wide.view("<u8")[:, 0]


def _checked(block: bytes, signature: bytes = b"") -> bytes:
    """A block without its signature and its checksum, which has to be right."""
    if len(block) < len(signature) + 4 or not block.startswith(signature):
        raise ValueError(f"expected a block {signature.decode()}")
    if lookup3(block[:-4]) != int.from_bytes(block[-4:], "little"):
        raise ValueError("a block of the file does not match its checksum")
    return block[len(signature) : -4]


def lookup3(content: bytes) -> int:
    """Bob Jenkins' hash of that name, in 32 bits: the checksum of HDF5's own structures."""
    a = b = c = (0xDEADBEEF + len(content)) & MASK
    if not content:
        return c
    whole = (len(content) - 1) // 12 * 12
    for x, y, z in struct.iter_unpack("<3I", content[:whole]):
        a, b, c = _mixed((a + x) & MASK, (b + y) & MASK, (c + z) & MASK)
    x, y, z = struct.unpack("<3I", content[whole:].ljust(12, b"\0"))
    return _finished((a + x) & MASK, (b + y) & MASK, (c + z) & MASK)


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    a = (a - c) & MASK ^ (c << 4 | c >> 28) & MASK
    c = (c + b) & MASK
    b = (b - a) & MASK ^ (a << 6 | a >> 26) & MASK
    a = (a + c) & MASK
    c = (c - b) & MASK ^ (b << 8 | b >> 24) & MASK
    b = (b + a) & MASK
    a = (a - c) & MASK ^ (c << 16 | c >> 16) & MASK
    c = (c + b) & MASK
    b = (b - a) & MASK ^ (a << 19 | a >> 13) & MASK
    a = (a + c) & MASK
    c = (c - b) & MASK ^ (b << 4 | b >> 28) & MASK
    return a, (b + a) & MASK, c


def _finished(a: int, b: int, c: int) -> int:
    for shift in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - (b << shift | b >> 32 - shift)) & MASK
        a, b, c = b, c, a
    return b

"""Blocks of an HDF5 file: their fields, one after the other, and their checksums."""

import struct
from collections.abc import Callable

MAX_BYTES = 1 << 24  # of blocks that describe arrays: they are checked in Python, at a few MB a second
MASK = 0xFFFFFFFF
NOWHERE = 2**64 - 1  # the address of something that is not there

Source = Callable[[int, int], bytes]  # (start, size) to bytes; ValueError where the file is shorter


def limit_source(read: Source) -> Source:
    """A source that gives at most `MAX_BYTES` in total."""
    left = MAX_BYTES

    def limited(start: int, size: int) -> bytes:
        nonlocal left
        left -= size
        if left < 0:
            raise ValueError(f"more than {MAX_BYTES:,} bytes describe the arrays of the file")
        return read(start, size)

    return limited


class Fields:
    """Reads the fields of a block in order; raises ValueError for a field beyond its end."""

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


def check_block(block: bytes, signature: bytes = b"") -> bytes:
    """The block without its signature and checksum. Raises ValueError if either is wrong."""
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
        a, b, c = _mix((a + x) & MASK, (b + y) & MASK, (c + z) & MASK)
    x, y, z = struct.unpack("<3I", content[whole:].ljust(12, b"\0"))
    return _finish((a + x) & MASK, (b + y) & MASK, (c + z) & MASK)


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
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


def _finish(a: int, b: int, c: int) -> int:
    for shift in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - (b << shift | b >> 32 - shift)) & MASK
        a, b, c = b, c, a
    return b

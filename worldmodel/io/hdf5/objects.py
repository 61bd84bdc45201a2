"""Objects of an HDF5 file: headers of version 2 with their messages, attributes, and the links of groups."""

from collections.abc import Iterator

from worldmodel.io.hdf5.blocks import NOWHERE, Fields, Source, check_block

SIGNATURE = b"\x89HDF\r\n\x1a\n"
DATASPACE, LINK_INFO, DATATYPE, LINK, LAYOUT, FILTERS, ATTRIBUTE, CONTINUATION = 1, 2, 3, 6, 8, 11, 12, 16
MAX_MESSAGES = 4096  # of one object

Message = tuple[int, int, bytes]  # type, flags, content


def root_address(read: Source) -> int:
    """The address of the root group."""
    fields = Fields(check_block(read(0, 48)))
    if fields.take(8) != SIGNATURE or fields.number(1) not in (2, 3) or fields.take(2) != b"\x08\x08":
        raise ValueError("expected an HDF5 file of format 1.10 that starts with its signature")
    fields.take(1)
    base, _, _, root = (fields.number(8) for _ in range(4))
    if base:
        raise ValueError("expected an HDF5 file that starts at its first byte")
    return root


def read_object(read: Source, address: int) -> list[Message]:
    """All messages of the object header at an address."""
    start = read(address, 6)
    if start[:5] != b"OHDR\x02":
        raise ValueError("expected an object header of version 2")
    flags = start[5]
    before = 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
    width = 1 << (flags & 3)
    size = int.from_bytes(read(address + before, width), "little")
    block = check_block(read(address, before + width + size + 4))
    todo, found = [block[before + width :]], []
    while todo:
        for message in _messages(todo.pop(), ordered=bool(flags & 4)):
            found.append(message)
            if len(found) > MAX_MESSAGES:
                raise ValueError("an object header has no end")
            if message[0] == CONTINUATION:
                todo.append(_continuation(read, message[2]))
    return found


def _continuation(read: Source, content: bytes) -> bytes:
    fields = Fields(content)
    return check_block(read(fields.number(8), fields.number(8)), b"OCHK")


def _messages(content: bytes, ordered: bool) -> Iterator[Message]:
    fields = Fields(content)
    while fields.left >= 4 + 2 * ordered:
        kind, size, flags = fields.number(1), fields.number(2), fields.number(1)
        fields.take(2 * ordered)
        yield kind, flags, fields.take(size)


def only_message(messages: list[Message], kind: int) -> Fields:
    """The only message of a kind. Raises ValueError if there are several, or if it is stored elsewhere (flag 2)."""
    match [(flags, content) for each, flags, content in messages if each == kind]:
        case [(flags, content)] if not flags & 2:
            return Fields(content)
    raise ValueError("expected one description of each array, within its own header")


def read_attribute(content: bytes) -> tuple[str, bytes | None]:
    """Name and value; the value is None if it is not text of fixed length."""
    fields = Fields(content)
    version, flags = fields.number(1), fields.number(1)
    sizes = [fields.number(2) for _ in range(3)]
    fields.take(version == 3)
    name, kind, space = (fields.take(size) for size in sizes)
    scalar = len(space) >= 4 and space[:2] == b"\x02\x00" and space[3] == 0
    if version != 3 or flags or len(kind) < 8 or kind[0] & 15 != 3 or not scalar:
        return name.rstrip(b"\0").decode("utf-8", "replace"), None
    return name.rstrip(b"\0").decode("utf-8"), fields.take(int.from_bytes(kind[4:8], "little"))


def read_links(read: Source, group: list[Message]) -> Iterator[tuple[str, int]]:
    """Names and addresses of what a group holds."""
    for kind, _, content in group:
        if kind == LINK:
            yield _link(Fields(content))
        if kind == LINK_INFO:
            fields = Fields(content)
            _, flags = fields.number(1), fields.number(1)
            fields.take(8 * (flags & 1))
            if (heap := fields.number(8)) != NOWHERE:
                yield from _heap_links(read, heap)


def _link(fields: Fields) -> tuple[str, int]:
    _, flags = fields.number(1), fields.number(1)
    kind = fields.number(1) if flags & 8 else 0
    fields.take(8 * bool(flags & 4) + bool(flags & 0x10))
    name = fields.take(fields.number(1 << (flags & 3))).decode("utf-8")
    if kind:
        raise ValueError(f"{name}: expected an array in chunks, within this file, got a link")
    return name, fields.number(8)


def _heap_links(read: Source, address: int) -> Iterator[tuple[str, int]]:
    """The links of a large group, stored one after the other in the blocks of a heap."""
    heap = Fields(check_block(read(address, 146), b"FRHP"))
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
        fields = Fields(content[before + 4 * bool(flags & 2) :])
        while fields.left and fields.content[fields.at] == 1:  # the rest of the block is free
            yield _link(fields)


def _heap_blocks(
    read: Source, address: int, before: int, width: int, first: int, rows: int
) -> Iterator[tuple[int, int]]:
    """Addresses and sizes of the blocks of a heap: each row from the third on has blocks twice as large."""
    fields = Fields(check_block(read(address, before + 8 * width * rows + 4), b"FHIB"))
    fields.take(before - 4)
    for row in range(rows):
        for _ in range(width):
            if (block := fields.number(8)) != NOWHERE:
                yield block, first << max(0, row - 1)

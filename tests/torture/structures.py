"""Episode files whose HDF5 structures were changed, with all checksums made right again: the maker knows the format."""

import json
import random
import struct
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.helpers_data import header_bytes
from worldmodel.io.hdf5.blocks import lookup3

Block = tuple[int, int]  # from its signature to its checksum
SIGNATURES = (b"\x89HDF", b"OHDR", b"OCHK", b"FRHP", b"FHDB", b"FHIB", b"BTHD", b"BTLF", b"FAHD", b"FADB")
NUMBERS = (0, 1, 2, 3, 4, 8, 0x7F, 0x80, 0xFF, 0xFFFF, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
VALUES = (None, -1, 0, 1, 2**31, 10**18, 10**400, 0.5, "", "|u1", "<f8", "9999f8", "|O", [], [-1], [10**12], {}, True)


def blocks(content: bytes) -> list[Block]:
    """The blocks of a file that end in a checksum."""
    found = []
    for signature in SIGNATURES:
        start = -1
        while (start := content.find(signature, start + 1)) >= 0:
            ends = range(start + 8, min(len(content) - 4, start + 2000))
            found += [(start, end) for end in ends if _checksum(content, start, end) == lookup3(content[start:end])][:1]
    return found


def _checksum(content: bytes, start: int, end: int) -> int:
    return struct.unpack_from("<I", content, end)[0]


def changed(content: bytes, places: list[Block], chance: random.Random) -> bytes:
    """One to three changes within blocks; every checksum is right afterwards."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 3))):
        start, end = chance.choice(places)
        at, kind = chance.randrange(start + 4, end), chance.randrange(5)
        size = min(chance.choice((1, 2, 4, 8)), end - at)
        if kind == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            number = chance.choice((*NUMBERS, chance.randrange(len(data)), len(data)))
            data[at : at + size] = (number & (1 << 8 * size) - 1).to_bytes(size, "little")
        elif kind == 2:
            other = chance.randrange(start + 4, end - size + 1)
            data[at : at + size] = data[other : other + size]
        elif kind == 3:
            data[at : at + size] = bytes(size)
        else:
            data[at] = chance.randrange(256)
    for start, end in places:
        struct.pack_into("<I", data, end, lookup3(bytes(data[start:end])))
    return bytes(data)


def change_header(path: Path, chance: random.Random) -> None:
    """Change one value in the header of an episode, and seal it anew."""
    with h5py.File(path, "r+") as file:
        header = json.loads(header_bytes(file))
        place: Any = chance.choice([header, header["arrays"], *header["arrays"].values()])
        place[chance.choice(list(place))] = chance.choice(VALUES)
        text = json.dumps(header).encode()
        file.attrs["header"] = np.bytes_(text)
        file.attrs["sha256"] = np.bytes_(sha256(text).hexdigest())

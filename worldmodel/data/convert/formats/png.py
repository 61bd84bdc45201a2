"""Reads PNG images from anyone: other formats are refused, whatever the file's name, and so are wrong checksums."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from worldmodel.io.untrusted import FRAME_BYTES, UntrustedFileError, check_frame, errors_name, read_bytes

PNG = ["PNG"]  # the only format that Pillow may try
SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = struct.Struct(">8s8xIIBB2xB")  # signature, then width, height, bit depth, color type and interlacing
CHUNK = struct.Struct(">I4s")  # length and name of a chunk; its content and a checksum of 4 bytes follow
CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # per PNG color type; a palette becomes RGB
FILE_BYTES = 2 * FRAME_BYTES
# For each pass of an interlaced image: its first column and row, and the steps to the next ones.
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def read_png(path: Path) -> np.ndarray:
    """The image in a PNG file, as uint8 `h w` or `h w c`: grey, grey and alpha, RGB or RGBA.

    Raises:
        UntrustedFileError: not a PNG file, a damaged one (the checksum of every chunk is compared), an animation,
            more than 8 bits per channel, or an image that is too large.
    """
    content = read_bytes(path, FILE_BYTES)
    with errors_name(path):
        _check_header(path, content)
        with errors_name(f"{path}: damaged"):
            return _decoded(content)


def _check_header(path: Path, content: bytes) -> None:
    """Check format, depth and size before a decoder reads the file."""
    if len(content) < HEADER.size or not content.startswith(SIGNATURE):
        raise UntrustedFileError(f"{path}: expected a PNG image, got another format or a file cut short")
    _, width, height, depth, color, _ = HEADER.unpack_from(content)
    if depth == 16:
        raise UntrustedFileError(
            f"{path.parent}: expected uint8 images, got uint16 ({height}, {width}) in {path.name}; "
            "save it with 8 bits per channel"
        )
    check_frame(path, (height, width, CHANNELS.get(color, 4)))


def _decoded(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=PNG) as image:
        if getattr(image, "is_animated", False):
            raise ValueError("it is an animation; expected one image in each file")
        image.verify()  # compares checksums; decoding does not
    _check_rows(content)
    with Image.open(io.BytesIO(content), formats=PNG) as image:
        return np.asarray(image.convert("RGB") if image.mode in ("1", "P") else image)


def _check_rows(content: bytes) -> None:
    """Check that no row of pixels is missing; Pillow would leave it black."""
    _, width, height, depth, color, interlaced = HEADER.unpack_from(content)
    bits = depth * (1 if color == 3 else CHANNELS[color])
    passes = PASSES if interlaced else ((0, 0, 1, 1),)
    sides = [(-(-(width - x) // across), -(-(height - y) // down)) for x, y, across, down in passes]
    expected = sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sides if columns > 0 and rows > 0)
    unpacked = zlib.decompressobj().decompress(b"".join(_chunks(content, b"IDAT")), expected)
    if len(unpacked) < expected:
        raise ValueError(f"expected {expected:,} bytes of pixels, got {len(unpacked):,}")


def _chunks(content: bytes, name: bytes) -> Iterator[bytes]:
    """The content of all chunks of this name; `image.verify` has checked their sizes."""
    place = len(SIGNATURE)
    while place < len(content):
        size, found = CHUNK.unpack_from(content, place)
        if found == b"IEND":
            return
        place += CHUNK.size
        if found == name:
            yield content[place : place + size]
        place += size + 4

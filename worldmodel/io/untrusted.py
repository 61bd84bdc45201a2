"""Opens files from outside: regular files only, with a limit of their size, and errors that name the file.

A file may come from anyone. Three rules hold before a decoder sees a byte of it:

- It is a regular file. Reading a pipe could wait forever, and a device such as /dev/zero has no end.
- Neither its size nor the size of the data that it claims to hold exceeds the limit for its kind.
- Any error over its content becomes one ValueError that begins with its name.
"""

import contextlib
import errno
import io
import json
import math
import os
import stat
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

JSON_BYTES = 1 << 24  # of a JSON file
FRAME_BYTES = 1 << 26  # of one decoded frame: 4096 x 4096 pixels of four channels
EPISODE_BYTES = 1 << 32  # of all decoded frames of an episode
MAX_CHOICES = 1 << 16  # of a discrete action: each takes a column of the prior's input
WEIGHTS_BYTES = 1 << 33  # of a file of weights: two billion numbers
MIN_UNPACKED_LIMIT = 1 << 26  # a file of any size may unpack to this many
MAX_EXPANSION = 1000  # or to this many times its size


class UntrustedFileError(ValueError):
    """A file from outside that is refused; the message names the file, the problem and the remedy."""


def open_regular(path: str | Path, most: int | None = None) -> io.BufferedReader:
    """Open a regular file for reading, without waiting.

    Args:
        path: the file; a symbolic link is followed.
        most: the largest number of bytes that the file may have; None: no limit.

    Raises:
        FileNotFoundError: there is no such file.
        UntrustedFileError: it is not a regular file, or it is too large.
    """
    # Without O_NONBLOCK, opening a pipe without a writer would wait forever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except IsADirectoryError as error:  # Windows says PermissionError, which names the folder as well
        raise UntrustedFileError(f"{path}: expected a file, got a folder") from error
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP, errno.ELOOP):
            raise
        found = "a socket, a device or a circle of links"
        raise UntrustedFileError(f"{path}: expected a regular file, got {found}") from error
    try:
        _check(path, os.fstat(descriptor), most)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_regular(path: str | Path, most: int | None = None) -> int:
    """The size in bytes of a regular file, for libraries that open files by name.

    Raises: as `open_regular`.
    """
    with open_regular(path, most) as file:
        return os.fstat(file.fileno()).st_size


def read_bytes(path: str | Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Raises: as `open_regular`.
    """
    with open_regular(path, most) as file:
        content = file.read(most + 1)  # it may grow while it is read
    if len(content) > most:
        raise UntrustedFileError(_too_large(path, len(content), most))
    return content


class ByteSource:
    """The bytes of a regular file, or of its `content` in memory, by position; safe to use from several threads.

    Raises: as `open_regular`.
    """

    def __init__(self, path: str | Path, content: bytes | None = None, most: int | None = None):
        self._path, self._content, self._lock = path, content, threading.Lock()
        if content is not None:
            self.size = len(content)
            return
        with open_regular(path, most) as file:
            self._descriptor = os.dup(file.fileno())
        self._closed = weakref.finalize(self, os.close, self._descriptor)
        self.size = os.fstat(self._descriptor).st_size

    def read(self, start: int, size: int) -> bytes:
        """Bytes `start` to `start + size - 1`. Raises UntrustedFileError if the file is shorter."""
        if start + size > self.size:
            raise UntrustedFileError(f"{self._path}: {size:,} bytes at {start:,} lie outside of the file")
        if self._content is not None:
            return self._content[start : start + size]
        with self._lock:
            os.lseek(self._descriptor, start, os.SEEK_SET)
            found = os.read(self._descriptor, size)
        if len(found) < size:  # it was cut since it was opened
            raise UntrustedFileError(f"{self._path}: cut short while it was read")
        return found

    def close(self) -> None:
        """Close the file; it is also closed when this object is collected as garbage."""
        if self._content is None:
            self._closed()


def read_json(path: str | Path, most: int = JSON_BYTES) -> dict[str, Any]:
    """The JSON object in a file. NaN and Infinity are refused, because JSON does not have them.

    Raises:
        UntrustedFileError: the file is missing, not a regular file, too large, or holds no JSON object.
    """
    try:
        text = read_bytes(path, most).decode("utf-8")
        values = json.loads(text, parse_constant=_no_constants, parse_float=_finite)
    except FileNotFoundError as error:
        raise UntrustedFileError(f"{path}: missing") from error
    except UntrustedFileError:
        raise
    except (ValueError, RecursionError) as error:  # not JSON, not text, or nested too deep
        raise UntrustedFileError(f"{path}: damaged, not JSON ({error})") from error
    if not isinstance(values, dict):
        raise UntrustedFileError(f"{path}: expected a JSON object, got {type(values).__name__}")
    return values


def check_frame(what: str | Path, shape: Sequence[int], itemsize: int = 1) -> None:
    """Refuse a frame that decodes to more than `FRAME_BYTES`; `shape` is (h, w) or (h, w, c).

    Raises:
        UntrustedFileError: names `what`, the size and the limit.
    """
    if (size := math.prod(map(int, shape)) * itemsize) > FRAME_BYTES:
        raise UntrustedFileError(
            f"{what}: a frame of {tuple(shape)} takes {size:,} bytes; at most {FRAME_BYTES:,} are allowed. "
            "Make the frames smaller"
        )


def check_episode(what: str | Path, frames: int, frame_bytes: int) -> None:
    """Refuse an episode that decodes to more than `EPISODE_BYTES`.

    Raises:
        UntrustedFileError: names `what`, the size and the limit.
    """
    if (size := int(frames) * int(frame_bytes)) > EPISODE_BYTES:
        raise UntrustedFileError(
            f"{what}: {frames:,} frames take {size:,} bytes; at most {EPISODE_BYTES:,} are allowed for an "
            "episode. Cut it into shorter episodes, or make its frames smaller"
        )


def check_unpacked(what: str | Path, stored: int, unpacked: int) -> None:
    """Refuse a file of `stored` bytes that unpacks to too much.

    The limit is `MIN_UNPACKED_LIMIT` bytes, or `MAX_EXPANSION` times the stored bytes if that is more.

    Raises:
        UntrustedFileError: names `what`, both sizes and the limit.
    """
    if unpacked > max(MIN_UNPACKED_LIMIT, MAX_EXPANSION * stored):
        raise UntrustedFileError(
            f"{what}: {stored:,} stored bytes claim to hold {unpacked:,}; at most {MIN_UNPACKED_LIMIT:,} are allowed, "
            f"or {MAX_EXPANSION:,} times the stored ones. Do not trust where it comes from"
        )


def check_choices(what: str | Path, choices: int) -> None:
    """Refuse a discrete action with more than `MAX_CHOICES` choices.

    Raises:
        UntrustedFileError: names `what`, the number and the limit.
    """
    if int(choices) > MAX_CHOICES:
        raise UntrustedFileError(
            f"{what}: an action with {int(choices):,} choices; at most {MAX_CHOICES:,} are allowed. "
            "Number the choices from 0 without gaps, or give the actions as real numbers"
        )


@contextlib.contextmanager
def errors_name(what: str | Path) -> Iterator[None]:
    """Turn any error over the content of a file into one UntrustedFileError that names the file."""
    try:
        yield
    except UntrustedFileError as error:
        if str(error).startswith(str(what)):
            raise
        raise UntrustedFileError(f"{what}: {error}") from error
    except Exception as error:
        plain = isinstance(error, ValueError | TypeError)
        text = str(error) if plain else f"{type(error).__name__}: {error}"
        raise UntrustedFileError(text if text.startswith(str(what)) else f"{what}: {text}") from error


def _check(path: str | Path, status: os.stat_result, most: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UntrustedFileError(f"{path}: expected a regular file, got {_kind(status.st_mode)}")
    if most is not None and status.st_size > most:
        raise UntrustedFileError(_too_large(path, status.st_size, most))


def _too_large(path: str | Path, size: int, most: int) -> str:
    return f"{path}: {size:,} bytes, expected at most {most:,}"


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")


def _no_constants(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    """A finite number in JSON. Raises ValueError for 1e999, which Python reads as infinity."""
    if math.isinf(value := float(text)):
        raise ValueError(f"{text} is too large a number")
    return value

"""The door for files from outside: regular files only, never more bytes than the ceiling, errors with the name."""

import os
import socket
from pathlib import Path

import pytest

from worldmodel.io.untrusted import (
    EPISODE_BYTES,
    FRAME_BYTES,
    MAX_CHOICES,
    UntrustedFileError,
    check_choices,
    check_episode,
    check_frame,
    check_regular,
    errors_name,
    read_bytes,
    read_json,
)


def special(folder: Path, kind: str) -> Path:
    """A path that is no regular file."""
    path = folder / "file"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    return path


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_special_files_are_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = special(tmp_path, kind)
    for read in (check_regular, read_json, lambda path: read_bytes(path, 10)):
        with pytest.raises(UntrustedFileError, match=f"{path}: expected a (regular )?file, got a {kind}"):
            read(path)


def test_link_to_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"{}")
    (tmp_path / "link").symlink_to("file")
    assert read_json(tmp_path / "link") == {}


def test_more_bytes_than_the_ceiling_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(11))
    assert read_bytes(path, 11) == bytes(11)
    with pytest.raises(UntrustedFileError, match=f"{path}: 11 bytes, expected at most 10"):
        read_bytes(path, 10)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": NaN}', '{"a": -Infinity}', "\xff", "[" * 100_000])
def test_what_is_no_json_object_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UntrustedFileError, match=f"^{path}: "):
        read_json(path)


def test_ceilings_are_in_the_message() -> None:
    check_frame("video", (4096, 4096, 4))
    with pytest.raises(UntrustedFileError, match=f"video: .* at most {FRAME_BYTES:,}"):
        check_frame("video", (4096, 4097, 4))
    check_episode("video", EPISODE_BYTES // 100, 100)
    with pytest.raises(UntrustedFileError, match=f"video: .* at most {EPISODE_BYTES:,}"):
        check_episode("video", EPISODE_BYTES // 100 + 1, 100)
    check_choices("table", MAX_CHOICES)
    with pytest.raises(UntrustedFileError, match=f"table: .* at most {MAX_CHOICES:,}"):
        check_choices("table", MAX_CHOICES + 1)


def test_every_error_becomes_one_that_names_the_file_once() -> None:
    for error in (ValueError("file: bad"), ValueError("bad"), KeyError("bad"), MemoryError("bad"), OSError(5, "bad")):
        with pytest.raises(UntrustedFileError, match=r"^file: (?!file).*bad") as caught, errors_name("file"):
            raise error
        assert caught.value.__cause__ is error

"""JSON objects on disk that are complete or absent, and that notice any change."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worldmodel.io.files import write_files
from worldmodel.io.untrusted import UntrustedFileError, read_json

DIGEST_LENGTH = 64  # characters of a sha256


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write indented JSON, flushed to disk; a kill leaves the old file.

    Raises:
        ValueError: a number is infinite or NaN, which JSON does not have.
        TypeError: a value that JSON does not have.
    """
    write_files({path: [json_bytes(path, values)]})


def write_checked_json(path: Path, values: Mapping[str, Any]) -> None:
    """`write_json` with the sha256 of the values added, by which `read_checked_json` notices any change."""
    write_json(path, with_digest(values))


def read_checked_json(path: Path) -> dict[str, Any]:
    """The values that `write_checked_json` wrote; a file without the entry `sha256` is read unchecked.

    Raises:
        ValueError: the file is missing, holds no JSON object, or was changed.
    """
    values = read_json(path)
    name, last = next(reversed(values.items()), ("", None))
    renamed = name != "sha256" and isinstance(last, str) and len(last) == DIGEST_LENGTH  # a bit of the name flipped
    if renamed or ((digest := values.pop("sha256", None)) is not None and digest != _digest(values)):
        raise UntrustedFileError(f"{path}: damaged, or changed by hand; if that was meant, delete its entry sha256")
    return values


def json_bytes(path: Path, values: Mapping[str, Any]) -> bytes:
    """Indented JSON for the file at `path`. Raises: ValueError for a number that JSON does not have."""
    try:
        return (json.dumps(values, indent=2, allow_nan=False) + "\n").encode()
    except ValueError as error:
        raise ValueError(f"{path}: {error}; JSON has null for a value that is not there") from error


def with_digest(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, and their sha256 as the last entry."""
    return {**values, "sha256": _digest(values)}


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

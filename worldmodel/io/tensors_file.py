"""Tensors in safetensors files: written with a checksum, and read from anyone without running code from the file.

The size that a file claims is compared with its bytes before it is read to its end.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from worldmodel.io.files import write_atomic
from worldmodel.io.untrusted import (
    JSON_BYTES,
    WEIGHTS_BYTES,
    ByteSource,
    UntrustedFileError,
    errors_name,
    open_regular,
)

Shapes = Mapping[str, tuple[int, ...]]  # of tensors, by name


def tensors_to_bytes(path: Path, tensors: Mapping[str, Tensor]) -> tuple[bytes, str]:
    """The bytes of a safetensors file, and their sha256; `path` is for messages.

    Raises:
        ValueError: more bytes than a file of weights may have.
    """
    if (size := sum(tensor.nbytes for tensor in tensors.values())) > WEIGHTS_BYTES - JSON_BYTES:
        raise ValueError(
            f"{path}: {size:,} bytes of weights, expected at most {WEIGHTS_BYTES:,}; make the model smaller"
        )
    copies = {  # safetensors takes neither views nor two names for one memory
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    content = save(copies)
    return content, hashlib.sha256(content).hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors to a safetensors file, flushed to disk; returns the sha256 of its bytes.

    Raises:
        ValueError: more bytes than a file of weights may have.
        OSError: the disk is full or refuses.
    """
    content, digest = tensors_to_bytes(path, tensors)
    write_atomic(path, content)
    return digest


def read_tensors(path: Path, digest: str) -> dict[str, Tensor]:
    """The tensors (on the CPU) of a file whose bytes have this sha256.

    Raises:
        ValueError: the file is missing, is not a safetensors file, is too large, or has another sha256.
    """
    if not path.exists():
        raise ValueError(f"{path}: missing")
    tensor_shapes(path)  # a file that is not as large as it claims is not read to its end
    if _sha256(path) != digest:
        raise ValueError(f"{path}: damaged, or from another save than the config beside it; copy or save it again")
    return load_tensors(path)


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors (on the CPU) of a safetensors file from anyone.

    Raises:
        ValueError: it is missing, is not a safetensors file, or is too large.
    """
    tensor_shapes(path)
    with errors_name(path):
        return load_file(path)


def tensor_shapes(path: str | Path, most: int = WEIGHTS_BYTES) -> dict[str, tuple[int, ...]]:
    """The shapes that a safetensors file claims, after a check that its size is as it claims.

    Raises:
        UntrustedFileError: the file is missing, is not a regular file, is too large or is not a safetensors file.
    """
    try:
        source = ByteSource(path, most=most)
    except FileNotFoundError as error:
        raise UntrustedFileError(f"{path}: missing") from error
    with contextlib.closing(source), _safetensors_errors(path):
        length = int.from_bytes(source.read(0, 8), "little")
        if length > JSON_BYTES:
            raise ValueError(f"its header has {length:,} bytes, at most {JSON_BYTES:,} are allowed")
        header = json.loads(source.read(8, length))
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if source.size != 8 + length + end:
            raise ValueError(f"{source.size:,} bytes, expected {8 + length + end:,} by its header")
        return {name: tuple(entry["shape"]) for name, entry in header.items()}


@contextlib.contextmanager
def _safetensors_errors(path: str | Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise UntrustedFileError(f"{path}: damaged, not a safetensors file ({error})") from error


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

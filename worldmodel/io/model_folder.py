"""A model on disk: a folder with weights.safetensors and config.json. Loading runs no code from either.

config.json holds the sha256 of the weights beside the config, and its own, so a flipped bit, a half-copied folder and
two files of different saves are all refused. Who edits it deletes its entry `sha256`.

A folder may come from anyone: what it claims is held against the bytes that are there before memory is taken for it,
and before the weights are read to their end. Whatever is wrong with it is one ValueError.
"""

import contextlib
import glob
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from worldmodel.io.folders import make_folder
from worldmodel.io.untrusted import (
    JSON_BYTES,
    WEIGHTS_BYTES,
    UntrustedFileError,
    errors_name,
    open_regular,
    read_json,
    tensor_shapes,
)

M = TypeVar("M", bound=nn.Module)

WEIGHTS, CONFIG = "weights.safetensors", "config.json"
FORMAT = 1  # of config.json; raised when old folders can no longer be read
DIGEST_LENGTH = 64  # of a sha256
Shapes = Mapping[str, tuple[int, ...]]  # of tensors, by name


def save_weights(folder: str | Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a model's config (JSON-able values) and tensors into `folder`, replacing what it had.

    Both files are written aside and flushed before either takes its place: a kill leaves the old model, or, between
    the two renames, one that is refused until it is saved again.
    """
    folder = Path(folder)
    make_folder(folder)
    weights, description = _temporary_path(folder / WEIGHTS), _temporary_path(folder / CONFIG)
    try:
        digest = write_tensors(weights, tensors)
        write_checked_json(description, {"format": FORMAT, "weights": digest, "config": dict(config)})
        os.replace(weights, folder / WEIGHTS)
        os.replace(description, folder / CONFIG)
    finally:
        for leftover in (weights, description):
            leftover.unlink(missing_ok=True)
    sync(folder)


def load_weights(
    folder: str | Path, fits: Callable[[dict[str, Any], Shapes], None] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the tensors (on the CPU) that `save_weights` put into `folder`.

    fits: is called with the config and the shapes that the file of weights claims, before that is read to its end;
        raises where they do not belong together.

    Raises:
        ValueError: a file is missing, damaged, from another save than its neighbour, or of a newer format.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).exists():
            raise ValueError(f"{folder}: expected a model with {CONFIG} and {WEIGHTS}, but {name} is missing")
    config, digest = read_config(folder)
    if fits is not None:
        shapes = tensor_shapes(folder / WEIGHTS)
        with errors_name(folder):
            fits(config, shapes)
    return config, read_tensors(folder / WEIGHTS, digest)


def read_config(folder: str | Path) -> tuple[dict[str, Any], str]:
    """The config of the model in `folder`, and the sha256 of its weights, which are not looked at.

    Raises:
        ValueError: config.json is missing, damaged, or of a newer format.
    """
    path = Path(folder) / CONFIG
    description = read_checked_json(path)
    if description.get("format") != FORMAT:
        raise ValueError(
            f"{path}: expected format {FORMAT}, got {description.get('format')!r}; a newer worldmodel may read it"
        )
    match description:
        case {"format": _, "config": dict(config), "weights": str(digest), **rest} if not rest:
            return config, digest
    raise ValueError(f"{path}: damaged, expected a config and the sha256 of the weights")


def check_kind(folder: str | Path, config: Mapping[str, Any], kind: str) -> None:
    """Raises ValueError where the config that was found in `folder` is not that of a `kind` ("world", "agent", ...)."""
    if (found := config.get("kind", "something else")) != kind:
        raise ValueError(f"{folder}: expected {'an' if kind[0] in 'aeiou' else 'a'} {kind}, got {found}")


def build_module(make: Callable[[], M], tensors: Mapping[str, Tensor]) -> M:
    """The module that `make` makes, with these weights.

    It is made without memory first, so that a config which claims more than the weights hold costs nothing.

    Raises:
        ValueError: the weights are not those of such a module, or hold what is no finite number.
    """
    check_finite(tensors)
    check_shapes(make, {name: tuple(x.shape) for name, x in tensors.items()})
    module = make()
    module.load_state_dict(tensors)
    return module


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raises ValueError where a tensor holds what is no finite number."""
    if broken := sorted(name for name, x in tensors.items() if x.is_floating_point() and not x.isfinite().all()):
        raise ValueError(f"the weights are damaged: {broken[0]} holds NaN or infinity; train it again")


def check_shapes(make: Callable[[], nn.Module], found: Shapes) -> None:
    """Raises ValueError where weights of these shapes are not those of the module that `make` makes."""
    with torch.device("meta"):
        expected = {name: tuple(x.shape) for name, x in make().state_dict().items()}
    if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        name, more = wrong[0], f", and {len(wrong) - 1} more" if wrong[1:] else ""
        shapes = f"{name}: expected {expected.get(name, 'none')}, got {found.get(name, 'none')}{more}"
        raise ValueError(f"the weights do not fit config.json: {shapes}")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors to a safetensors file, flushed to disk; returns the sha256 of its bytes."""
    if (size := sum(tensor.nbytes for tensor in tensors.values())) > WEIGHTS_BYTES - JSON_BYTES:
        raise ValueError(
            f"{path}: {size:,} bytes of weights, expected at most {WEIGHTS_BYTES:,}; make the model smaller"
        )
    copies = {  # safetensors takes neither views nor two names for one memory
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    path.touch()
    mode = path.stat().st_mode  # as the umask has it; safetensors' own file is readable by its owner alone
    save_file(copies, path)
    path.chmod(mode)
    sync(path)
    return _sha256(path)


def read_tensors(path: Path, digest: str) -> dict[str, Tensor]:
    """The tensors of a file whose bytes have this sha256.

    Raises:
        ValueError: the file is missing, is no safetensors file, is too large, or its bytes are others.
    """
    if not path.exists():
        raise ValueError(f"{path}: missing")
    tensor_shapes(path)  # a file that is not as large as it claims is not read to its end
    if _sha256(path) != digest:
        raise ValueError(f"{path}: damaged, or from another save than the config beside it; copy or save it again")
    return load_tensors(path)


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors (on the CPU) of a safetensors file from outside.

    Raises:
        ValueError: it is missing, is no safetensors file, or is too large.
    """
    tensor_shapes(path)
    with errors_name(path):
        return load_file(path)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON that people can read, flushed to disk; a kill leaves the old file.

    Raises:
        ValueError: a number is infinite or none (NaN), which JSON does not have.
        TypeError: a value that JSON does not have.
    """
    try:
        text = json.dumps(values, indent=2, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; JSON has null for a value that is not there") from error
    aside = _temporary_path(path)
    try:
        aside.write_text(text + "\n", encoding="utf-8")
        sync(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_checked_json(path: Path, values: Mapping[str, Any]) -> None:
    """`write_json` with the sha256 of the values among them, by which `read_checked_json` notices any change."""
    write_json(path, {**values, "sha256": _digest(values)})


def read_checked_json(path: Path) -> dict[str, Any]:
    """The values that `write_checked_json` wrote; without their sha256, whatever is there.

    Raises:
        ValueError: the file is missing, holds no JSON object, or was changed.
    """
    values = read_json(path)
    name, last = next(reversed(values.items()), ("", None))
    renamed = name != "sha256" and isinstance(last, str) and len(last) == DIGEST_LENGTH  # the name of the seal changed
    if renamed or ((seal := values.pop("sha256", None)) is not None and seal != _digest(values)):
        raise UntrustedFileError(f"{path}: damaged, or changed by hand; if that was meant, delete its entry sha256")
    return values


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk; where folders cannot be (Windows), do nothing."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _temporary_path(path: Path) -> Path:
    """Where a file is written before it takes its place; what killed writers left there is deleted."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        writer = left.name.split(".")[-2]
        if writer.isdecimal() and not _is_running(int(writer)):
            left.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""A model on disk: a folder with weights.safetensors and config.json. Loading runs no code from either.

config.json holds the sha256 of the weights and its own, so a flipped bit, a half-copied folder and two files of
different saves are all refused. After editing config.json by hand, delete its `sha256` entry.

A folder may come from anyone: its claims are compared with its bytes before memory is allocated for them and before
the weights are read to their end. Whatever is wrong with a folder is one ValueError.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from worldmodel.io.files import write_files
from worldmodel.io.folders import make_folder, maker
from worldmodel.io.json_files import json_bytes, read_checked_json, with_digest
from worldmodel.io.tensors_file import Shapes, read_tensors, tensor_shapes, tensors_to_bytes
from worldmodel.io.untrusted import errors_name

M = TypeVar("M", bound=nn.Module)

WEIGHTS, CONFIG = "weights.safetensors", "config.json"
FORMAT = 1  # of config.json; raised when old folders can no longer be read


def save_weights(folder: str | Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a model's config (JSON-able values) and tensors into `folder`, replacing the model that it had.

    Both files are complete on the disk before either takes its place. A kill leaves the old model, or, between the
    two renames, one that is refused until it is saved again.
    """
    folder = Path(folder)
    make_folder(folder)
    weights, digest = tensors_to_bytes(folder / WEIGHTS, tensors)
    description = with_digest({"format": FORMAT, "weights": digest, "config": dict(config)})
    content = json_bytes(folder / CONFIG, description)
    write_files({folder / WEIGHTS: [weights], folder / CONFIG: [content]})


def load_weights(
    folder: str | Path, fits: Callable[[dict[str, Any], Shapes], None] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the tensors (on the CPU) that `save_weights` put into `folder`.

    fits: is called with the config and the shapes that the file of weights claims, before that file is read to its
        end; raises if they do not belong together.

    Raises:
        ValueError: a file is missing, damaged, of another save than the other file, or of a newer format.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).exists():
            remedy = f"; {command} makes it" if (command := maker(folder)) else ""
            raise ValueError(f"{folder}: expected a model with {CONFIG} and {WEIGHTS}, but {name} is missing{remedy}")
    config, digest = read_config(folder)
    if fits is not None:
        shapes = tensor_shapes(folder / WEIGHTS)
        with errors_name(folder):
            fits(config, shapes)
    return config, read_tensors(folder / WEIGHTS, digest)


def read_config(folder: str | Path) -> tuple[dict[str, Any], str]:
    """The config of the model in `folder`, and the sha256 that its weights should have; does not read the weights.

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
    """Raises ValueError if the config found in `folder` is not of this `kind` ("world", "agent", ...)."""
    if (found := config.get("kind", "something else")) != kind:
        raise ValueError(f"{folder}: expected {'an' if kind[0] in 'aeiou' else 'a'} {kind}, got {found}")


def build_module(make: Callable[[], M], tensors: Mapping[str, Tensor]) -> M:
    """The module that `make` makes, with these weights.

    It is made without memory first: a config that claims more than the weights hold costs nothing.

    Raises:
        ValueError: the weights are not those of such a module, or hold NaN or infinity.
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
    """Raises ValueError if weights of these shapes are not those of the module that `make` makes."""
    with torch.device("meta"):
        expected = {name: tuple(x.shape) for name, x in make().state_dict().items()}
    if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        name, more = wrong[0], f", and {len(wrong) - 1} more" if wrong[1:] else ""
        shapes = f"{name}: expected {expected.get(name, 'none')}, got {found.get(name, 'none')}{more}"
        raise ValueError(f"the weights do not fit config.json: {shapes}")

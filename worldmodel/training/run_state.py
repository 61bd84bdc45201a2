"""The state of a training run on disk, to resume from: `<folder>/checkpoints/<step>/`, no pickle.

Each checkpoint is one folder of safetensors files and a progress.json with their sha256, written aside and
renamed whole. The last two are kept, so that one damaged checkpoint costs a few steps and never the run.
"""

import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from worldmodel.io.folders import make_folder, sync
from worldmodel.io.json_files import read_checked_json, write_checked_json
from worldmodel.io.tensors_file import read_tensors, write_tensors

KEPT = 2  # checkpoints


@dataclass
class Checkpoint:
    """What was saved after `step` steps: groups of named tensors, and any JSON-able progress."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    progress: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint of the run in `folder`, drop all but the last two, and return where it is."""
    checkpoints = folder / "checkpoints"
    final = checkpoints / f"{checkpoint.step:08d}"
    aside = checkpoints / f".{final.name}.tmp"
    for left in checkpoints.glob(".*.tmp"):  # by a save that was killed, maybe at a step that no other save is at
        shutil.rmtree(left)
    make_folder(aside)
    files = {name: write_tensors(aside / f"{name}.safetensors", ts) for name, ts in checkpoint.tensors.items()}
    description = {"step": checkpoint.step, "files": files, "progress": checkpoint.progress}
    write_checked_json(aside / "progress.json", description)
    sync(aside)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(aside, final)
    sync(checkpoints)
    for old in _saved(folder)[:-KEPT]:
        shutil.rmtree(old)
    return final


def latest(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint of the run in `folder`; None where none was ever saved.

    A damaged one is passed over with a warning as long as an older one is whole.

    Raises:
        ValueError: there are checkpoints, and every one of them is damaged.
    """
    problems: list[str] = []
    for saved in reversed(_saved(folder)):
        try:
            checkpoint = _read(saved)
        except ValueError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            warnings.warn(f"passing over a damaged checkpoint: {problem}", RuntimeWarning, stacklevel=2)
        return checkpoint
    if problems:
        raise ValueError(
            f"no checkpoint in {folder / 'checkpoints'} can be read: {'; '.join(problems)}. "
            "Delete that folder to start again"
        )
    return None


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer as flat tensors, `<parameter index>.<name>`.

    Learning rates and the like are not in it: they are functions of the step and the config.

    Raises:
        TypeError: the optimizer keeps something other than tensors.
    """
    tensors = {}
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if not isinstance(value, Tensor):
                raise TypeError(f"{type(optimizer).__name__} keeps {name}: {type(value).__name__}, expected a tensor")
            tensors[f"{index}.{name}"] = value
    return tensors


def load_optimizer_tensors(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimizer over the same parameters the state that `optimizer_tensors` took from another."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = _copy(value, parameters[int(index)])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _copy(value: Tensor, parameter: Tensor) -> Tensor:
    """A copy that lies in memory as its parameter does (channels last): fused kernels walk both in memory order."""
    if value.shape != parameter.shape:
        return value.clone()
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _saved(folder: Path) -> list[Path]:
    """Folders of checkpoints, oldest first."""
    return sorted(path for path in (folder / "checkpoints").glob("*") if path.name.isdigit() and path.is_dir())


def _read(saved: Path) -> Checkpoint:
    match description := read_checked_json(saved / "progress.json"):
        case {"step": int(step), "files": dict(files), "progress": dict(progress), **rest} if not rest:
            if wrong := [name for name in files if not name.isidentifier()]:  # "../" leads out of the folder
                raise ValueError(f"{saved / 'progress.json'}: expected plain names of files, got {wrong[0]!r}")
            tensors = {name: read_tensors(saved / f"{name}.safetensors", digest) for name, digest in files.items()}
            return Checkpoint(step, tensors, progress)
    raise ValueError(f"{saved / 'progress.json'}: expected a step, files and progress, got {list(description)}")

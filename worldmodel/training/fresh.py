"""Start a training anew: what a folder holds of another one is moved aside, and nothing is deleted."""

import itertools
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worldmodel.io.files import is_empty
from worldmodel.io.folders import make_folder
from worldmodel.training.fit import on_rank_zero
from worldmodel.training.optim import FitConfig
from worldmodel.training.run_signature import refuse_other_run, run_signature_of
from worldmodel.training.run_state import latest


def move_other_run(
    folder: Path, config: FitConfig, signature: Mapping[str, Any], minutes: float | None, *others: Path
) -> None:
    """Move a training in `folder` that `fit` would refuse to NAME.old-1, or to the next number that is free.

    A training that `fit` continues stays, so the same call continues what it began. The folders `others`, which the
    training made, are moved too. The caller holds the folder's lock (`sole_training`).

    Raises: OSError if a folder cannot be renamed, as a mount point cannot.
    """
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    steps = config.steps if minutes is None else sys.maxsize  # with minutes, the training that is there says how many

    def move() -> None:
        if _is_other_run(folder, run_signature_of(config, signature, ranks), steps):
            moved = {each: aside(each) for each in (folder, *others) if not is_empty(each)}
            print("fresh: " + ", ".join(f"{old} is kept as {new}" for old, new in moved.items()))
            make_folder(folder)

    on_rank_zero(move, config)


def aside(folder: Path) -> Path:
    """Rename a folder to NAME.old-1, or to the next number that is free; returns its new path."""
    paths = (folder.with_name(f"{folder.name}.old-{number}") for number in itertools.count(1))
    new = next(path for path in paths if not path.exists())
    folder.rename(new)
    return new


def _is_other_run(folder: Path, run_signature: Mapping[str, Any], steps: int) -> bool:
    try:
        if (found := latest(folder)) is not None:
            refuse_other_run(found, run_signature, steps, folder)
    except ValueError:  # another run, or one that is damaged
        return True
    return False

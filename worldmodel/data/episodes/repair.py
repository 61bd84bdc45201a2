"""Finding damaged episodes in a store, and moving them out of the way."""

import itertools
import os
from pathlib import Path
from typing import Any

import joblib

from worldmodel.data.episodes.hdf5 import EpisodeError
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.files import remove_partial_folders
from worldmodel.io.folders import make_folder
from worldmodel.io.lock import writer_lock
from worldmodel.io.progress import progress

QUARANTINE = "quarantine"  # folder for damaged files, inside the folder of episodes


def find_damaged(store: EpisodeStore, workers: int = 1, show: bool = False) -> dict[int, str]:
    """The fault of each damaged episode; reads every byte of the dataset.

    With 2 or more `workers`, that many processes read; with 0 or 1, this process reads. `show` draws a progress bar.
    """
    indices = store.indices
    options: dict[str, Any] = {"return_as": "generator_unordered"}
    pool: Any = joblib.Parallel(max(1, min(workers, len(indices))), **options)
    faults = pool(joblib.delayed(_fault)(store, index) for index in indices)
    checked = progress(faults, "verify", total=len(indices), unit="episode", shown=show)
    return dict(sorted((index, fault) for index, fault in checked if fault))


def quarantine_damaged(store: EpisodeStore, workers: int = 1, show: bool = False) -> dict[str, Path]:
    """Move all damaged episodes into `quarantine/`; returns each fault with the new path of the file.

    Raises:
        FolderInUse: another process writes there.
    """
    with writer_lock(store.folder, "repair"):
        store.remove_partial()
        remove_partial_folders(store.folder)
        faults = find_damaged(store, workers, show)
        return {fault: quarantine(store, index) for index, fault in faults.items()}


def quarantine(store: EpisodeStore, index: int) -> Path:
    """Move an episode's file into `quarantine/`, under an unused name; returns its new path.

    The episode is then missing from the store, so `collect` collects it again. Files in quarantine are never read
    or deleted.
    """
    path, folder = store.path(index), store.folder / QUARANTINE
    make_folder(folder)
    names = itertools.chain([path.name], (f"{path.name}.{number}" for number in itertools.count(1)))
    free = next(folder / name for name in names if not (folder / name).exists())
    os.rename(path, free)
    store.clear_cache()
    return free


def _fault(store: EpisodeStore, index: int) -> tuple[int, str]:
    try:
        store.verify(index)
    except EpisodeError as error:
        return index, str(error)
    return index, ""

"""Which settings a folder of episodes has: given once, exclusively, and again only where they made nothing."""

import os
import secrets
from pathlib import Path

from worldmodel.data.episodes.dataset_info import FILE as INFO_FILE
from worldmodel.data.episodes.dataset_info import DatasetInfo, differences
from worldmodel.io.files import PARTIAL, is_empty
from worldmodel.io.model_folder import write_sealed


def is_unused(folder: Path) -> bool:
    """Whether a new dataset may take the place of `folder`: nothing is there, or settings that made no episode."""
    if is_empty(folder):
        return True
    return _holds_settings_alone(folder)


def _holds_settings_alone(folder: Path) -> bool:
    names = {name for name in os.listdir(folder) if not name.startswith(".")} if folder.is_dir() else set()
    if names != {INFO_FILE}:
        return False
    try:
        DatasetInfo.load(folder)
    except ValueError:  # somebody else's file of this name
        return False
    return True


def check_unchanged(folder: Path, info: DatasetInfo) -> None:
    """Raises ValueError where the folder has other settings than these; names every one that differs."""
    _check_same(folder, DatasetInfo.load(folder), info)


def claim(folder: Path, info: DatasetInfo, occupied: bool) -> None:
    """Give `folder` these settings, unless it holds episodes of others; only for the holder of its lock.

    Args:
        folder: it exists.
        info: the settings.
        occupied: whether there are episodes in it.

    Raises:
        ValueError: the folder has other settings, or episodes and no settings.
    """
    if _holds_settings_alone(folder):
        (folder / INFO_FILE).unlink()
    if not (folder / INFO_FILE).exists():
        if occupied:
            raise ValueError(f"{folder} holds episodes but no {INFO_FILE}: put it back, or name another run=")
        _save_new(folder, info)
    check_unchanged(folder, info)


def _save_new(folder: Path, info: DatasetInfo) -> None:
    """Write `dataset.json` where there is none: whole, and never over that of another process."""
    aside = folder / f".{INFO_FILE}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL}"
    try:
        write_sealed(aside, info.to_json())
        os.link(aside, folder / INFO_FILE)
    except FileExistsError:
        pass
    except OSError:  # a disk without links, or a full one
        os.replace(aside, folder / INFO_FILE)
    finally:
        aside.unlink(missing_ok=True)


def _check_same(folder: Path, old: DatasetInfo, new: DatasetInfo) -> None:
    if lines := differences(old.to_json(), new.to_json()):
        raise ValueError(
            f"{folder} holds episodes of other settings ({'; '.join(lines)}); "
            "name another run= for the new ones, or give the settings that it was begun with"
        )

"""The settings of a folder of episodes: one process sets them, and they change only while the folder has no episode."""

import os
import secrets
from pathlib import Path

from worldmodel.data.episodes.dataset_info import FILE as INFO_FILE
from worldmodel.data.episodes.dataset_info import DatasetInfo, differences
from worldmodel.io.files import PARTIAL, is_empty
from worldmodel.io.json_files import write_checked_json


def is_unused(folder: Path) -> bool:
    """Whether a new dataset may replace `folder`: it is missing, empty, or holds settings without an episode."""
    return is_empty(folder) or _holds_settings_alone(folder)


def _holds_settings_alone(folder: Path) -> bool:
    names = {name for name in os.listdir(folder) if not name.startswith(".")} if folder.is_dir() else set()
    if names != {INFO_FILE}:
        return False
    try:
        DatasetInfo.load(folder)
    except ValueError:  # a file of this name that is not ours
        return False
    return True


def check_unchanged(folder: Path, info: DatasetInfo) -> None:
    """Raises ValueError if the folder has other settings; the message names each difference."""
    if lines := differences(DatasetInfo.load(folder).to_json(), info.to_json()):
        raise ValueError(
            f"{folder} holds episodes of other settings ({'; '.join(lines)}); "
            "name another run= for the new episodes, or repeat the settings of the first command"
        )


def claim(folder: Path, info: DatasetInfo, occupied: bool) -> None:
    """Give `folder` these settings, unless it holds episodes of other settings. The caller holds the folder's lock.

    Args:
        folder: an existing folder.
        info: the settings.
        occupied: whether the folder holds episodes.

    Raises:
        ValueError: the folder has other settings, or episodes without settings.
    """
    if _holds_settings_alone(folder):
        (folder / INFO_FILE).unlink()
    if not (folder / INFO_FILE).exists():
        if occupied:
            raise ValueError(f"{folder} holds episodes but no {INFO_FILE}: put the file back, or name another run=")
        _save_new(folder, info)
    check_unchanged(folder, info)


def _save_new(folder: Path, info: DatasetInfo) -> None:
    """Write a new `dataset.json` atomically; a file that another process wrote meanwhile stays."""
    aside = folder / f".{INFO_FILE}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL}"
    try:
        write_checked_json(aside, info.to_json())
        os.link(aside, folder / INFO_FILE)
    except FileExistsError:
        pass
    except OSError:  # a disk without links, or a full one
        os.replace(aside, folder / INFO_FILE)
    finally:
        aside.unlink(missing_ok=True)

"""Origins: the settings of episodes that differ from the dataset's own `dataset.json`.

A collection may start with the episodes of an earlier run. A merged dataset has episodes of several runs. The file
`origins.json` beside the episodes lists their settings. A dataset without this file has no such episodes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.io.json_files import read_checked_json, write_checked_json

SCHEMA = 1
FILE = "origins.json"
SETTINGS = ("env", "seed", "policy", "hold", "max_steps")  # one model may learn from episodes that differ in these

Origins = dict[int, dict[str, Any]]  # episode -> its settings


def settings(info: DatasetInfo) -> dict[str, Any]:
    """The values of `SETTINGS` in a dataset, as plain values."""
    values = info.to_json()
    return {name: values[name] for name in SETTINGS}


def read_origins(folder: Path) -> Origins:
    """The episodes of `folder` that have settings of their own.

    Raises:
        ValueError: `origins.json` is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    values = read_checked_json(path)
    try:
        if values["schema"] != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA}, got {values['schema']}: another version wrote it")
        return {int(index): dict(group["settings"]) for group in values["origins"] for index in group["episodes"]}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: damaged or not readable by this version: {error}") from error


def write_origins(folder: Path, origins: Mapping[int, Mapping[str, Any]]) -> None:
    """Replace the stored origins; an empty mapping deletes the file."""
    if not origins:
        (folder / FILE).unlink(missing_ok=True)
        return
    groups: list[dict[str, Any]] = []
    for index in sorted(origins):
        group = next((each for each in groups if each["settings"] == origins[index]), None)
        if group is None:
            groups.append(group := {"settings": dict(origins[index]), "episodes": []})
        group["episodes"].append(index)
    write_checked_json(folder / FILE, {"schema": SCHEMA, "origins": groups})

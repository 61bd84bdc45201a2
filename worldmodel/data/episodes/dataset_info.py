"""What all episodes of one dataset have in common, kept beside them as `dataset.json`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from gymnasium import Space

from worldmodel.io.config import typed
from worldmodel.io.model_folder import read_sealed, write_sealed
from worldmodel.io.untrusted import check_frame
from worldmodel.nn.actions import space_from_json, space_to_json

SCHEMA = 1
FILE = "dataset.json"


@dataclass(frozen=True)
class DatasetInfo:
    """Everything that decides what an episode holds, besides its index.

    `action_names` has one name per discrete choice, or is empty; `frame_shape` is (h, w, c); `env` the
    settings of the environment as plain values; `frame_skip` how many of the game's own ticks one step lasts;
    `hold` the mean number of steps that the "sticky" policy keeps an action; `max_steps` where
    episodes are cut (None: never).
    """

    action_space: Space
    frame_shape: tuple[int, int, int]
    seed: int
    policy: str = "random"
    hold: float = 8.0
    max_steps: int | None = None
    env: Mapping[str, Any] = field(default_factory=dict)
    action_names: tuple[str, ...] = ()
    info_keys: tuple[str, ...] = ()
    frame_skip: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` is its inverse.

        Raises:
            TypeError: an action space or an `env` value that JSON cannot hold.
            ValueError: frames or actions beyond the ceilings of `worldmodel.io.untrusted`.
        """
        check_frame("frame_shape", self.frame_shape)
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values["action_space"] = space_to_json(self.action_space)
        # There and back, so that what is compared is what a reader of the file will see.
        return json.loads(json.dumps({"schema": SCHEMA, **values}, allow_nan=False))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "DatasetInfo":
        """Raises ValueError for another schema version, or for fields that are missing or unknown."""
        values = dict(values)
        if (schema := values.pop("schema", None)) != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA}, got {schema}: another version of this software wrote it")
        if set(values) != (names := {each.name for each in fields(cls)}):
            raise ValueError(f"missing or unknown fields: {sorted(set(values) ^ names)}")
        info = typed(cls, {**values, "action_space": space_from_json(values["action_space"])})
        if min(info.frame_shape) < 1:
            raise ValueError(f"frame_shape: expected numbers of 1 or more, got {info.frame_shape}")
        check_frame("frame_shape", info.frame_shape)
        return info

    def save(self, folder: Path) -> None:
        """Writes `dataset.json`, whole or not at all."""
        write_sealed(folder / FILE, self.to_json())

    @classmethod
    def load(cls, folder: Path) -> "DatasetInfo":
        """Raises ValueError where there is no readable `dataset.json`, naming it and what is wrong."""
        path = folder / FILE
        if not path.exists():
            raise ValueError(f"{path} is missing: {folder} is no dataset; run scripts/collect.py to make one")
        try:
            return cls.from_json(read_sealed(path))
        except (ValueError, TypeError) as error:
            problem = str(error).removeprefix(f"{path}: ")
            raise ValueError(f"{path}: damaged or not readable by this version: {problem}") from error


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Where two JSON values differ, as "path: old -> new" lines; mappings are followed inwards."""
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = {key: (old.get(key, "(none)"), new.get(key, "(none)")) for key in [*old, *(new.keys() - old.keys())]}
        return [line for key, pair in pairs.items() for line in differences(*pair, f"{name}.{key}".lstrip("."))]
    return [] if old == new else [f"{name}: {old!r} -> {new!r}"]

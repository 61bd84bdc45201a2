"""Settings that all episodes of one dataset share, stored beside them in `dataset.json`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from worldmodel.data.episodes.episode import Episode, EpisodeSignature
from worldmodel.io.config import from_mapping
from worldmodel.io.folders import maker
from worldmodel.io.json_files import read_checked_json, write_checked_json
from worldmodel.io.untrusted import check_frame
from worldmodel.nn.actions import space_from_json, space_to_json

SCHEMA = 1
FILE = "dataset.json"
IMPORTED = "imported"  # not a policy of `worldmodel collect`, which therefore adds no episodes to imported ones
# One model needs the same values of these fields in all its data. Datasets that differ here are never merged.
MODEL_FIELDS = ("action_space", "frame_shape", "action_names", "info_keys", "frame_skip")


@dataclass(frozen=True)
class DatasetInfo:
    """Every setting that decides the content of an episode, except the episode's index.

    `action_names` has one name for each discrete choice, or for each number of an action of another space, or is
    empty. `frame_shape` is (h, w, c). `env` holds the settings of the environment as plain values. `frame_skip` is the
    number of game ticks in one step. `hold` is the mean number of steps that the "sticky" policy keeps an action.
    `max_steps` is the longest episode (None: no limit).
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

    @property
    def signature(self) -> EpisodeSignature:
        """The signature that every episode of the dataset has."""
        space = self.action_space
        shapes = tuple(self.frame_shape), tuple(space.shape or ())
        return EpisodeSignature(*shapes, np.dtype(space.dtype).str, tuple(sorted(self.info_keys)))

    def check(self, episode: Episode) -> None:
        """Raises ValueError for an episode whose signature differs from the dataset's."""
        if episode.signature != self.signature:
            raise ValueError(
                f"episode {episode.index}: expected {self.signature}, as {FILE} says, got {episode.signature}"
            )

    def check_values(self, what: str | Path, actions: np.ndarray, rewards: np.ndarray) -> None:
        """Refuse rewards that are not finite and actions outside the space. Infos may be NaN or infinite.

        Raises:
            ValueError: names `what`, the step and the value.
        """
        if (wrong := ~np.isfinite(rewards)).any():
            step = int(wrong.argmax())
            raise ValueError(f"{what}, step {step}: reward {rewards[step]}: expected a finite number")
        if (wrong := _outside(self.action_space, actions)).any():
            step = int(wrong.argmax())
            found = actions[step].tolist()
            raise ValueError(f"{what}, step {step}: action {found}: expected a finite one in {self.action_space}")

    def disagreements(self, other: "DatasetInfo", names: Sequence[str] = MODEL_FIELDS) -> list[str]:
        """The differences from `other` in these fields, one line each: "field: mine -> other's"."""
        mine, theirs = self.to_json(), other.to_json()
        return [line for name in names for line in differences(mine[name], theirs[name], name)]

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` is the inverse.

        Raises:
            TypeError: an action space or an `env` value that JSON cannot hold.
            ValueError: frames or actions beyond the ceilings of `worldmodel.io.untrusted`.
        """
        check_frame("frame_shape", self.frame_shape)
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values["action_space"] = space_to_json(self.action_space)
        # Dumped and loaded again, so that comparisons see the values that a reader of the file gets.
        return json.loads(json.dumps({"schema": SCHEMA, **values}, allow_nan=False))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "DatasetInfo":
        """Raises ValueError for another schema version, or for fields that are missing or unknown."""
        values = dict(values)
        if (schema := values.pop("schema", None)) != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA}, got {schema}: another version of this software wrote it")
        if set(values) != (names := {each.name for each in fields(cls)}):
            raise ValueError(f"missing or unknown fields: {sorted(set(values) ^ names)}")
        info = from_mapping(cls, {**values, "action_space": space_from_json(values["action_space"])})
        if min(info.frame_shape) < 1:
            raise ValueError(f"frame_shape: expected numbers of 1 or more, got {info.frame_shape}")
        check_frame("frame_shape", info.frame_shape)
        return info

    def save(self, folder: Path) -> None:
        """Write `dataset.json`, atomically."""
        write_checked_json(folder / FILE, self.to_json())

    @classmethod
    def load(cls, folder: Path) -> "DatasetInfo":
        """Raises ValueError if `dataset.json` is missing or unreadable; the message names the file and the fault."""
        path = folder / FILE
        if not path.exists():
            command = maker(folder) or "`worldmodel collect`"
            raise ValueError(f"{path} is missing: {folder} is not a dataset; {command} makes one")
        try:
            return cls.from_json(read_checked_json(path))
        except (ValueError, TypeError) as error:
            problem = str(error).removeprefix(f"{path}: ")
            raise ValueError(f"{path}: damaged or not readable by this version: {problem}") from error


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """The differences of two JSON values as "path: old -> new" lines; nested mappings are compared key by key."""
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = {key: (old.get(key, "(none)"), new.get(key, "(none)")) for key in [*old, *(new.keys() - old.keys())]}
        return [line for key, pair in pairs.items() for line in differences(*pair, f"{name}.{key}".lstrip("."))]
    return [] if old == new else [f"{name}: {old!r} -> {new!r}"]


def _outside(space: Space, actions: np.ndarray) -> np.ndarray:
    """For each action, whether it lies outside the space."""
    low, high = (np.asarray(bound).reshape(-1) for bound in _bounds(space))
    flat = actions.reshape(len(actions), -1)
    inside = (flat >= low) & (flat <= high) & np.isfinite(flat)
    return np.asarray(~inside.all(axis=1))


def _bounds(space: Space) -> tuple[np.ndarray | int, np.ndarray | int]:
    """The lowest and the highest value of an action."""
    if isinstance(space, Discrete):
        return int(space.start), int(space.start + space.n - 1)
    if isinstance(space, MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    if isinstance(space, MultiBinary):
        return 0, 1
    assert isinstance(space, Box)  # `space_to_json` accepts no other kind
    return space.low, space.high

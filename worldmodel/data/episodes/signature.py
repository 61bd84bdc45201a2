"""Whether an episode, or the file of one, belongs to a dataset, and one dataset's episodes to another."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from worldmodel.data.episodes.dataset_info import FILE as INFO_FILE
from worldmodel.data.episodes.dataset_info import DatasetInfo, differences
from worldmodel.data.episodes.episode import Episode
from worldmodel.data.episodes.hdf5 import EpisodeError, EpisodeFile

# What one model can be trained on: datasets that differ in one of these never become one.
SAME = ("action_space", "frame_shape", "action_names", "info_keys", "frame_skip")


def disagreements(one: DatasetInfo, other: DatasetInfo, names: Sequence[str] = SAME) -> list[str]:
    """Where two datasets differ in these fields, as "field: one -> other" lines."""
    first, second = one.to_json(), other.to_json()
    return [line for name in names for line in differences(first[name], second[name], name)]


def expected(info: DatasetInfo) -> tuple[tuple[int, ...], tuple[int, ...], str, tuple[str, ...]]:
    """(frame shape, action shape, action dtype, infos) of every episode of a dataset."""
    space = info.action_space
    return (
        tuple(info.frame_shape),
        tuple(space.shape or ()),
        np.dtype(space.dtype).str,
        tuple(sorted(info.info_keys)),
    )


def check_fits(episode: Episode, info: DatasetInfo) -> None:
    """Raises ValueError for an episode of other shapes than those of the dataset."""
    shapes = (episode.frames.shape[1:], episode.actions.shape[1:])
    found = (*shapes, episode.actions.dtype.str, tuple(sorted(episode.infos)))
    if found != expected(info):
        raise ValueError(
            f"episode {episode.index}: expected (frame shape, action shape, action dtype, infos) "
            f"{expected(info)} as {INFO_FILE} says, got {found}"
        )


def check_values(what: str | Path, actions: np.ndarray, rewards: np.ndarray, info: DatasetInfo) -> None:
    """Refuse rewards that are not finite and actions outside the space. Infos may be NaN or infinite.

    Raises:
        ValueError: names `what`, the step and the value.
    """
    if (wrong := ~np.isfinite(rewards)).any():
        step = int(wrong.argmax())
        raise ValueError(f"{what}, step {step}: reward {rewards[step]}: expected a finite number")
    if (wrong := _outside(info.action_space, actions)).any():
        step = int(wrong.argmax())
        raise ValueError(
            f"{what}, step {step}: action {actions[step].tolist()}: expected a finite one in {info.action_space}"
        )


def _outside(space: Space, actions: np.ndarray) -> np.ndarray:
    """For each action, whether it lies outside the space."""
    low, high = (np.asarray(bound).reshape(-1) for bound in _bounds(space))
    flat = actions.reshape(len(actions), -1)
    inside = (flat >= low) & (flat <= high) & np.isfinite(flat)
    return np.asarray(~inside.all(axis=1))


def _bounds(space: Space) -> tuple[np.ndarray | int, np.ndarray | int]:
    """The least and the greatest value of an action."""
    if isinstance(space, Discrete):
        return int(space.start), int(space.start + space.n - 1)
    if isinstance(space, MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    if isinstance(space, MultiBinary):
        return 0, 1
    assert isinstance(space, Box)  # there is no other kind in a DatasetInfo that was ever saved
    return space.low, space.high


def check_belongs(file: EpisodeFile, index: int, info: DatasetInfo) -> None:
    """Raises EpisodeError for a file that holds another episode than this one, or one of another dataset."""
    header, arrays = file.header, file.header.arrays
    shapes = (tuple(arrays["frames"]["shape"][1:]), tuple(arrays["actions"]["shape"][1:]))
    found = (*shapes, arrays["actions"]["dtype"], tuple(sorted(header.infos)))
    if found != expected(info) or header.index != index:
        raise EpisodeError(
            f"{file.path}: expected episode {index} with (frame shape, action shape, action dtype, infos) "
            f"{expected(info)}, got episode {header.index} with {found}; it belongs to another dataset"
        )

"""Whether an episode, or the file of one, belongs to a dataset."""

import numpy as np

from worldmodel.data.episode import Episode
from worldmodel.data.hdf5 import EpisodeError, EpisodeFile
from worldmodel.data.info import FILE as INFO_FILE
from worldmodel.data.info import DatasetInfo


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

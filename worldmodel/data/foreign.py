"""Episodes that others made: what they have in common, and how they are taken in.

Frames come with three channels: grey is repeated, alpha is dropped. Integers are choices from 0 to the greatest one
that there is, words are choices with these names, other numbers lie between the least and the greatest, unless the
format or the user says better. Rewards and seeds that are not there are 0; infos are left out.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from jaxtyping import UInt8
from PIL import Image

from worldmodel.actions import ActionEncoder
from worldmodel.data.episode import Episode
from worldmodel.data.formats import Source
from worldmodel.data.info import DatasetInfo

POLICY = "imported"  # no policy of scripts/collect.py: it adds nothing to what others made

Given = int | tuple[float, float] | None  # of the user: how many choices, or the least and the greatest number


def infer(folder: Path, source: Source, size: tuple[int, int] | None, actions: Given) -> DatasetInfo:
    """What the episodes of `folder` have in common; `size` is the height and width that their frames will get.

    Raises:
        ValueError: no episode with a frame, or actions of a kind that no model is made for.
    """
    first = next(source.episodes(), None)
    picture = None if first is None else next(iter(first.pictures()), None)
    if picture is None:
        raise ValueError(f"{folder} holds no episode with a frame")
    height, width = size or picture.shape[:2]
    try:
        space, names = _action_space(source, actions)
        ActionEncoder(space)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{folder}: {error}") from error
    return DatasetInfo(space, (height, width, 3), seed=0, policy=POLICY, action_names=names)


def _action_space(source: Source, given: Given) -> tuple[Space, tuple[str, ...]]:
    """The space of all actions, and the names of its choices where they are words."""
    if given is None and source.action_space is not None:
        return source.action_space, ()
    every = [found.actions for found in source.episodes()]
    if len(shapes := {actions.shape[1:] for actions in every}) > 1:
        raise ValueError(f"actions: expected one shape in all episodes, got {sorted(shapes)}")
    values = np.concatenate(every)
    if values.dtype.kind == "U" and given is None:
        names = np.unique(values).tolist()
        return Discrete(len(names)), tuple(names)
    return _number_space(values, given), ()


def _number_space(values: np.ndarray, given: Given) -> Space:
    shape = values.shape[1:]
    if isinstance(given, tuple):
        return Box(*given, shape, np.float32)
    if given is None and values.dtype.kind == "f":
        numbers = values.astype(np.float32)
        return Box(numbers.min(axis=0), numbers.max(axis=0), shape, np.float32)
    if given is None and values.min() < 0:
        raise ValueError(f"actions: expected choices >= 0, got {values.min()}; numbers need actions=[least,greatest]")
    choices = values.astype(np.int64).max(axis=0) + 1 if given is None else np.full(shape, given)
    return MultiDiscrete(choices) if shape else Discrete(int(choices))


def arriving(source: Source, info: DatasetInfo) -> Iterator[Episode]:
    """The episodes, numbered as they come.

    Raises:
        ValueError: frames and actions that do not fit together, or actions outside the space; names the episode.
    """
    for index, found in enumerate(source.episodes()):
        frames = found.frames(lambda picture: _fitted(picture, info.frame_shape))
        if len(frames) != len(found.actions) + 1:
            raise ValueError(
                f"{found.name}: {len(frames)} frames need {len(frames) - 1} actions, each leading from one frame "
                f"to the next; got {len(found.actions)}"
            )
        try:
            actions = _as_actions(found.actions, info)
        except ValueError as error:
            raise ValueError(f"{found.name}: {error}; actions= says what they may be") from error
        yield Episode(frames, actions, found.rewards, found.terminated, found.truncated, found.seed, index)


def _as_actions(values: np.ndarray, info: DatasetInfo) -> np.ndarray:
    """Actions as the space has them. Raises ValueError for one outside, or a fraction where a choice should be."""
    space = info.action_space
    if info.action_names:
        values = np.searchsorted(np.array(info.action_names), values.astype(str))
    actions = values.astype(space.dtype).reshape(len(values), *(space.shape or ()))
    if not isinstance(space, Box) and (actions.ravel() != values.ravel()).any():
        raise ValueError(f"actions: expected choices of {space}, got {values[:3].tolist()}, ...")
    ActionEncoder(space).encode(actions)
    return actions


def _fitted(picture: UInt8[np.ndarray, "H W c"], shape: tuple[int, int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture in three channels and of this size, each new pixel the mean of the area that it covers."""
    height, width, _ = shape
    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).convert("RGB")
    return np.asarray(image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BOX))

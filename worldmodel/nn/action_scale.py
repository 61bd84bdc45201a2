"""The scale of a Box of actions: which axes are scaled by the data instead of their bounds, and how."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box

Scale = tuple[tuple[float, float] | None, ...]  # center and spread of each axis of a Box; None: scaled by its bounds
TRUSTED_WIDTH = 1024.0  # an axis up to this wide is scaled by its bounds, whatever the data
MIN_COVERED_SHARE = 1e-3  # of a wider axis the data must cover this share, or its bounds are ignored
PLAUSIBLE_SPREADS = 2.0  # actions up to this many spreads from the center are near the data
MAX_EXACT_INTEGER = 2.0**53  # up to here a double represents every integer


def check_scale(space: Space | None, scale: Scale | None) -> Scale | None:
    """Returns the scale unchanged.

    Raises:
        ValueError: the scale does not fit the axes of this space.
    """
    if scale is None:
        return None
    if not isinstance(space, Box) or len(scale) != _size(space):
        raise ValueError(f"action scale: expected a Box of {len(scale)} axes, got {space}")
    for _, (center, spread) in scaled_axes(scale):
        if not (np.isfinite(center) and 0 < spread < np.inf):
            raise ValueError(f"action scale: expected a finite center and a spread above 0, got {center}, {spread}")
    return scale


def scale_from_json(values: Any) -> Scale | None:
    """The scale from JSON, in which pairs are lists.

    Raises:
        TypeError, ValueError: the values are not those of a scale.
    """
    if values is None:
        return None
    return tuple(None if pair is None else (float(pair[0]), float(pair[1])) for pair in values)


def fit_action_scale(space: Space | None, actions: Iterable[np.ndarray]) -> Scale | None:
    """Fit the scale of a Box to its data: mean and standard deviation of each axis whose bounds are ignored.

    Bounds are ignored if they are infinite, or if they are wide (over 1,024) and the data covers less than a
    thousandth of the width. Returns None if no bounds are ignored, or the space is not a Box.

    actions: one array `n *space` for each episode.

    Raises:
        ValueError: an action is not finite.
    """
    if not isinstance(space, Box):
        return None
    low, high = (x.astype(np.float64).reshape(-1) for x in (space.low, space.high))
    values = np.concatenate([np.zeros((0, len(low))), *(each.reshape(len(each), len(low)) for each in actions)])
    if not np.isfinite(values).all():
        raise ValueError("actions: expected finite numbers in all episodes; clip them in the environment")
    scale = tuple(_center_and_spread(*axis) for axis in zip(low, high, values.T, strict=True))
    return scale if scaled_axes(scale) else None


def plausible_actions(space: Space, scale: Scale | None) -> Space:
    """The actions that a planner or agent may try: the space, or a Box narrowed to the data on the axes of its scale.

    If the space is a chunk of several actions, the scale applies to each of them.

    Raises:
        ValueError: the scale does not fit the space.
    """
    if scale is None or not isinstance(space, Box):
        check_scale(space, scale)
        return space
    if not scale or _size(space) % len(scale):
        raise ValueError(f"action scale: expected one of {space}, got {len(scale)} axes")
    low, high = (x.astype(np.float64).reshape(-1) for x in (space.low, space.high))
    for axis, (center, spread) in scaled_axes(scale * (len(low) // len(scale))):
        low[axis] = max(low[axis], center - PLAUSIBLE_SPREADS * spread)
        high[axis] = min(high[axis], center + PLAUSIBLE_SPREADS * spread)
    low, high = (clip_to_space(each.reshape(space.shape), space) for each in (low, high))
    return Box(low, high, space.shape, space.dtype.type)


def clip_to_space(values: np.ndarray, space: Box) -> np.ndarray:
    """The nearest actions of a Box to these numbers, `... *space`: within its bounds, rounded if it holds integers,
    and of its dtype."""
    low, high = (x.astype(np.float64) for x in (space.low, space.high))
    if space.dtype.kind in "iub":
        values, low, high = np.rint(values), np.maximum(low, -MAX_EXACT_INTEGER), np.minimum(high, MAX_EXACT_INTEGER)
    return np.clip(values, low, high).astype(space.dtype)


def scaled_axes(scale: Scale | None) -> list[tuple[int, tuple[float, float]]]:
    """The axes that are scaled by the data, each with its center and spread."""
    return [(axis, pair) for axis, pair in enumerate(scale or ()) if pair is not None]


def _bounds_are_informative(low: float, high: float, values: np.ndarray) -> bool:
    """Whether the bounds of an axis say how large its values are."""
    with np.errstate(over="ignore"):
        width = np.subtract(high, low)
    covered = np.ptp(values) if len(values) else 0.0
    return bool(np.isfinite(width) and (width <= TRUSTED_WIDTH or covered >= MIN_COVERED_SHARE * width))


def _center_and_spread(low: float, high: float, values: np.ndarray) -> tuple[float, float] | None:
    """Center and spread of an axis, or None if it is scaled by its bounds; constant values have a spread of 1."""
    if _bounds_are_informative(low, high, values) or not len(values):
        return None
    largest = np.ldexp(1.0, np.frexp(np.abs(values).max())[1] - 1)  # so that squares do not overflow
    center, spread = largest * (values / largest).mean(), largest * (values / largest).std()
    return float(center), float(spread) if np.ptp(values) > 0 else 1.0


def _size(space: Box) -> int:
    return int(np.prod(space.shape))

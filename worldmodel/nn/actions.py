"""Actions: Gymnasium spaces to JSON and back, and actions to the float vectors that condition the prior."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from jaxtyping import Float32

from worldmodel.io.untrusted import check_choices

SUPPORTED = "Discrete, MultiDiscrete, MultiBinary and Box"
INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
NUMBERS = INTEGERS | {"float16", "float32", "float64", "bool"}  # NumPy would take "9999999f8" for a type as well

Scale = tuple[tuple[float, float] | None, ...]  # centre and spread of each axis of a Box; None: its bounds count
TRUSTED_WIDTH = 1024.0  # width of an axis up to which its bounds count, whatever the data
MIN_COVERED_SHARE = 1e-3  # share of a wider axis that the data must cover, or its bounds count as none
MAX_ENCODED = 1e9  # of an encoded number: beyond it, what a network computes means nothing
PLAUSIBLE_SPREADS = 2.0  # spreads from the centre that count as within reach of the data
MAX_EXACT_INTEGER = 2.0**53  # up to here a double tells all integers apart


def space_to_json(space: Space) -> dict[str, Any]:
    """The space as plain values that `json.dumps` takes; infinite bounds become the strings "inf" and "-inf".

    Raises:
        TypeError: a space that is none of the four kinds.
        ValueError: a space of no numbers, or with more choices than are allowed.
    """
    if isinstance(space, Discrete | MultiDiscrete | MultiBinary | Box):
        _check_columns("action space", space)
    if isinstance(space, Discrete):
        return {"kind": "discrete", "n": int(space.n), "start": int(space.start), "dtype": str(space.dtype)}
    if isinstance(space, MultiDiscrete):
        bounds = {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
        return {"kind": "multi_discrete", **bounds, "dtype": str(space.dtype)}
    if isinstance(space, MultiBinary):
        return {"kind": "multi_binary", "n": np.asarray(space.n).tolist()}
    if isinstance(space, Box):
        bounds = {"low": _bounds_to_json(space.low), "high": _bounds_to_json(space.high)}
        return {"kind": "box", **bounds, "shape": list(space.shape), "dtype": str(space.dtype)}
    raise TypeError(f"action space: expected {SUPPORTED}, got {space!r}; wrap the env in one that has such a space")


def space_from_json(values: Mapping[str, Any]) -> Space:
    """The space that `space_to_json` wrote.

    Raises:
        TypeError: a `kind` that is none of the four.
        ValueError: values that make no such space, or one with more choices than are allowed.
    """
    try:
        with np.errstate(over="raise", invalid="raise"):  # a number that its dtype cannot hold
            space = _space(values)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, ValueError) as error:
        raise ValueError(f"action space in JSON: {type(error).__name__}: {error}") from error
    _check_columns("action space in JSON", space)
    return space


def _check_columns(what: str, space: Space) -> None:
    if not (columns := _columns(space)):
        raise ValueError(f"{what}: expected actions of one number or more, got {space}")
    check_choices(what, columns)


def _columns(space: Space) -> int:
    """How many numbers an encoded action has; a Python integer, which never overflows."""
    if isinstance(space, Discrete | MultiDiscrete):
        return sum(_options(space)[0].tolist())
    return math.prod(space.shape or ())


def _space(values: Mapping[str, Any]) -> Space:
    kind = values.get("kind")
    if kind == "discrete":
        n, start = int(_integers(values, "n")), int(_integers(values, "start"))
        return Discrete(n, start=start, dtype=_dtype(values, INTEGERS).type)
    if kind == "multi_discrete":
        nvec, start = _integers(values, "nvec"), _integers(values, "start")
        return MultiDiscrete(nvec, start=start, dtype=_dtype(values, INTEGERS).type)
    if kind == "multi_binary":
        return MultiBinary(_integers(values, "n").tolist())
    if kind == "box":
        dtype, shape = _dtype(values, NUMBERS), tuple(_integers(values, "shape").tolist())
        low, high = (_bounds_from_json(values[side], shape, dtype) for side in ("low", "high"))
        return Box(low, high, shape, dtype.type)
    raise TypeError(f"action space in JSON: expected the kinds of {SUPPORTED}, got kind={kind!r}")


def _integers(values: Mapping[str, Any], name: str) -> np.ndarray:
    found = np.asarray(values[name])
    if found.size and found.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected integers, got {values[name]!r}")
    return found.astype(np.int64)


def _dtype(values: Mapping[str, Any], allowed: set[str]) -> np.dtype:
    if values["dtype"] not in allowed:
        raise ValueError(f"expected a dtype of {', '.join(sorted(allowed))}, got {values['dtype']!r}")
    return np.dtype(values["dtype"])


def _bounds_to_json(bounds: np.ndarray) -> list[Any]:
    return [value if np.isfinite(value) else str(value) for value in bounds.reshape(-1).tolist()]


def _bounds_from_json(values: list[Any], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    # Through an object array: float("inf") and integers beyond 2**53 both arrive exactly.
    return np.array(values, dtype=object).astype(dtype).reshape(shape)


class ActionEncoder:
    """Actions of a space to float32 vectors of one `width`; with no space (`None`) the width is 0.

    Discrete becomes one-hot, MultiDiscrete the one-hots side by side, MultiBinary zeros and ones, Box its
    numbers, flattened: on axes that `scale` names, by how many spreads they lie from the centre; elsewhere scaled to
    [-1, 1] where both bounds are finite, raw otherwise.

    Raises:
        TypeError: a space that is none of the four kinds.
        ValueError: a scale that does not fit the space.
    """

    def __init__(self, space: Space | None, scale: Scale | None = None):
        if space is not None and not isinstance(space, Discrete | MultiDiscrete | MultiBinary | Box):
            raise TypeError(f"action space: expected {SUPPORTED} or None, got {space!r}")
        self.space, self.scale = space, check_scale(space, scale)
        self._options = _options(space)
        self.width = _width(space)

    def encode(self, actions: Any) -> Float32[np.ndarray, "... a"]:
        """Vectors of actions of any leading shape (`... *space`); with no space, all of the shape is leading.

        Raises:
            ValueError: a shape, a type or a value outside the space, or a number that is not finite or too far away.
        """
        if np.ma.is_masked(actions):
            raise ValueError("actions: expected a value at each place, got an array with masked ones")
        actions = np.asarray(actions)
        if self.space is None:
            return np.zeros((*actions.shape, 0), np.float32)
        flat = self._flatten(actions)
        if isinstance(self.space, Box):
            return _encode_box(flat, self.space, self.scale)
        if isinstance(self.space, MultiBinary):
            self._check(flat, (flat == 0) | (flat == 1))
            return flat.astype(np.float32)
        return self._one_hot(flat)

    def _flatten(self, actions: np.ndarray) -> np.ndarray:
        """`... *space` to `... n`."""
        assert self.space is not None
        shape = self.space.shape or ()
        lead = actions.ndim - len(shape)
        if lead < 0 or actions.shape[lead:] != shape:
            raise ValueError(f"actions: expected a shape ending in {shape} for {self.space}, got {actions.shape}")
        kinds, expected = ("iubf", "real numbers") if isinstance(self.space, Box) else ("iub", "integers")
        if isinstance(self.space, MultiBinary) and actions.dtype.kind == "f":  # as Stable-Baselines3 draws them
            kinds = "f"  # anything but 0.0 and 1.0 is refused below
        if actions.dtype.kind not in kinds:
            raise ValueError(f"actions: expected {expected} for {self.space}, got {actions.dtype}")
        return actions.reshape(*actions.shape[:lead], int(np.prod(shape)))

    def _one_hot(self, flat: np.ndarray) -> np.ndarray:
        options, start = self._options
        choice = flat.astype(np.int64) - start
        self._check(flat, (choice >= 0) & (choice < options))
        vectors = np.zeros((*flat.shape[:-1], self.width), np.float32)
        first_column = np.cumsum(options) - options
        np.put_along_axis(vectors, choice + first_column, 1.0, axis=-1)
        return vectors

    def _check(self, flat: np.ndarray, inside: np.ndarray) -> None:
        if not inside.all():
            raise ValueError(f"actions: expected values inside {self.space}, got {flat[~inside].reshape(-1)[0]}")


def _options(space: Space | None) -> tuple[np.ndarray, np.ndarray]:
    """Number of choices and the first choice of each discrete axis."""
    if isinstance(space, Discrete):
        return np.array([space.n], np.int64), np.array([space.start], np.int64)
    if isinstance(space, MultiDiscrete):
        return space.nvec.reshape(-1).astype(np.int64), space.start.reshape(-1).astype(np.int64)
    return np.zeros(0, np.int64), np.zeros(0, np.int64)


def _width(space: Space | None) -> int:
    if space is None:
        return 0
    if isinstance(space, Discrete | MultiDiscrete):
        return int(_options(space)[0].sum())
    return int(np.prod(space.shape or ()))


def _encode_box(flat: np.ndarray, space: Box, scale: Scale | None) -> np.ndarray:
    # In float64: the width of a wide float32 box overflows float32.
    values, low, high = (x.astype(np.float64) for x in (flat, space.low.reshape(-1), space.high.reshape(-1)))
    inside = np.isfinite(values) & (values >= low) & (values <= high)
    if not inside.all():
        raise ValueError(f"actions: expected finite values inside {space}, got {values[~inside].reshape(-1)[0]}")
    bounded = np.isfinite(low) & np.isfinite(high)
    with np.errstate(over="ignore", invalid="ignore"):  # what leaves the numbers is refused below
        low, width = np.where(bounded, low, 0.0), np.where(bounded, high - low, 1.0)
        scaled = 2.0 * (values - low) / np.where(width > 0, width, 1.0) - (width > 0)
        found = np.where(bounded, scaled, values)
        for axis, (centre, spread) in _scaled_axes(scale):
            found[..., axis] = (values[..., axis] - centre) / spread
    far = ~(np.abs(found) <= MAX_ENCODED)
    if far.any():
        raise ValueError(f"actions: expected numbers nearer to those of the data, got {values[far].reshape(-1)[0]}")
    return found.astype(np.float32)


def check_scale(space: Space | None, scale: Scale | None) -> Scale | None:
    """The same scale.

    Raises:
        ValueError: it is not one of the axes of this space.
    """
    if scale is None:
        return None
    if not isinstance(space, Box) or len(scale) != _width(space):
        raise ValueError(f"action scale: expected a Box of {len(scale)} axes, got {space}")
    for _, (centre, spread) in _scaled_axes(scale):
        if not (np.isfinite(centre) and 0 < spread < np.inf):
            raise ValueError(f"action scale: expected a finite centre and a spread above 0, got {centre}, {spread}")
    return scale


def scale_from_json(values: Any) -> Scale | None:
    """The scale whose pairs JSON has as lists.

    Raises:
        TypeError, ValueError: values that make none.
    """
    if values is None:
        return None
    return tuple(None if pair is None else (float(pair[0]), float(pair[1])) for pair in values)


def fit_action_scale(space: Space | None, actions: Iterable[np.ndarray]) -> Scale | None:
    """The scale of a Box by its data, the actions `n *space` of some episodes: mean and standard deviation of each axis
    whose bounds count as none. None where all bounds count, or the space is no Box.

    Bounds count as none where they are infinite, and where they are wide (over 1,024) and the data covers less than
    a thousandth of that.

    Raises:
        ValueError: an action that is no finite number.
    """
    if not isinstance(space, Box):
        return None
    low, high = (x.astype(np.float64).reshape(-1) for x in (space.low, space.high))
    values = np.concatenate([np.zeros((0, len(low))), *(each.reshape(len(each), len(low)) for each in actions)])
    if not np.isfinite(values).all():
        raise ValueError("actions: expected finite numbers in all episodes; clip them in the environment")
    scale = tuple(_center_and_spread(*axis) for axis in zip(low, high, values.T, strict=True))
    return scale if _scaled_axes(scale) else None


def plausible_actions(space: Space, scale: Scale | None) -> Space:
    """The actions that may be tried: the space, or a Box narrowed to where the data lay on the axes of its scale.

    With a chunk of several actions as the space, the scale is that of each of them.
    """
    if scale is None or not isinstance(space, Box):
        check_scale(space, scale)
        return space
    if not scale or _width(space) % len(scale):
        raise ValueError(f"action scale: expected one of {space}, got {len(scale)} axes")
    low, high = (x.astype(np.float64).reshape(-1) for x in (space.low, space.high))
    for axis, (centre, spread) in _scaled_axes(scale * (len(low) // len(scale))):
        low[axis] = max(low[axis], centre - PLAUSIBLE_SPREADS * spread)
        high[axis] = min(high[axis], centre + PLAUSIBLE_SPREADS * spread)
    low, high = (clip_to_space(each.reshape(space.shape), space) for each in (low, high))
    return Box(low, high, space.shape, space.dtype.type)


def clip_to_space(values: np.ndarray, space: Box) -> np.ndarray:
    """The actions of a Box that are nearest to these numbers, `... *space`: within its bounds, whole where it holds
    integers, and of its type."""
    low, high = (x.astype(np.float64) for x in (space.low, space.high))
    if space.dtype.kind in "iub":
        values, low, high = np.rint(values), np.maximum(low, -MAX_EXACT_INTEGER), np.minimum(high, MAX_EXACT_INTEGER)
    return np.clip(values, low, high).astype(space.dtype)


def _scaled_axes(scale: Scale | None) -> list[tuple[int, tuple[float, float]]]:
    """The axes that are scaled by the data, with their centre and spread."""
    return [(axis, pair) for axis, pair in enumerate(scale or ()) if pair is not None]


def _bounds_are_informative(low: float, high: float, values: np.ndarray) -> bool:
    """Whether the bounds of an axis say how large its numbers are."""
    with np.errstate(over="ignore"):
        width = np.subtract(high, low)
    covered = np.ptp(values) if len(values) else 0.0
    return bool(np.isfinite(width) and (width <= TRUSTED_WIDTH or covered >= MIN_COVERED_SHARE * width))


def _center_and_spread(low: float, high: float, values: np.ndarray) -> tuple[float, float] | None:
    """Centre and spread of an axis, or None where its bounds count; a number that never changes has a spread of 1."""
    if _bounds_are_informative(low, high, values) or not len(values):
        return None
    largest = np.ldexp(1.0, np.frexp(np.abs(values).max())[1] - 1)  # so that squares stay among the numbers
    centre, spread = largest * (values / largest).mean(), largest * (values / largest).std()
    return float(centre), float(spread) if np.ptp(values) > 0 else 1.0

"""Action spaces: to JSON and back, and actions to the float vectors that condition the prior."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from jaxtyping import Float32

from worldmodel.io.untrusted import check_choices
from worldmodel.nn.action_scale import Scale, check_scale, scaled_axes

SUPPORTED = "Discrete, MultiDiscrete, MultiBinary and Box"
INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
NUMBERS = INTEGERS | {"float16", "float32", "float64", "bool"}  # NumPy would also accept "9999999f8"
MAX_ENCODED = 1e9  # limit of encoded numbers: beyond it, the output of a network is meaningless


def space_to_json(space: Space) -> dict[str, Any]:
    """The space as values for `json.dumps`; infinite bounds become the strings "inf" and "-inf".

    Raises:
        TypeError: the space is not of the four kinds.
        ValueError: an action has no numbers, or more choices than are allowed.
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
        TypeError: a `kind` that is not one of the four.
        ValueError: the values are not those of such a space, or it has more choices than are allowed.
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
    """The number of columns of an encoded action, as a Python integer, which never overflows."""
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


def action_labels(space: Space, names: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of all choices, or of the numbers of one action; numbers are the names where none are given."""
    if names:
        return tuple(names)
    if isinstance(space, Discrete):
        return tuple(str(choice) for choice in range(int(space.start), int(space.start + space.n)))
    return tuple(str(place) for place in range(math.prod(space.shape or ())))


def action_words(action: Any, space: Space | None, names: Sequence[str] = ()) -> str:
    """One action in words: its name, the names of pressed buttons, or its numbers behind their names."""
    values = np.asarray(action)
    if isinstance(space, Discrete) and values.ndim == 0:
        return action_labels(space, names)[int(values) - int(space.start)]
    if space is None or not names:
        return np.array2string(values, precision=1, separator=" ")
    pairs = zip(names, values.reshape(-1).tolist(), strict=True)
    if isinstance(space, MultiBinary):
        return "+".join(name for name, pressed in pairs if pressed) or "none"
    return " ".join(f"{name} {value:.1f}" if isinstance(value, float) else f"{name} {value}" for name, value in pairs)


class ActionEncoder:
    """Encodes actions of a space as float32 vectors of length `width`; without a space (`None`) the width is 0.

    Discrete becomes one-hot, MultiDiscrete concatenated one-hots, MultiBinary zeros and ones. A Box is flattened. Axes
    that `scale` names are given in spreads from the center; others are scaled to [-1, 1] if both bounds are finite,
    and stay unchanged otherwise.

    Raises:
        TypeError: the space is not of the four kinds.
        ValueError: the scale does not fit the space.
    """

    def __init__(self, space: Space | None, scale: Scale | None = None):
        if space is not None and not isinstance(space, Discrete | MultiDiscrete | MultiBinary | Box):
            raise TypeError(f"action space: expected {SUPPORTED} or None, got {space!r}")
        self.space, self.scale = space, check_scale(space, scale)
        self._options = _options(space)
        self.width = _width(space)

    def encode(self, actions: Any) -> Float32[np.ndarray, "... a"]:
        """Encode actions of shape `... *space` as `... a`; without a space, the whole shape is leading.

        Raises:
            ValueError: a shape, type or value outside the space, or a number that is not finite or too large.
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
        """Flatten `... *space` to `... n`; raises ValueError for a wrong shape or type."""
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
    with np.errstate(over="ignore", invalid="ignore"):  # overflow is refused below
        low, width = np.where(bounded, low, 0.0), np.where(bounded, high - low, 1.0)
        scaled = 2.0 * (values - low) / np.where(width > 0, width, 1.0) - (width > 0)
        found = np.where(bounded, scaled, values)
        for axis, (center, spread) in scaled_axes(scale):
            found[..., axis] = (values[..., axis] - center) / spread
    far = ~(np.abs(found) <= MAX_ENCODED)
    if far.any():
        raise ValueError(f"actions: expected numbers nearer to those of the data, got {values[far].reshape(-1)[0]}")
    return found.astype(np.float32)

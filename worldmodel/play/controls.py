"""What a player can press: the actions of a space as buttons, rows of buttons or sliders, and the keys for them."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from worldmodel.info import WorldInfo
from worldmodel.nn.action_scale import clip_to_space

IDLE = {"noop", "no_op", "none", "nothing", "idle", "wait", "stay", "stop"}  # names of actions that do nothing
WIDEST = 1.0  # half the width of a slider whose axis has no bound
# For each key, the names that it may stand for: the first that the world has takes it.
KEYS = {
    "ArrowUp": ("forward", "move_forward", "up", "accelerate", "gas"),
    "ArrowDown": ("backward", "move_backward", "back", "down", "brake", "turn_around"),
    "ArrowLeft": ("turn_left", "left", "steer_left", "move_left", "strafe_left"),
    "ArrowRight": ("turn_right", "right", "steer_right", "move_right", "strafe_right"),
    "w": ("forward", "move_forward", "up", "accelerate", "gas"),
    "s": ("backward", "move_backward", "back", "down", "brake", "turn_around"),
    "a": ("strafe_left", "move_left", "left", "turn_left", "steer_left"),
    "d": ("strafe_right", "move_right", "right", "turn_right", "steer_right"),
    "Enter": ("fire", "attack", "shoot", "use", "do", "interact", "toggle", "pickup", "jump"),
}
DIGITS = "1234567890"


class Controls:
    """The actions of a world: as plain values for a page, and from a page's values back to actions."""

    def __init__(self, info: WorldInfo):
        self.space, self.names, self.reachable = info.action_space, info.action_names, info.reachable

    def to_json(self) -> dict[str, Any]:
        """What to draw: `kind` is "none", "choices" (rows of named values) or "sliders" (axes with bounds)."""
        if self.space is None:
            return {"kind": "none"}
        if isinstance(self.space, Box):
            return {"kind": "sliders", "axes": [*map(self._axis, range(int(np.prod(self.space.shape))))]}
        rows = self._rows()
        single = [choice["name"] for choice in rows[0]["choices"]] if isinstance(self.space, Discrete) else []
        return {"kind": "choices", "rows": rows, "keys": keys_of(single)}

    @property
    def idle(self) -> Any:
        """The value while nothing is pressed; None if every action does something, so that play has to wait."""
        if self.space is None:
            return 0
        if isinstance(self.space, Discrete):
            named = [number for number, name in enumerate(self.names) if _plain(name) in IDLE]
            return named[0] + int(self.space.start) if named else None
        if isinstance(self.space, Box):
            return [axis["idle"] for axis in self.to_json()["axes"]]
        return [row["choices"][0]["value"] for row in self._rows()]

    @property
    def first(self) -> Any:
        """The value of some action."""
        return self._rows()[0]["choices"][0]["value"] if self.idle is None else self.idle

    def action(self, value: Any) -> np.ndarray:
        """The action of a value: a number for a Discrete space, else a flat list of numbers.

        Raises: ValueError for a value that is no action of the space.
        """
        if self.space is None:
            return np.asarray(0)
        wanted, single = int(np.prod(self.space.shape or ())), isinstance(self.space, Discrete)
        numbers = value if isinstance(value, list) else [value]
        if isinstance(value, list) == single or len(numbers) != wanted or not all(map(_is_number, numbers)):
            what = "one number" if single else f"a list of {wanted} numbers"
            raise ValueError(f"action: expected {what} of {self.space}, got {str(value)[:60]}")
        exact = np.array(numbers, np.float64).reshape(self.space.shape or ())
        if isinstance(self.space, Box):
            return clip_to_space(exact, self.space)
        with np.errstate(invalid="ignore"):  # numbers that the dtype cannot hold
            action = exact.astype(self.space.dtype)
        if (action != exact).any() or not self.space.contains(action):
            raise ValueError(f"action: expected one in {self.space}, got {str(value)[:60]}")
        return action

    def _rows(self) -> list[dict[str, Any]]:
        """Rows of choices: one for a Discrete, one per entry for a MultiDiscrete or MultiBinary."""
        if isinstance(self.space, Discrete):
            first = int(self.space.start)
            names = self.names or [str(first + i) for i in range(int(self.space.n))]
            return [{"name": "action", "choices": [{"value": first + i, "name": x} for i, x in enumerate(names)]}]
        if isinstance(self.space, MultiDiscrete):
            counts, starts = self.space.nvec.ravel().tolist(), self.space.start.ravel().tolist()
            named = [[str(start + i) for i in range(n)] for n, start in zip(counts, starts, strict=True)]
        else:
            assert isinstance(self.space, MultiBinary)
            starts = [0] * int(np.prod(self.space.shape))
            named = [["off", "on"] for _ in starts]
        return [
            {"name": f"part {row + 1}", "choices": [{"value": start + i, "name": x} for i, x in enumerate(names)]}
            for row, (start, names) in enumerate(zip(starts, named, strict=True))
        ]

    def _axis(self, axis: int) -> dict[str, Any]:
        """One slider of a Box: within the actions near the data, around 0 where there is no bound."""
        assert isinstance(self.reachable, Box)
        low, high = (float(x.reshape(-1)[axis]) for x in (self.reachable.low, self.reachable.high))
        low = low if np.isfinite(low) else (min(high, WIDEST) if np.isfinite(high) else WIDEST) - 2 * WIDEST
        high = high if np.isfinite(high) else max(low + 2 * WIDEST, WIDEST)
        whole = self.reachable.dtype.kind in "iub"
        idle = min(max(0.0, low), high)
        step = 1 if whole else (high - low) / 100 or 1
        return {"name": f"axis {axis + 1}", "low": low, "high": high, "idle": idle, "step": step}


def keys_of(names: Sequence[str]) -> dict[str, int]:
    """The number of the choice that each key stands for: by the names of the actions, and digits in order."""
    plain = [*map(_plain, names)]
    keys = {key: plain.index(first) for key, words in KEYS.items() if (first := _first(words, plain)) is not None}
    return keys | {digit: number for number, digit in enumerate(DIGITS) if number < len(names)}


def _first(words: Sequence[str], known: Sequence[str]) -> str | None:
    return next((word for word in words if word in known), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number that float64 can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return bool(abs(value) < 1e300)

"""A stand-in for the module deepmind_lab that refuses whatever its documented Python API does not allow.

Written from docs/users/python_api.md and the checks in python/dmlab_module.c of github.com/google-deepmind/lab.
Pixels hold what an engine would be asked for: seed, episode, engine frames since the reset, and the last action.
"""

import ctypes
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np

ACTIONS = [
    {"name": "LOOK_LEFT_RIGHT_PIXELS_PER_FRAME", "min": -512, "max": 512},
    {"name": "LOOK_DOWN_UP_PIXELS_PER_FRAME", "min": -512, "max": 512},
    {"name": "STRAFE_LEFT_RIGHT", "min": -1, "max": 1},
    {"name": "MOVE_BACK_FORWARD", "min": -1, "max": 1},
    {"name": "FIRE", "min": 0, "max": 1},
    {"name": "JUMP", "min": 0, "max": 1},
    {"name": "CROUCH", "min": 0, "max": 1},
]
LEVELS = (
    "contributed/dmlab30/explore_object_locations_small",
    "contributed/dmlab30/rooms_collect_good_objects_test",
    "seekavoid_arena_01",
)
LENGTH = 10  # engine frames of an episode


class Lab:
    """One engine. `calls` of the module remembers what every engine was made with."""

    def __init__(self, level, observations, config: Any = None, renderer="software", level_cache=None):
        _check_type("level", level, str)
        _check_type("observations", observations, list)
        _check_type("config", config, dict)
        for key, value in config.items():
            _check_type("config key", key, str)
            _check_type(f"config value of {key}", value, str)
        if not 0 <= int(config.get("mixerSeed", "0")) < 2**32:
            raise RuntimeError("Invalid argument - mixerSeed")
        if level.endswith("_test") and config.get("allowHoldOutLevels") != "true":
            raise RuntimeError("Failed to init environment - hold-out level")
        if level not in LEVELS:
            raise RuntimeError(f"Failed to init environment - level '{level}' not found")
        if renderer not in ("software", "hardware"):
            raise RuntimeError('Failed to set renderer must be "hardware" or "software"')
        if unknown := set(observations) - {"RGB_INTERLEAVED"}:
            raise ValueError(f"Unknown observation '{unknown.pop()}'.")
        self.calls = {"level": level, "config": config, "renderer": renderer, "cache": level_cache}
        self.moves, self.resets, self.compiled = [], [], []
        self._state = "uninitialized"

    def reset(self, episode=-1, seed=None):
        if self._state == "closed":
            raise RuntimeError("the memory of the engine is released: a real one would crash here")
        _check_type("episode", episode, int)
        if not isinstance(seed, int | None):
            raise ValueError(f"'seed' must be int or None, was '{type(seed).__name__}'.")
        if seed is not None and not -(2**31) <= seed < 2**31:
            raise OverflowError("the engine's seed is a C int")
        self._load_level(f"{self.calls['level']}/{episode}/{seed}")
        self.resets.append((episode, seed))
        self._state, self._now, self._last = "running", 0, 0
        return True

    def _load_level(self, key):
        """As the engine does for a map drawn per episode: ask the cache, else compile and hand the file over."""
        cache = self.calls["cache"]
        if cache is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            level = Path(folder) / "level.pk3"
            if cache.fetch(key, str(level)):
                assert level.read_text() == key, "fetch said yes, and gave another level or none"
                return
            level.write_text(key)
            self.compiled.append(key)
            cache.write(key, str(level))

    def is_running(self):
        return self._state == "running"

    def num_steps(self):
        return self._now

    def action_spec(self):
        return [dict(axis) for axis in ACTIONS]

    def step(self, action, num_steps=1):
        _check_type("action", action, np.ndarray)
        _check_type("num_steps", num_steps, int)
        if self._state != "running":
            raise RuntimeError("Environment in wrong status to advance.")
        if action.shape != (len(ACTIONS),):
            raise ValueError(f"action must have shape ({len(ACTIONS)})")
        if action.dtype != np.intc:
            raise ValueError("action must have dtype np.intc")
        action = np.frombuffer(_memory(action), np.intc)  # the strides are not looked at
        assert num_steps >= 1, num_steps
        for value, axis in zip(action, ACTIONS, strict=True):
            assert axis["min"] <= value <= axis["max"], (axis, value)  # documented as undefined behaviour
        self.moves.append((tuple(int(v) for v in action), num_steps))
        self._now, self._last = self._now + num_steps, int(action[3])
        if self._now >= LENGTH:
            self._state = "terminated"
        return float(self._now)

    def observations(self):
        if self._state != "running":
            raise RuntimeError("Environment in wrong status for call to observations()")
        height, width = (int(self.calls["config"][side]) for side in ("height", "width"))
        screen = np.zeros((height, width, 3), np.uint8)
        episode, seed = self.resets[-1]
        screen[:] = (seed % 251, 10 * episode + self._last + 1, self._now)
        return {"RGB_INTERLEAVED": screen}

    def close(self):
        closed, self._state = self._state != "closed", "closed"
        return closed


def _memory(action):
    """The bytes from where the array begins, as C reads them."""
    return ctypes.string_at(action.ctypes.data, action.nbytes)


def module() -> types.ModuleType:
    """A fresh module to be put in sys.modules["deepmind_lab"]."""
    fake = types.ModuleType("deepmind_lab")
    vars(fake)["Lab"] = Lab
    return fake


def _check_type(name, value, expected):
    if type(value) is not expected and not (expected is np.ndarray and isinstance(value, np.ndarray)):
        raise TypeError(f"{name}: must be {expected.__name__}, not {type(value).__name__}")

"""Checks what an environment returns: each fault is one `EngineError` that says what was expected.

Environments are programs of other people. Any exception that one raises, in any call or attribute, and any return value
that Gymnasium does not allow becomes that one error, on one line.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

MAX_REWARD = float(np.finfo(np.float32).max)  # the largest reward: episodes store float32
HERE = os.path.dirname(__file__)
PACKAGE = os.path.dirname(os.path.dirname(HERE)) + os.sep  # errors raised in it are about what an engine returned
MAX_MESSAGE_CHARS = 500  # of the message of an engine's exception
OLD_GYM = (
    'an environment of the old Gym API needs a wrapper: that of shimmy, pip install "shimmy[gym-v21]", or one of yours '
    "that returns these"
)
RESET, STEP = ("observation", "info"), ("observation", "reward", "terminated", "truncated", "info")


class EngineError(ValueError):
    """An environment raised an exception, or returned something that Gymnasium does not allow; says what, and where."""


@dataclass(frozen=True)
class Step:
    """The checked result of one step; `observation` is the environment's own object, `frame` a copy of it."""

    observation: Any
    frame: UInt8[np.ndarray, "h w c"]
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]


@contextlib.contextmanager
def engine_errors(what: str, number: int | None = None, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn any exception of an environment into an EngineError, `sys.exit` included; Ctrl-C and SIGTERM pass.

    what: the call. number: counts the calls. passing: types of exceptions that are not changed.
    """
    call = what if number is None else f"{what} {number}"
    try:
        yield
    except BaseException as error:
        if _is_stop_request(error) or isinstance(error, passing):
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        if isinstance(error, EngineError) and os.path.dirname(place.filename) == HERE:  # found by a check of ours
            raise EngineError(f"{call}: {error}") from error
        parts = [] if place.filename.startswith(PACKAGE) else [f"{place.filename}, line {place.lineno}"]
        parts += [] if number is None else [f"in {call}"]
        where = f" ({', '.join(parts)})" if parts else ""
        raise EngineError(f"{what} raised {type(error).__name__}: {_one_line(error)}{where}") from error


@contextlib.contextmanager
def report_close_errors() -> Iterator[None]:
    """Report an error of closing an environment on stderr; it has no other effect."""
    try:
        yield
    except EngineError as error:
        tqdm.write(f"{error}; the episodes are complete nevertheless", sys.stderr)


def _is_stop_request(error: BaseException) -> bool:
    """Whether a person or the system asked this process to stop: then the status is 128 plus the signal's number."""
    if isinstance(error, SystemExit):
        return isinstance(error.code, int) and 128 < error.code < 192
    return type(error) is KeyboardInterrupt


def _one_line(error: BaseException) -> str:
    """The message of an error on one line, without control characters."""
    try:
        words = " ".join(str(error).split())[:MAX_MESSAGE_CHARS]
        return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in words)
    except Exception:
        return "(its message cannot be shown)"


def checked_reset(env: gymnasium.Env, seed: int, shape: Sequence[int]) -> tuple[Any, UInt8[np.ndarray, "h w c"], Any]:
    """Reset an environment; returns its observation, a copy of that as a frame of `shape` (h, w, c), and its info.

    Raises:
        EngineError: it raised an exception, or returned something else.
    """
    with engine_errors("reset"):
        observation, info = _parts(env.reset(seed=seed), RESET)
        return observation, _frame(observation, shape), _mapping(info)


def checked_step(env: gymnasium.Env, action: Any, number: int, shape: Sequence[int]) -> Step:
    """Step an environment; `number` counts the steps from 0.

    Raises:
        EngineError: it raised an exception, or returned something else.
    """
    with engine_errors("step", number):
        observation, reward, terminated, truncated, info = _parts(env.step(action), STEP)
        frame = _frame(observation, shape)
        ends = _flag("terminated", terminated), _flag("truncated", truncated)
        return Step(observation, frame, _number(reward), *ends, _mapping(info))


def _parts(values: Any, names: Sequence[str]) -> Sequence[Any]:
    if not isinstance(values, tuple | list) or len(values) != len(names):
        got = f"{len(values)} values" if isinstance(values, tuple | list) else _kind(values)
        old = "" if isinstance(values, dict) else f"; {OLD_GYM}"
        raise EngineError(f"expected to return ({', '.join(names)}), got {got}{old}")
    return values


def _frame(observation: Any, shape: Sequence[int]) -> UInt8[np.ndarray, "h w c"]:
    frame = np.array(observation)  # a copy: environments may paint the next frame over this one
    if frame.dtype != np.uint8 or frame.shape != tuple(shape):
        got = f"{frame.dtype} {frame.shape}"
        raise EngineError(f"observation: expected uint8 {tuple(shape)} as the observation space says, got {got}")
    return frame


def _number(reward: Any) -> float:
    value = _scalar(reward)
    if not isinstance(value, int | float):
        raise EngineError(f"reward: expected one number, got {_kind(reward)}")
    if not abs(value) <= MAX_REWARD:
        raise EngineError(f"reward {_short(value)}: expected a finite number that float32 can hold")
    return float(value)


def _flag(name: str, flag: Any) -> bool:
    value = _scalar(flag)
    if not isinstance(value, int) or value not in (0, 1):
        raise EngineError(f"{name}: expected True or False, got {_kind(flag)}")
    return bool(value)


def _mapping(info: Any) -> Mapping[str, Any]:
    if not isinstance(info, Mapping):
        raise EngineError(f"info: expected a dict, got {_kind(info)}")
    return info


def _scalar(value: Any) -> Any:
    """Python numbers for NumPy scalars and arrays without axes; anything else unchanged."""
    return value.item() if getattr(value, "shape", None) == () else value


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__} of shape {tuple(shape)}" if shape else f"{type(value).__name__} {_short(value)}"


def _short(value: Any) -> str:
    return " ".join(repr(value).split())[:60]

"""What a page may ask of a session. A command arrives as JSON: `{"do": "reset", "seed": 3}`.

The keys beside `do` are the fields of a dataclass, which checks them before anything happens.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worldmodel.io.config import check_range, from_mapping, suggestion
from worldmodel.play.moment import Mode
from worldmodel.play.session import LARGEST_SEED, Session, Sides

FASTEST = 120.0  # frames per second
SLOWEST = 0.1
HOTTEST = 4.0  # sampling temperature


@dataclass
class Nothing:
    """No argument."""


@dataclass
class Action:
    """The value of an action; None: no action is pressed."""

    action: Any = None


@dataclass
class Switch:
    """On or off."""

    on: bool


@dataclass
class Rate:
    """Frames per second."""

    fps: float

    def __post_init__(self) -> None:
        check_range(self, SLOWEST, FASTEST, "fps")


@dataclass
class Heat:
    """A sampling temperature; None: the world's own."""

    temperature: float | None

    def __post_init__(self) -> None:
        check_range(self, 0, HOTTEST, "temperature")


@dataclass
class Seed:
    """A seed; None: the last one of a reset, a new one of a branch."""

    seed: int | None = None

    def __post_init__(self) -> None:
        check_range(self, 0, LARGEST_SEED, "seed")


@dataclass
class Number:
    """The number of a kept moment."""

    moment: int


@dataclass
class Future(Seed):
    """A kept moment, and the seed of another future."""

    moment: int = 0


@dataclass
class Sight:
    """Which side is stepped."""

    mode: Mode


def _step(session: Session, action: Any) -> list[Sides]:
    session.paused = True
    return session.step(action)


def _pause(session: Session, on: bool) -> None:
    session.paused = on or session.now.over


def _fps(session: Session, fps: float) -> None:
    session.fps = fps


def _temperature(session: Session, temperature: float | None) -> None:
    session.temperature = temperature


COMMANDS: dict[str, tuple[type, Callable[[Session, Any], list[Sides] | int | None]]] = {
    "hold": (Action, lambda session, given: session.hold(given.action)),
    "step": (Action, lambda session, given: _step(session, given.action)),
    "pause": (Switch, lambda session, given: _pause(session, given.on)),
    "fps": (Rate, lambda session, given: _fps(session, given.fps)),
    "temperature": (Heat, lambda session, given: _temperature(session, given.temperature)),
    "reset": (Seed, lambda session, given: session.reset(given.seed)),
    "switch": (Sight, lambda session, given: session.switch(given.mode)),
    "keep": (Nothing, lambda session, given: session.keep()),
    "back": (Number, lambda session, given: session.back(given.moment)),
    "branch": (Future, lambda session, given: session.branch(given.moment, given.seed)),
    "forget": (Number, lambda session, given: session.forget(given.moment)),
    "record": (Switch, lambda session, given: session.record(given.on)),
}


@dataclass(frozen=True)
class Command:
    """A command and its checked arguments."""

    name: str
    given: Any

    @property
    def holds(self) -> bool:
        """Whether it presses an action."""
        return self.name == "hold" and self.given.action is not None

    @property
    def releases(self) -> bool:
        """Whether it releases the action that is pressed."""
        return self.name == "hold" and self.given.action is None

    def run(self, session: Session) -> list[Sides]:
        """Carry it out; returns the new frames of a step. Raises: as the session."""
        frames = COMMANDS[self.name][1](session, self.given)
        return frames if isinstance(frames, list) else []


def read_command(text: str | None) -> Command:
    """The command of a message.

    Raises: ValueError or TypeError for a message that is no command.
    """
    try:
        values = json.loads(text or "")
    except (ValueError, RecursionError) as error:
        raise ValueError(f'expected a command as JSON text, such as {{"do": "keep"}}, got {_short(text)}') from error
    name = values.pop("do", None) if isinstance(values, dict) else None
    if not isinstance(name, str):
        raise ValueError(f'expected a command such as {{"do": "keep"}}, got {_short(text)}')
    if name not in COMMANDS:
        hint = suggestion(name[:60], COMMANDS) or f"there are: {', '.join(COMMANDS)}"
        raise ValueError(f"do: there is no command {_short(name)}; {hint}")
    return Command(name, from_mapping(COMMANDS[name][0], values, name))


def _short(text: str | None) -> str:
    return "bytes" if text is None else repr(text[:60])

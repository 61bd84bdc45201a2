"""The errors that stand at the doors of every environment: unknown names, missing packages, values out of range."""

import difflib
from collections.abc import Iterable
from typing import Any

MAX_LISTED = 12  # names that an error shows; a longer list hides the message


def unknown_name(what: str, name: str, known: Iterable[str], *, setting: str) -> ValueError:
    """The error for a name that does not exist: the close ones first, then some of those there are."""
    known = sorted(known)
    by_lower = {k.lower(): k for k in known}
    close = [by_lower[k] for k in difflib.get_close_matches(name.lower(), by_lower, n=3)]
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    shown = ", ".join(known[:MAX_LISTED]) + (f", … ({len(known)} in all)" if len(known) > MAX_LISTED else "")
    return ValueError(f"unknown {what} {name!r}.{hint} Known: {shown or 'none'}. Change {setting}=…")


def missing_package(package: str, extra: str, note: str = "") -> ImportError:
    """The error for an optional package: which one, and the extra that brings it."""
    return ImportError(
        f"{package} is not installed: pip install worldmodel[{extra}]{note and '. ' + note}", name=package
    )


def check_returned(what: str, values: Any, *names: str) -> Any:
    """What an engine returned, held to be a tuple of so many values.

    Raises:
        TypeError: it is something else; the message names the values.
    """
    if not isinstance(values, tuple | list) or len(values) != len(names):
        got = f"{len(values)} values" if isinstance(values, tuple | list) else type(values).__name__
        raise TypeError(
            f"{what}: expected to return ({', '.join(names)}), got {got}; "
            "an environment of the old Gym API needs a wrapper"
        )
    return values


def to_python(value: Any) -> Any:
    """Python's own value for one number or flag of NumPy; anything else as it is, for the caller to judge."""
    return value.item() if getattr(value, "shape", None) == () else value


def check_at_least(config: Any, least: float, *names: str) -> None:
    """Refuse a config in which one of the fields `names` is below `least`.

    Raises:
        ValueError: it is; the message names the field.
    """
    for name in names:
        if getattr(config, name) < least:
            raise ValueError(f"{name}: expected at least {least}, got {getattr(config, name)}")


def check_one_of(config: Any, name: str, allowed: Iterable[Any]) -> None:
    """Refuse a config whose field `name` is none of `allowed`.

    Raises:
        ValueError: it is not; the message lists them.
    """
    if getattr(config, name) not in tuple(allowed):
        options = ", ".join(map(str, allowed))
        raise ValueError(f"{name}: expected one of {options}, got {getattr(config, name)!r}")

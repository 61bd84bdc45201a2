"""Errors that all environments share: unknown names, missing packages, values out of range."""

import difflib
from collections.abc import Iterable
from typing import Any

MAX_LISTED = 12  # names that an error shows; a longer list hides the message
SHIMMY = (
    'shimmy wraps it: pip install "shimmy[gym-v21]" (or gym-v26), then env.id=shimmy:GymV21Environment-v0 '
    "'env.kwargs={env_id: module:Id-v0}'"
)
OLD_GYM = (
    "an environment of the old Gym API needs a wrapper, or its reset(seed=…, options=…) has to return "
    f"(observation, info) and its step (observation, reward, terminated, truncated, info); {SHIMMY}"
)


def unknown_name(what: str, name: str, known: Iterable[str], *, setting: str) -> ValueError:
    """The error for a name that does not exist; suggests close names and lists known ones."""
    known = sorted(known)
    by_lower = {k.lower(): k for k in known}
    close = [by_lower[k] for k in difflib.get_close_matches(name.lower(), by_lower, n=3)]
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    shown = ", ".join(known[:MAX_LISTED]) + (f", … ({len(known)} in all)" if len(known) > MAX_LISTED else "")
    return ValueError(f"unknown {what} {name!r}.{hint} Known: {shown or 'none'}. Change {setting}=…")


def missing_package(package: str, extra: str, note: str = "") -> ImportError:
    """The error for an optional package that is not installed; names the extra that installs it."""
    return ImportError(
        f"{package} is not installed: pip install worldmodel[{extra}]{note and '. ' + note}", name=package
    )


def check_returned(what: str, values: Any, *names: str) -> Any:
    """Check that an engine returned a tuple with one value for each name; returns it.

    Raises:
        TypeError: it returned something else; the message names the values.
    """
    if not isinstance(values, tuple | list) or len(values) != len(names):
        got = f"{len(values)} values" if isinstance(values, tuple | list) else type(values).__name__
        raise TypeError(f"{what}: expected to return ({', '.join(names)}), got {got}; {OLD_GYM}")
    return values


def to_python(value: Any) -> Any:
    """The Python value of a NumPy scalar; anything else unchanged, for the caller to check."""
    return value.item() if getattr(value, "shape", None) == () else value


def check_at_least(config: Any, least: float, *names: str) -> None:
    """Check that no field in `names` is below `least`.

    Raises:
        ValueError: a field is; the message names it.
    """
    for name in names:
        if getattr(config, name) < least:
            raise ValueError(f"{name}: expected at least {least}, got {getattr(config, name)}")


def check_one_of(config: Any, name: str, allowed: Iterable[Any]) -> None:
    """Check that the field `name` is one of `allowed`.

    Raises:
        ValueError: it is not; the message lists the allowed values.
    """
    if getattr(config, name) not in tuple(allowed):
        options = ", ".join(map(str, allowed))
        raise ValueError(f"{name}: expected one of {options}, got {getattr(config, name)!r}")

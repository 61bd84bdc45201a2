"""Actions of imported episodes: the action space that they all fit in, and their values in it.

Integers are choices from 0 to the greatest one, words are named choices, and other numbers lie between the least and
the greatest. The format may name a better space, and so may the user.
"""

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from worldmodel.data.convert.formats import EpisodeSource, ImportedEpisode
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.io.untrusted import UntrustedFileError, check_choices
from worldmodel.nn.actions import ActionEncoder

LARGEST = float(np.finfo(np.float32).max)

ActionSpec = int | tuple[float, float] | None  # from the user: the number of choices, or (least, greatest)
Kind = tuple[str, tuple[int, ...]]  # "words" or "numbers", and the shape of one action


def infer_action_space(source: EpisodeSource, spec: ActionSpec) -> tuple[Space, tuple[str, ...]]:
    """The space of all actions, and the names of its choices if they are words.

    Raises:
        ValueError: actions of several kinds or shapes, or actions that no model supports.
    """
    space, names = _infer(source, spec)
    for choices in getattr(space, "nvec", np.array(getattr(space, "n", 0))).ravel().tolist():
        check_choices("actions", choices)
    ActionEncoder(space)  # refuses unsupported spaces
    return space, names


def _infer(source: EpisodeSource, spec: ActionSpec) -> tuple[Space, tuple[str, ...]]:
    if spec is None and source.action_space is not None:
        return source.action_space, ()
    first_of: dict[Kind, str] = {}  # the first episode with this kind of actions
    actions: dict[str, np.ndarray] = {}
    for episode in source.episodes():
        first_of.setdefault(_kind(episode), episode.name)
        _check_one_kind(first_of)
        actions[episode.name] = episode.actions
        if spec is None and episode.actions.dtype.kind in "iu":
            _check_integers(episode)
    values = np.concatenate([*actions.values()])
    if values.dtype.kind == "U" and spec is None:
        names = np.unique(values).tolist()
        _check_capitals(names, actions)
        return Discrete(len(names)), tuple(names)
    return _number_space(values, spec), ()


def _kind(episode: ImportedEpisode) -> Kind:
    """Words or numbers, and the shape of one action.

    Raises:
        ValueError: neither, or numbers that are not finite; names the episode.
    """
    actions = episode.actions
    if not actions.ndim or 0 in actions.shape[1:]:
        raise ValueError(f"{episode.name}: actions: expected one for each step, (t,) or (t, n), got {actions.shape}")
    if actions.dtype.kind not in "biufU":
        raise ValueError(f"{episode.name}: actions: expected numbers or words, got {actions.dtype}")
    if actions.dtype.kind == "U" and actions.ndim > 1:
        raise ValueError(f"{episode.name}: actions: expected one word for each step, got {actions.shape}")
    if actions.dtype.kind == "f":
        check_finite(episode.name, "actions", actions)
    return "words" if actions.dtype.kind == "U" else "numbers", actions.shape[1:]


def _check_one_kind(first_of: dict[Kind, str]) -> None:
    if len(first_of) > 1:
        (one, first), (other, second) = list(first_of.items())[:2]
        raise ValueError(
            f"actions: expected one shape and kind in all episodes, got {one[0]} {one[1]} in {first} "
            f"and {other[0]} {other[1]} in {second}"
        )


def _check_integers(episode: ImportedEpisode) -> None:
    """Check integers as choices: the greatest one sets their number, and none may be negative."""
    if len(episode.actions):
        rows = episode.actions.reshape(len(episode.actions), -1)
        step, least = int(rows.max(axis=1).argmax()), int(rows.min(axis=1).argmin())
        check_choices(f"{episode.name}, step {step}: actions", int(rows[step].max()) + 1)
        if (value := rows[least].min()) < 0:
            where = f"{episode.name}, step {least}: actions"
            raise ValueError(f"{where}: expected choices >= 0, got {value}; numbers need actions=[least,greatest]")


def _check_capitals(names: list[str], actions: dict[str, np.ndarray]) -> None:
    """Refuse one word in two spellings, such as "Left" and "LEFT"; "a" and "A" may be two keys of a keyboard.

    Raises:
        ValueError: words of several letters that differ only in capital letters; names an episode for each.
    """
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(name.casefold(), name)
        if other != name and len(name) > 1:
            where = [next(each for each, values in actions.items() if word in values) for word in (other, name)]
            raise ValueError(
                f"actions: {other!r} in {where[0]} and {name!r} in {where[1]} differ in capital letters alone; "
                "use one spelling"
            )


def _number_space(values: np.ndarray, spec: ActionSpec) -> Space:
    shape = values.shape[1:]
    if isinstance(spec, tuple):
        if not -LARGEST <= spec[0] <= spec[1] <= LARGEST:
            raise ValueError(f"actions: expected [least,greatest], finite and in this order, got {[*spec]}")
        return Box(*spec, shape, np.float32)
    if spec is not None and spec < 1:
        raise ValueError(f"actions: expected 1 choice or more, got {spec}")
    if not len(values):
        raise ValueError("actions: expected at least one")
    if spec is None and values.dtype.kind == "f":
        numbers = values.astype(np.float32)
        return Box(numbers.min(axis=0), numbers.max(axis=0), shape, np.float32)
    choices = values.astype(np.int64).max(axis=0) + 1 if spec is None else np.full(shape, spec)
    return MultiDiscrete(choices) if shape else Discrete(int(choices))


def convert_actions(episode: ImportedEpisode, info: DatasetInfo) -> np.ndarray:
    """The actions of an episode as values of the dataset's space.

    Raises:
        ValueError: an action outside the space, or a fraction among choices.
    """
    space, values = info.action_space, episode.actions
    if info.action_names:
        values = np.searchsorted(np.array(info.action_names), values.astype(str))
    elif values.dtype.kind not in "biuf":
        raise ValueError(f"actions: expected numbers, got {values.dtype}: {values[:3].tolist()}, ...")
    check_finite(episode.name, "actions", values)
    with np.errstate(invalid="ignore", over="ignore"):
        actions = values.astype(space.dtype).reshape(len(values), *(space.shape or ()))
    if not isinstance(space, Box) and (actions.ravel() != values.ravel()).any():
        raise ValueError(f"actions: expected choices of {space}, got {values[:3].tolist()}, ...; set the key actions=")
    try:
        ActionEncoder(space).encode(actions)
    except ValueError as error:
        raise ValueError(f"{error}; the key actions= sets the allowed values") from error
    return actions


def check_finite(name: str, what: str, values: np.ndarray) -> None:
    """Refuse NaN, infinity and numbers too large for float32.

    Raises:
        UntrustedFileError: names the episode and the step.
    """
    with np.errstate(over="ignore"):
        wrong = ~np.isfinite(values.astype(np.float32)).reshape(len(values), -1).all(axis=1)
    if wrong.any():
        step = int(wrong.argmax())
        raise UntrustedFileError(
            f"{name}, step {step}: {what}: expected finite numbers below 3.4e38, got {values[step].tolist()}"
        )

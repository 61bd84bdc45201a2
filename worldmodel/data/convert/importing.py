"""Episodes that others made: what they have in common, and how they are taken in.

Frames come with three channels: grey is repeated, alpha is dropped. Channels may be first, as PyTorch has them.
Integers are choices from 0 to the greatest one that there is, words are choices with these names, other numbers lie
between the least and the greatest, unless the format or the user says better. Rewards and seeds that are not there
are 0; infos are left out. `Notes` says which of this was done.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from jaxtyping import UInt8
from PIL import Image

from worldmodel.data.convert.formats import EpisodeSource, ImportedEpisode
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.episode import Episode
from worldmodel.io.untrusted import UntrustedFileError, check_choices, check_frame, errors_name
from worldmodel.nn.actions import ActionEncoder

POLICY = "imported"  # no policy of scripts/collect.py: it adds nothing to what others made
LARGEST = float(np.finfo(np.float32).max)
SEVERAL = "size=[height,width] gives all frames one size"

ActionSpec = int | tuple[float, float] | None  # of the user: how many choices, or the least and the greatest number
Size = tuple[int, int] | None  # of the user: height and width


class Notes:
    """What was left out of episodes, and what was put in where they had nothing: counted, to be said in one line."""

    def __init__(self) -> None:
        self.episodes = 0
        self.absent: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()

    def add(self, found: ImportedEpisode, channels: int) -> None:
        self.episodes += 1
        self.absent.update(found.absent)
        self.left_out.update(found.left_out)
        self.left_out.update(["alpha channel"] if channels in (2, 4) else [])

    def line(self) -> str:
        """Empty where all was taken in."""
        values = {"rewards": "rewards (all 0)", "reward": "rewards (all 0)"}
        absent = [self._named(name, values.get(name, f"{name} (never)")) for name in self.absent]
        left_out = [self._named(name, name, self.left_out) for name in self.left_out]
        parts = [
            f"{label}: {', '.join(names)}" for label, names in (("missing", absent), ("left out", left_out)) if names
        ]
        return "; ".join(parts)

    def _named(self, name: str, shown: str, counts: Counter[str] | None = None) -> str:
        count = (self.absent if counts is None else counts)[name]
        return shown if count == self.episodes else f"{shown} in {count:,} of {self.episodes:,} episodes"


def infer_dataset_info(folder: Path, source: EpisodeSource, size: Size, actions: ActionSpec) -> DatasetInfo:
    """What the episodes of `folder` have in common; `size` is the height and width that their frames will get.

    Raises:
        ValueError: no episode with a frame, or actions of a kind that no model is made for.
    """
    first = next(source.episodes(), None)
    picture = None if first is None else next(iter(first.pictures()), None)
    if first is None:
        raise ValueError(f"{folder} holds no episode with a frame")
    if picture is None:
        raise ValueError(f"{first.name}: expected an episode with a frame, got none")
    if size is not None and min(size) < 1:
        raise ValueError(f"size: expected a height and width of 1 or more, got {list(size)}")
    with errors_name(f"{first.name}, frame 0"):
        height, width = size or channels_last(picture).shape[:2]
    check_frame("size", (height, width, 3))
    with errors_name(folder):
        space, names = _action_space(source, actions)
        for choices in getattr(space, "nvec", np.array(getattr(space, "n", 0))).ravel().tolist():
            check_choices("actions", choices)
        ActionEncoder(space)
    return DatasetInfo(space, (height, width, 3), seed=0, policy=POLICY, action_names=names)


def _action_space(source: EpisodeSource, given: ActionSpec) -> tuple[Space, tuple[str, ...]]:
    """The space of all actions, and the names of its choices where they are words."""
    if given is None and source.action_space is not None:
        return source.action_space, ()
    kinds: dict[tuple[str, tuple[int, ...]], str] = {}  # of actions: the first episode that has them
    every: dict[str, np.ndarray] = {}
    for found in source.episodes():
        kinds.setdefault(_kind(found), found.name)
        _check_same_kind(kinds)
        every[found.name] = found.actions
        if given is None and found.actions.dtype.kind in "iu":
            _check_choices(found)
    values = np.concatenate([*every.values()])
    if values.dtype.kind == "U" and given is None:
        names = np.unique(values).tolist()
        _check_capitals(names, every)
        return Discrete(len(names)), tuple(names)
    return _number_space(values, given), ()


def _check_capitals(names: list[str], every: dict[str, np.ndarray]) -> None:
    """Left and LEFT are one action that was written in two ways; a and A may be two keys of a keyboard.

    Raises:
        ValueError: names of several letters that differ in capital letters alone; says where each is.
    """
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(name.casefold(), name)
        if other != name and len(name) > 1:
            where = [next(each for each, actions in every.items() if word in actions) for word in (other, name)]
            raise ValueError(
                f"actions: {other!r} in {where[0]} and {name!r} in {where[1]} differ in capital letters alone; "
                "write them alike"
            )


def _kind(found: ImportedEpisode) -> tuple[str, tuple[int, ...]]:
    """Words or numbers, and the shape of one action.

    Raises:
        ValueError: neither, or numbers that are none; names the episode.
    """
    actions = found.actions
    if not actions.ndim or 0 in actions.shape[1:]:
        raise ValueError(f"{found.name}: actions: expected one for each step, (t,) or (t, n), got {actions.shape}")
    if actions.dtype.kind not in "biufU":
        raise ValueError(f"{found.name}: actions: expected numbers or words, got {actions.dtype}")
    if actions.dtype.kind == "U" and actions.ndim > 1:
        raise ValueError(f"{found.name}: actions: expected one word for each step, got {actions.shape}")
    if actions.dtype.kind == "f":
        check_finite(found.name, "actions", actions)
    return "words" if actions.dtype.kind == "U" else "numbers", actions.shape[1:]


def _check_same_kind(kinds: dict[tuple[str, tuple[int, ...]], str]) -> None:
    if len(kinds) > 1:
        (one, first), (other, second) = list(kinds.items())[:2]
        raise ValueError(
            f"actions: expected one shape and kind in all episodes, got {one[0]} {one[1]} in {first} "
            f"and {other[0]} {other[1]} in {second}"
        )


def _check_choices(found: ImportedEpisode) -> None:
    """Each integer is a choice: the greatest one says how many there are."""
    if len(found.actions):
        rows = found.actions.reshape(len(found.actions), -1)
        step, least = int(rows.max(axis=1).argmax()), int(rows.min(axis=1).argmin())
        check_choices(f"{found.name}, step {step}: actions", int(rows[step].max()) + 1)
        if (value := rows[least].min()) < 0:
            where = f"{found.name}, step {least}: actions"
            raise ValueError(f"{where}: expected choices >= 0, got {value}; numbers need actions=[least,greatest]")


def _number_space(values: np.ndarray, given: ActionSpec) -> Space:
    shape = values.shape[1:]
    if isinstance(given, tuple):
        if not -LARGEST <= given[0] <= given[1] <= LARGEST:
            raise ValueError(f"actions: expected [least,greatest], finite and in this order, got {[*given]}")
        return Box(*given, shape, np.float32)
    if given is not None and given < 1:
        raise ValueError(f"actions: expected 1 choice or more, got {given}")
    if not len(values):
        raise ValueError("actions: expected at least one")
    if given is None and values.dtype.kind == "f":
        numbers = values.astype(np.float32)
        return Box(numbers.min(axis=0), numbers.max(axis=0), shape, np.float32)
    choices = values.astype(np.int64).max(axis=0) + 1 if given is None else np.full(shape, given)
    return MultiDiscrete(choices) if shape else Discrete(int(choices))


def convert_episodes(source: EpisodeSource, info: DatasetInfo, size: Size, notes: Notes) -> Iterator[Episode]:
    """The episodes, numbered as they come; `notes` gathers what was left out.

    Raises:
        ValueError: frames and actions that do not fit together, frames of several sizes where `size` is None,
            numbers that are not finite, or actions outside the space; names the episode.
    """
    first = None
    for index, found in enumerate(source.episodes()):
        first = first or found.name
        fit = _Fit(info.frame_shape, first, resized=size is not None)
        frames = found.frames(fit)
        notes.add(found, fit.channels)
        if len(frames) != len(found.actions) + 1:
            raise ValueError(
                f"{found.name}: {len(frames)} frames need {len(frames) - 1} actions, each leading from one frame "
                f"to the next; got {len(found.actions)}"
            )
        with errors_name(found.name):
            actions = _as_actions(found, info)
            rewards = _as_rewards(found)
            yield Episode(frames, actions, rewards, found.terminated, found.truncated, found.seed, index)


def _as_actions(found: ImportedEpisode, info: DatasetInfo) -> np.ndarray:
    """Actions as the space has them. Raises ValueError for one outside, or a fraction where a choice should be."""
    space, values = info.action_space, found.actions
    if info.action_names:
        values = np.searchsorted(np.array(info.action_names), values.astype(str))
    elif values.dtype.kind not in "biuf":
        raise ValueError(f"actions: expected numbers, got {values.dtype}: {values[:3].tolist()}, ...")
    check_finite(found.name, "actions", values)
    with np.errstate(invalid="ignore", over="ignore"):
        actions = values.astype(space.dtype).reshape(len(values), *(space.shape or ()))
    if not isinstance(space, Box) and (actions.ravel() != values.ravel()).any():
        raise ValueError(f"actions: expected choices of {space}, got {values[:3].tolist()}, ...; actions= says what")
    try:
        ActionEncoder(space).encode(actions)
    except ValueError as error:
        raise ValueError(f"{error}; actions= says what they may be") from error
    return actions


def _as_rewards(found: ImportedEpisode) -> np.ndarray:
    rewards = np.zeros(len(found.actions), np.float32) if found.rewards is None else found.rewards
    if rewards.dtype.kind not in "biuf":
        raise ValueError(f"rewards: expected numbers, got {rewards.dtype}")
    if rewards.shape != (len(found.actions),):
        raise ValueError(f"rewards: expected one for each of {len(found.actions)} steps, got {rewards.shape}")
    check_finite(found.name, "rewards", rewards)
    return rewards.astype(np.float32)


def check_finite(name: str, what: str, values: np.ndarray) -> None:
    """Refuse NaN, infinity and what float32 makes infinity.

    Raises:
        UntrustedFileError: names the episode and the step.
    """
    with np.errstate(over="ignore"):
        odd = ~np.isfinite(values.astype(np.float32)).reshape(len(values), -1).all(axis=1)
    if odd.any():
        step = int(odd.argmax())
        raise UntrustedFileError(
            f"{name}, step {step}: {what}: expected finite numbers below 3.4e38, got {values[step].tolist()}"
        )


class _Fit:
    """Frames in three channels and of one size; `channels` is how many the last one came with."""

    def __init__(self, shape: tuple[int, int, int], first: str, resized: bool):
        self.shape, self.first, self.resized = shape, first, resized
        self.channels = 3

    def __call__(self, picture: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
        picture = channels_last(picture)
        height, width, self.channels = picture.shape
        if not self.resized and (height, width) != self.shape[:2]:
            raise ValueError(
                f"expected (height, width) {self.shape[:2]} as in {self.first}, got {(height, width)}; {SEVERAL}"
            )
        return _fitted(picture, self.shape)


def channels_last(picture: np.ndarray) -> UInt8[np.ndarray, "H W c"]:
    """A picture (h, w, c), (h, w) or (c, h, w) as (h, w, c), of 1 to 4 channels.

    Raises:
        ValueError: another type or shape. Four channels in front are frames one upon the other, not colours.
    """
    kind, shape = picture.dtype, picture.shape
    if kind != np.uint8 or picture.ndim not in (2, 3) or not picture.size:
        raise ValueError(f"expected uint8 pictures (h, w, c) or (h, w), got {kind} {shape}")
    if not picture.size:
        raise ValueError(f"expected pictures of 1 pixel or more, got {shape}")
    if picture.ndim == 2:
        return picture[..., None]
    if shape[2] in (1, 2, 3, 4):
        return picture
    if shape[0] in (1, 3):
        return picture.transpose(1, 2, 0)
    raise ValueError(
        f"expected pictures of 1 to 4 channels (h, w, c), or of 1 or 3 (c, h, w), got {shape}; "
        "of frames that are stacked, keep the newest"
    )


def _fitted(picture: UInt8[np.ndarray, "H W c"], shape: tuple[int, int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture in three channels and of this size, each new pixel the mean of the area that it covers."""
    height, width, _ = shape
    plain = np.ascontiguousarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    image = Image.fromarray(plain).convert("RGB")
    return np.asarray(image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BOX))

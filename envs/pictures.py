"""Which part of an observation is a picture: uint8 [h, w], [h, w, 1], [h, w, 3] or [h, w, 4], and not a code.

A code has symbols in place of colors, such as the 7×7×3 kinds of objects that MiniGrid observes. Shown as a picture, it
is black.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from worldmodel.envs.errors import unknown_name

CHANNELS = (1, 3, 4)
CODE_BELOW = 32  # a code has no value as large as this,
MOST_SYMBOLS = 16  # ... and at most so many different ones
PROBE_SEED = 0  # of the reset that shows whether a picture is a code
SETTINGS = "env.frames=render (or observation, to take it as it is)"


@dataclass(frozen=True)
class Source:
    """Where frames come from.

    key: the entry of a dict observation; "" is the observation itself, None what the environment renders.
    unused: the entries of the observation that no frame shows.
    passed_over: entries that look like pictures and are not taken: what each is, and what would make it a picture.
    """

    key: str | None
    unused: tuple[str, ...] = ()
    passed_over: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """The source in words."""
        if self.key is None:
            return "render()"
        return f"the entry {self.key!r} of the observation" if self.key else "the observation"


def find_picture(env: gymnasium.Env, name: str, frames: str, key: str) -> Source:
    """Where the frames of an environment come from. With frames="auto", it is reset once to see whether they are codes.

    name: its id, for messages. frames, key: as in `GenericConfig`.

    Raises:
        ValueError: there is no such key, no picture, more than one, or a code.
        TypeError: frames="observation", and the observation is not uint8.
    """
    space = env.observation_space
    if frames == "render":
        return Source(None, _unused(space, None))
    entries = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
    if key and key not in entries:
        raise unknown_name("key of the observation", key, entries, setting="env.key")
    asked = {each: entry for each, entry in entries.items() if key in ("", each)}
    passed_over = {each: reason for each, entry in asked.items() if (reason := _why_not(entry))}
    pictures = [each for each, entry in asked.items() if _is_picture(entry)]
    if frames == "auto" and pictures:
        codes = _codes(env, pictures)
        passed_over |= codes
        pictures = [each for each in pictures if each not in codes]
    if len(pictures) > 1:
        raise ValueError(f"{name}: several images in the observation: {', '.join(pictures)}; choose by env.key")
    if not pictures and (frames == "observation" or key):
        raise _no_picture(name, entries.get(key, space), passed_over.get(key))
    found = pictures[0] if pictures else None
    return Source(found, _unused(space, found), passed_over)


def is_code(image: Any) -> bool:
    """Whether an image is made of symbols: few different values, all of them small, and more than one."""
    values = np.unique(image)
    return bool(1 < len(values) <= MOST_SYMBOLS and values[-1] < CODE_BELOW)


def _is_picture(space: spaces.Space) -> bool:
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8:
        return False
    return len(space.shape) == 2 or (len(space.shape) == 3 and space.shape[2] in CHANNELS)


def _why_not(space: spaces.Space) -> tuple[str, str] | None:
    """What a space of pictures in an unusual form is, and what would make it one; None for any other space."""
    if not isinstance(space, spaces.Box) or _is_picture(space):
        return None
    shape = space.shape
    if len(shape) == 3 and shape[2] in CHANNELS:
        remedy = "return (255 * picture).round().astype('uint8'), and say so in the observation space"
        return f"pictures of {space.dtype}, where frames are uint8 in 0…255", remedy
    if len(shape) == 3 and shape[0] in CHANNELS and space.dtype == np.uint8:
        return f"pictures {list(shape)} with the channels first", "transpose them to [h, w, c]"
    if len(shape) == 4 and shape[3] in CHANNELS and space.dtype == np.uint8:
        return f"{shape[0]} stacked pictures", "remove the wrapper that stacks them"
    return None


def _codes(env: gymnasium.Env, names: list[str]) -> dict[str, tuple[str, str]]:
    """The pictures among `names` that are codes in the first observation of an episode, as in `passed_over`.

    An environment that cannot be reset says so later, in the reset of the first episode.
    """
    try:
        observation = env.reset(seed=PROBE_SEED)[0]
        images = {name: np.asarray(observation[name] if name else observation) for name in names}
        return {name: _describe_code(image) for name, image in images.items() if is_code(image)}
    except Exception:
        return {}
    finally:
        env.unwrapped._np_random = env.unwrapped._np_random_seed = None  # a reset without a seed stays a random one


def _describe_code(image: np.ndarray) -> tuple[str, str]:
    shape = "×".join(map(str, image.shape))
    what = f"a code of {shape} symbols with values {image.min()} to {image.max()}, not a picture"
    return what, "observe pixels (for MiniGrid, by its RGBImgPartialObsWrapper)"


def _unused(space: spaces.Space, key: str | None) -> tuple[str, ...]:
    if isinstance(space, spaces.Dict):
        return tuple(name for name in space.spaces if name != key)
    several = isinstance(space, spaces.Tuple | spaces.Sequence | spaces.Graph | spaces.OneOf)
    return (f"all of its {type(space).__name__}, since frames are what it renders",) if several else ()


def _no_picture(name: str, space: spaces.Space, reason: tuple[str, str] | None) -> Exception:
    if isinstance(space, spaces.Box) and len(space.shape) in (2, 3) and space.dtype != np.uint8:
        return TypeError(
            f"{name}: expected an image observation of uint8 in 0…255, got {space.dtype}; "
            "convert it in the environment, or set env.frames=render"
        )
    if reason:
        what, remedy = reason
        return ValueError(f"{name}: the observation is {what}: {remedy}, or set {SETTINGS}")
    return ValueError(
        f"{name}: expected an image observation [h, w], [h, w, 1] or [h, w, 3], got {space}; "
        "set env.frames=render to use its rendering"
    )

"""Checks of what users hand to the environments: settings, seeds, masks and options."""

import copy
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

from worldmodel.dream.spaces import as_array
from worldmodel.info import WorldInfo
from worldmodel.io.config import from_mapping
from worldmodel.prior import SamplerConfig

Horizon = int | Literal["trust"]
Seeds = int | np.integer | Sequence[int | None] | np.ndarray  # one for all, which counts up, or one for each


def whole_number(name: str, value: Any, least: int) -> int:
    """A setting as a whole number.

    Raises:
        TypeError: the value has another type.
        ValueError: it is below `least`. Both messages name the setting.
    """
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{name}: expected a whole number, got {value!r}")
    if number < least:
        raise ValueError(f"{name}: expected {least} or more, got {number}")
    return number


class StepLimit(NamedTuple):
    """Steps after which dreams are truncated (infinity: never), and what says so."""

    steps: float
    source: str


def step_limit(info: WorldInfo, horizon: Horizon | None, max_episode_steps: int | None) -> StepLimit:
    """The shorter one of `horizon` and `max_episode_steps`, as in `DreamVectorEnv`.

    Raises: ValueError and TypeError for anything but these; ValueError for "trust" where no trust horizon is known.
    """
    limit = _horizon(info, horizon)
    if max_episode_steps is None:
        return limit
    shorter = StepLimit(whole_number("max_episode_steps", max_episode_steps, least=1), "max_episode_steps")
    return min(limit, shorter, key=lambda each: each.steps)


def _horizon(info: WorldInfo, horizon: Horizon | None) -> StepLimit:
    if horizon is None:
        return _episode_length(info)
    if isinstance(horizon, str):
        return _trust_horizon(info, horizon)
    return StepLimit(whole_number("horizon", horizon, least=0) or np.inf, "horizon")


def _episode_length(info: WorldInfo) -> StepLimit:
    """The length of the real environment's episodes, or else of the longest one in the data."""
    own = info.env.get("max_steps") if info.max_steps is None else info.max_steps
    if own is not None:
        return StepLimit(whole_number("max_steps in the world's config.json", own, least=1), "environment")
    return StepLimit(info.longest, "longest episode") if info.longest else StepLimit(np.inf, "none")


def _trust_horizon(info: WorldInfo, word: str) -> StepLimit:
    if word != "trust":
        raise ValueError(f"horizon: expected a whole number or trust, got {word!r}")
    if info.trust_horizon is None:
        raise ValueError(
            "horizon=trust: the world's trust horizon was never measured; run evaluate first, or give a number of steps"
        )
    return StepLimit(max(info.trust_horizon, 1), "trust")  # 0 would mean: never


def surprise_limit(value: Any) -> float:
    """Bits of a step above which a dream is truncated; infinity for None.

    Raises: ValueError for anything but None and numbers of 0 or more.
    """
    if value is None:
        return np.inf
    if isinstance(value, bool) or not isinstance(value, float | int | np.number) or not value >= 0:
        raise ValueError(f"truncate_on_surprise: expected 0 bits or more, or None, got {value!r}")
    return float(value)


def sampler_config(value: Any) -> SamplerConfig | None:
    """The sampler from a config, a mapping of its settings, or None. Raises: TypeError for anything else."""
    sampler = from_mapping(SamplerConfig, value, "sampler") if isinstance(value, Mapping) else value
    if not isinstance(sampler, SamplerConfig | None):
        raise TypeError(f"sampler: expected a SamplerConfig, a mapping of its settings, or None, got {value!r}")
    return sampler


def check_render_mode(mode: Any) -> None:
    """Raises: ValueError for anything but None and "rgb_array"."""
    if mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode: expected None or rgb_array, got {mode!r}")


def reset_options(options: Any) -> dict[str, Any]:
    """A copy of the options of a reset. Raises: TypeError if they are no mapping."""
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"options: expected a mapping, got {options!r}")
    return dict(options or {})


def masked_places(mask: Any, count: int) -> np.ndarray:
    """The indices of the dreams that a mask selects; all of them without a mask.

    Raises: ValueError for a mask of another type or shape, or one that selects nothing.
    """
    if mask is None:
        return np.arange(count)
    mask = as_array(mask)
    if mask.dtype != np.bool_ or mask.shape != (count,) or not mask.any():
        raise ValueError(f"reset_mask: expected {count} booleans, one of them true, got {mask.dtype} {mask.shape}")
    return np.flatnonzero(mask)


def seed_of_each(seed: Seeds | None, count: int) -> list[int | None]:
    """One seed for each dream, from a single one, which counts up, or from a list.

    Raises: ValueError for a list of another length.
    """
    if seed is None:
        return [None] * count
    seeds: list[int | None] = np.asarray(seed, object).tolist() if np.ndim(seed) else []  # pyright: ignore
    if isinstance(seed, int | np.integer):
        seeds = [int(seed) + i for i in range(count)]
    if len(seeds) != count:
        raise ValueError(f"seed: expected a number or {count} of them, got {len(seeds)}")
    return seeds


def start_number(value: Any) -> int:
    """The number of a start context. Raises: ValueError for anything but a whole number of 0 or more."""
    try:
        return whole_number("options: start", value, least=0)
    except TypeError as error:
        raise ValueError(str(error)) from error


class JsonSpec:
    """An environment whose `spec`, the arguments of `gymnasium.make`, can be written as JSON."""

    _spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """The arguments that made the environment, with folders as text and modes by their value."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        if spec is not None:
            texts = {name: str(x) if isinstance(x, Path) else x for name, x in spec.kwargs.items()}
            spec = copy.copy(spec)
            spec.kwargs = {name: x.value if isinstance(x, AutoresetMode) else x for name, x in texts.items()}
        self._spec = spec

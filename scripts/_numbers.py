"""Limits of the numbers in a script's config, by the name of their key: most keys of one name mean one thing."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch

LARGEST = 2**63 - 1  # of integers in torch and NumPy
POSITIVE = 1e-9  # for numbers that may be small, but not 0
FINITE = 1e30  # for numbers that may be large, but not infinite

# Keys with their least and greatest value; "" and words under these names are no numbers, and pass.
LIMITS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("episodes", "planner_episodes", "rank_episodes", "rounds", "max_steps", "scale"), (1, LARGEST)),
    **dict.fromkeys(("steps", "tokenizer_steps", "prior_steps", "agent_steps", "horizon", "context"), (1, LARGEST)),
    **dict.fromkeys(("clips", "scenes", "dreams", "real_frames", "branches", "samples", "at", "turns"), (1, LARGEST)),
    **dict.fromkeys(("clip_latents", "batch_size", "envs", "n_steps", "n_epochs", "width"), (1, LARGEST)),
    **dict.fromkeys(
        ("workers", "retries", "eval_every", "eval_episodes", "start", "episode", "starts", "seed"), (0, LARGEST)
    ),
    **dict.fromkeys(("walk", "top_k", "temperature_until", "warmup_steps"), (0, LARGEST)),
    **dict.fromkeys(("timeout",), (POSITIVE, math.inf)),
    **dict.fromkeys(("fps",), (POSITIVE, 1000)),
    **dict.fromkeys(("learning_rate", "clip_range", "top_p"), (POSITIVE, FINITE)),
    **dict.fromkeys(("temperature", "ent_coef"), (0, FINITE)),
    **dict.fromkeys(("max_grad_norm", "truncate_on_surprise"), (0, math.inf)),
    **dict.fromkeys(("gamma", "gae_lambda", "discount"), (0, 1)),
    **dict.fromkeys(("hold",), (1, 1e9)),
}


def check_numbers(config: Any, path: str = "") -> None:
    """Refuse numbers that no part of the library can work with, and devices that are not there.

    Raises: ValueError names the key as the command line has it, the limits, and what it got.
    """
    for key, value in _entries(config):
        name = f"{path}.{key}" if path else key
        if key == "device":
            _check_device(name, value)
        elif isinstance(value, list | tuple):
            for item in value:
                _check(name, key, item)
        elif isinstance(value, int | float):
            _check(name, key, value)
        else:
            check_numbers(value, name)


def _entries(config: Any) -> list[tuple[str, Any]]:
    if is_dataclass(config):
        return [(field.name.removesuffix("_"), getattr(config, field.name)) for field in fields(config)]
    return [(str(key), value) for key, value in config.items()] if isinstance(config, Mapping) else []


def _check(name: str, key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    widest = LARGEST if isinstance(value, int) else math.inf
    low, high = LIMITS.get(key, (-widest, widest))
    if low <= value <= min(high, widest):
        return
    if value > high or value > widest or low == -widest or (high < LARGEST and low != POSITIVE):
        raise ValueError(f"{name}: expected {low:g} to {min(high, widest):g}, got {value}")
    raise ValueError(f"{name}: expected {'more than 0' if low == POSITIVE else f'at least {low}'}, got {value}")


def _check_device(name: str, value: str) -> None:
    there = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    there = ["cpu", *(["cuda"] if there else []), *there]
    if value not in there:
        raise ValueError(f"{name}: expected one of those that are here, {', '.join(there)}; got {value!r}")

"""What commands with models share: devices, environments of worlds, results that are up to date, and lines to print."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import torch
from torch import nn

from worldmodel import envs
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.info import WorldInfo
from worldmodel.io.config import from_mapping, to_dict
from worldmodel.io.hub.report import DEFAULT_TEMPERATURE, sampling_temperature
from worldmodel.io.json_files import read_checked_json
from worldmodel.io.model_folder import CONFIG, read_config
from worldmodel.io.untrusted import errors_name


def check_device(config: Any) -> None:
    """For the `__post_init__` of a config with a `device`. Raises: ValueError where this machine has no such device."""
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    devices = ["cpu", *(["cuda"] if cuda else []), *cuda]
    if config.device not in devices:
        raise ValueError(f"device: expected one that is here, {', '.join(devices)}; got {config.device!r}")


def real_env(info: WorldInfo) -> Callable[[], gymnasium.Env]:
    """Makes the environment that a world was learned from.

    Raises: ValueError if the world does not say which one.
    """
    if "name" not in info.env:
        raise ValueError("this world does not say which environment it was learned from (config.json, info.env)")
    return partial(envs.make, from_mapping(envs.schema(info.env["name"]), info.env, "env"))


def provenance(config: Any, world: Path, store: EpisodeStore | None) -> dict[str, Any]:
    """All that decides a result: the settings, the world's weights and temperature, and the episodes.

    Raises: ValueError if the world's config.json is damaged.
    """
    about, weights = read_config(world)
    with errors_name(world / CONFIG):
        drawn = sampling_temperature(about["info"])
    made = {"settings": to_dict(config), "world": weights, "episodes": store and store.fingerprint()}
    return made | ({} if drawn == DEFAULT_TEMPERATURE else {"temperature": list(drawn)})


def is_up_to_date(path: Path, made: dict[str, Any]) -> bool:
    """Whether the result at `path` is complete and was made with exactly this."""
    try:
        return read_checked_json(path).get("made_with") == made
    except ValueError:  # missing, damaged, or changed by hand
        return False


def load_matching(model: nn.Module, earlier: nn.Module) -> None:
    """Load the weights of an earlier model that have the same shape; new rewards change the outcome head.

    Raises: ValueError if most weights have another shape.
    """
    known, weights = model.state_dict(), earlier.state_dict()
    fitting = {name: x for name, x in weights.items() if name in known and known[name].shape == x.shape}
    if len(fitting) < len(weights) // 2 or len(fitting) < len(known) // 2:
        raise ValueError("init: expected a model of the same shape; give the settings that it was trained with")
    keep = {name for name in fitting if name.endswith((".log_weight", ".rewards"))}  # these belong to the new data
    model.load_state_dict({k: v for k, v in fitting.items() if k not in keep}, strict=False)


def parameters(model: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(p.numel() for p in model.parameters())


def format_metrics(metrics: dict[str, float]) -> str:
    """Metrics on one line."""
    return ", ".join(f"{name.rpartition('/')[2]} {value:.4g}" for name, value in metrics.items())

"""The steps of a run for a program whose environment is an object: the code and the results of the commands."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium

from worldmodel.cli.command import Command
from worldmodel.cli.steps import train_prior, train_tokenizer
from worldmodel.cli.steps.collect import CollectConfig, collect_into
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.envs.gymnasium_env import GenericConfig, GenericEnv
from worldmodel.io.config import from_mapping
from worldmodel.world import WorldModel

FOR_TOKENIZER = 0.45  # share of the minutes
FRAMES = ("frames", "key", "height", "width", "frame_skip", "action_names")  # settings of `GenericConfig`


def collect(make_env: Callable[[], gymnasium.Env], run: str | Path, **settings: Any) -> EpisodeStore:
    """Collect episodes of any Gymnasium environment into RUN/episodes, as `worldmodel collect` does.

    make_env: makes the environment. Frames come from its observation, or from render() if it has render_mode
        "rgb_array". It is called once in each worker process.
    settings: episodes, workers, policy, max_steps, seed and the other keys of `worldmodel collect`, and height, width,
        frames, key, frame_skip and action_names of `env=gymnasium`.

    Returns the episodes; a second call collects those that are missing.

    Raises:
        TypeError: a setting that does not exist.
        ValueError: a value out of range, an environment without frames, or pictures that no world can learn from.
        SystemExit: episodes could not be collected, status 1; the others are complete.
    """
    shown = {name: settings.pop(name) for name in FRAMES if name in settings}
    frames = from_mapping(GenericConfig, shown, "env")
    config = from_mapping(CollectConfig, {"run": str(run), "workers": 0, **settings})
    return collect_into(config, partial(GenericEnv, frames, make_env), {})


def train(
    run: str | Path,
    *,
    minutes: float | None = None,
    preset: str = "demo",
    tokenizer: Mapping[str, Any] | None = None,
    prior: Mapping[str, Any] | None = None,
) -> WorldModel:
    """Train tokenizer and prior on RUN/episodes, as `worldmodel train-tokenizer` and `train-prior` do.

    minutes: time for both together; None: the steps of the preset. A call that was stopped continues when repeated.
    preset: named settings, see `worldmodel train-prior --help`; "quick" has the models of `worldmodel make`.
    tokenizer, prior: more settings of each, such as {"fit.steps": 500, "tokenizer.width": 48}.

    Returns the world, which is also in RUN/world.

    Raises:
        ValueError: a setting that does not exist, a value out of range, or a run that holds another training.
    """
    shares = (FOR_TOKENIZER, 1 - FOR_TOKENIZER)
    parts = zip((train_tokenizer.main, train_prior.main), (tokenizer, prior), shares, strict=True)
    for step, given, share in parts:
        settings: dict[str, Any] = {"run": run, "preset": preset}
        settings |= {} if minutes is None else {"minutes": minutes * share}
        _do(step, {**settings, **(given or {})})
    return WorldModel.load(Path(run) / "world")


def _do(step: Command[Any], settings: Mapping[str, Any]) -> None:
    step.work(step.config([f"{key}={_typed(value)}" for key, value in settings.items()]))


def _typed(value: Any) -> str:
    """A value as it is typed on the command line."""
    return value if isinstance(value, str) else str(value) if isinstance(value, Path) else json.dumps(value)

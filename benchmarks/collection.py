"""Speed of collection, compared with an environment whose episodes are not recorded."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from measure import Row, preset, row, seconds

from worldmodel import envs
from worldmodel.data.collect.collect import MakeEnv, collect, dataset_info_of
from worldmodel.data.collect.policies import make_policy
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.config import from_mapping, to_dict

EPISODES, ALONE = 96, 16  # by workers that start first; by this process
PAIRS = 5


def collection(folder: Path) -> Iterator[Row]:
    """The demo's episodes; those that the workers collect stay in the folder, for others to use."""
    settings = preset("collect")
    config = from_mapping(envs.schema(settings["env"]["name"]), settings["env"], "env")
    make_env = partial(envs.make, config)
    how: dict[str, Any] = {name: settings[name] for name in ("policy", "hold", "seed", "max_steps")}
    env = make_env()
    info = dataset_info_of(env, to_dict(config), frame_skip=config.frame_skip, **how)
    how["max_steps"] = info.max_steps
    env.close()
    ratios, rates = [], []
    for _ in range(PAIRS):
        with tempfile.TemporaryDirectory() as aside:
            report = collect(make_env, EpisodeStore.create(aside, info), ALONE, **how, progress=False)
        bare = bare_rate(make_env, info, report.frames)
        rates.append(report.frames_per_s)
        ratios.append(report.frames_per_s / bare)
    note = f"{median(rates):.0f} against {median(rates) / median(ratios):.0f} steps/s of ViZDoom"
    yield row("steps/s with recording ÷ bare env loop, one worker", median(ratios), "", least=0.85, note=note)
    speeds = {}
    for workers in (1, 2):
        store = EpisodeStore.create(folder / f"by_{workers}", info)
        speeds[workers] = collect(make_env, store, EPISODES, **how, workers=workers, progress=False).frames_per_s
    note = f"{speeds[2]:.0f} against {speeds[1]:.0f} steps/s, start of the workers included"
    yield row("steps/s of 2 workers ÷ 1 worker", speeds[2] / speeds[1], "", least=1.7, note=note)


def bare_rate(make_env: MakeEnv, info: DatasetInfo, steps: int) -> float:
    """Steps a second of a new env under the same policy, with nothing kept; its start counts on both sides."""
    policy = make_policy(info.policy, info.action_space, np.random.default_rng(0), info.hold)

    def loop() -> None:
        env = make_env()
        observation, _ = env.reset(seed=0)
        count = 0
        for _ in range(steps):
            observation, _, terminated, truncated, _ = env.step(policy(observation))
            count += 1
            if terminated or truncated or count == info.max_steps:
                observation, _ = env.reset()
                count = 0
        env.close()

    return steps / seconds(loop)

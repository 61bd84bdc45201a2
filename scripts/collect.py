"""Collect episodes from an environment into RUN/episodes."""

from _run import script

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import envs
from worldmodel.config import to_dict, typed
from worldmodel.data.collect import Failure, collect, describe
from worldmodel.data.store import EpisodeStore


@dataclass
class CollectConfig:
    """The keys of configs/collect.yaml, explained there."""

    run: Path
    after: Path | None
    env: dict[str, Any]
    episodes: int
    workers: int
    seed: int
    policy: str
    hold: float
    max_steps: int | None
    info_keys: tuple[str, ...]
    retries: int
    timeout: float | None


@script(CollectConfig)
def main(config: CollectConfig) -> None:
    env_config = typed(envs.schema(config.env.get("name", "")), config.env, "env")
    make_env = partial(envs.make, env_config)
    how = {"policy": config.policy, "hold": config.hold, "seed": config.seed}
    how |= {"max_steps": config.max_steps, "info_keys": config.info_keys}
    env = make_env()
    info = describe(env, to_dict(env_config), frame_skip=getattr(env_config, "frame_skip", None), **how)
    env.close()
    store = EpisodeStore.create(config.run / "episodes", info)
    if config.after is not None:
        store.adopt(EpisodeStore.open(config.after / "episodes"))
    safety = {"workers": config.workers, "retries": config.retries, "timeout": config.timeout}
    report = collect(make_env, store, config.episodes, **safety, **how)
    frames = sum(store.lengths.values())
    print(f"episodes: {len(store.indices)} with {frames:,} frames in {store.folder}", end="")
    tried = report.episodes or report.failures
    print(f" ({report.episodes} new, {report.frames_per_s:,.0f} frames/s)" if tried else " (nothing to do)")
    if report.failures:
        tell(report.failures)
        raise SystemExit(1)


def tell(failures: tuple[Failure, ...]) -> None:
    """Which episodes are missing, and what to do about them."""
    for each in failures:
        print(f"missing: episode {each.index} (env seed {each.seed}): {each.problem}", file=sys.stderr)
    print(
        f"error: {len(failures)} episodes are missing, the others are whole: run the same command again to try them "
        "once more, with a longer timeout= if they were only slow, or train without them",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()

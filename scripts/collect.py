"""Collect episodes from an environment into RUN/episodes."""

from _run import script

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import envs
from worldmodel.data.collect.collect import CollectReport, Failure, collect
from worldmodel.data.collect.preview import preview
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.config import from_mapping, to_dict


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
    how = {"policy": config.policy, "hold": config.hold, "seed": config.seed}
    how |= {"max_steps": config.max_steps, "info_keys": config.info_keys}
    safety = {"workers": config.workers, "timeout": config.timeout}
    try:
        env_config = from_mapping(envs.schema(config.env.get("name", "")), config.env, "env")
        make_env = partial(envs.make, env_config)
        frame_skip = getattr(env_config, "frame_skip", None)
        seen = preview(make_env, to_dict(env_config), frame_skip=frame_skip, **safety, **how)
    except TypeError as error:  # a value of the wrong kind, or an environment of one
        raise ValueError(str(error)) from error
    if seen.unused:
        print(f"not kept of the observation: {', '.join(seen.unused)}")
    store = EpisodeStore.create(config.run / "episodes", seen.info)
    if config.after is not None:
        load_matching(config.after, store)
    report = collect(make_env, store, config.episodes, retries=config.retries, **safety, **how)
    frames = sum(store.lengths.values())
    print(f"episodes: {len(store.indices)} with {frames:,} frames in {store.folder}", end="")
    tried = report.episodes or report.failures
    print(f" ({report.episodes} new, {report.frames_per_s:,.0f} frames/s)" if tried else " (nothing to do)")
    remark(report, config.max_steps)
    if report.failures:
        tell(report.failures)
        raise SystemExit(1)


def load_matching(run: Path, store: EpisodeStore) -> None:
    """Take over the episodes of an earlier run, and say of how many the settings are others."""
    came = store.link_from(EpisodeStore.open(run / "episodes"))
    others = len(store.origins())
    where = f"; {others} episodes here have other settings, listed in origins.json" if others else ""
    print(f"{came} episodes of {run} taken over{where}")


def remark(report: CollectReport, max_steps: int | None) -> None:
    """What a person may not have meant."""
    if report.cut:
        print(f"cut at max_steps={max_steps}: {report.cut} of the {report.episodes} new episodes")
    if report.episodes and not report.rewarded:
        print("every reward of the new episodes is 0")


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

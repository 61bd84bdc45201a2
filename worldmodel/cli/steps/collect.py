"""Collect episodes from an environment into RUN/episodes. Run it again to collect the ones that are missing."""

import math
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from worldmodel import envs
from worldmodel.cli.command import RunConfig, command
from worldmodel.data.collect.collect import CollectReport, Failure, collect
from worldmodel.data.collect.preview import preview
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.config import LARGEST, POSITIVE, check_range, from_mapping, to_dict


@dataclass
class CollectConfig(RunConfig):
    """Settings of `worldmodel collect`."""

    continue_from: Path | None = None
    """Folder of an earlier run whose episodes become the first ones of this run (null: none)."""
    env: dict[str, Any] = field(default_factory=dict)
    """Settings of the environment; `name` says which one it is."""
    episodes: int = 200
    """How many episodes the run has in the end."""
    workers: int = 2
    """Processes, each with its own engine. With 0, this process collects, and a crash of the engine ends it."""
    seed: int = 0
    """Seed of the whole set. Episode i depends on the seed and on i alone."""
    policy: str = "sticky"
    """random, sticky (holds each action for a while), module:function of your own, or a trained agent:
    worldmodel.agents.sb3:load_policy:FOLDER."""
    hold: float = 6.0
    """Mean steps for which the policy `sticky` holds an action."""
    max_steps: int | None = 250
    """Longest episode, in steps (null: as long as the environment lets it)."""
    info_keys: tuple[str, ...] = ()
    """Numbers of the environment's info to keep beside the frames, such as [pose]."""
    retries: int = 2
    """Further tries at an episode whose engine raised an error, crashed or hung; other episodes go on."""
    timeout: float | None = 600
    """Seconds after which an engine counts as hung in an episode, its start included (null: never)."""

    def __post_init__(self) -> None:
        check_range(self, 1, LARGEST, "episodes", "max_steps")
        check_range(self, 0, LARGEST, "workers", "seed", "retries")
        check_range(self, 1, 1e9, "hold")
        check_range(self, POSITIVE, math.inf, "timeout")


@command(CollectConfig)
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
    if config.continue_from is not None:
        link_episodes(config.continue_from, store)
    report = collect(make_env, store, config.episodes, retries=config.retries, **safety, **how)
    frames = sum(store.lengths.values())
    print(f"episodes: {len(store.indices)} with {frames:,} frames in {store.folder}", end="")
    tried = report.episodes or report.failures
    print(f" ({report.episodes} new, {report.frames_per_s:,.0f} frames/s)" if tried else " (nothing to do)")
    print_remarks(report, config.max_steps)
    if report.failures:
        print_failures(report.failures)
        raise SystemExit(1)


def link_episodes(run: Path, store: EpisodeStore) -> None:
    """Add the episodes of an earlier run, and print how many were made with other settings."""
    added = store.link_from(EpisodeStore.open(run / "episodes"))
    others = len(store.origins())
    where = f"; {others} episodes here were made with other settings, see origins.json" if others else ""
    print(f"{added} episodes of {run} added{where}")


def print_remarks(report: CollectReport, max_steps: int | None) -> None:
    """Print what may not be intended: episodes cut short, rewards that are all 0."""
    if report.cut:
        print(f"cut at max_steps={max_steps}: {report.cut} of the {report.episodes} new episodes")
    if report.episodes and not report.rewarded:
        print("every reward of the new episodes is 0")


def print_failures(failures: tuple[Failure, ...]) -> None:
    """Print which episodes are missing, and what to do about them."""
    for each in failures:
        print(f"missing: episode {each.index} (env seed {each.seed}): {each.problem}", file=sys.stderr)
    print(
        f"error: {len(failures)} episodes are missing, the others are complete. Run the same command again to try the "
        "missing ones once more, with a longer timeout= if the engine is slow; or train without them",
        file=sys.stderr,
    )

"""Collect episodes from an environment into RUN/episodes. Run it again to collect the ones that are missing."""

import itertools
import math
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from worldmodel import envs
from worldmodel.cli.command import RunConfig, command, slug
from worldmodel.data.check.check import check_env
from worldmodel.data.check.findings import Findings
from worldmodel.data.collect.collect import CollectReport, EngineError, Failure, MakeEnv, collect
from worldmodel.data.episodes.claim import is_unused
from worldmodel.data.episodes.dataset_info import FILE as DATASET
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.config import LARGEST, POSITIVE, check_range, from_mapping, to_dict

LOOK: dict[str, Any] = {"played": 2, "steps": 64, "seconds": 5.0}  # limits of the look before a collection


@dataclass
class EpisodesConfig(RunConfig):
    """Which episodes to collect."""

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
    max_steps: int | Literal["auto"] | None = "auto"
    """Longest episode, in steps (null: as long as the environment lets it; auto: the environment's own limit, or 250
    if it has none up to 10,000)."""
    info_keys: tuple[str, ...] = ()
    """Numbers of the environment's info to keep beside the frames, such as [pose]."""
    timeout: float | None = 600
    """Seconds after which an engine counts as hung in an episode, its start included (null: never)."""

    def __post_init__(self) -> None:
        check_range(self, 1, LARGEST, "episodes", *([] if self.max_steps == "auto" else ["max_steps"]))
        check_range(self, 0, LARGEST, "workers", "seed")
        check_range(self, 1, 1e9, "hold")
        check_range(self, POSITIVE, math.inf, "timeout")


@dataclass
class CollectConfig(EpisodesConfig):
    """Settings of `worldmodel collect`."""

    retries: int = 2
    """Further tries at an episode whose engine raised an error, crashed or hung; other episodes go on."""
    continue_from: Path | None = None
    """Folder of an earlier run whose episodes become the first ones of this run (null: none)."""
    check: bool = True
    """Look at two short episodes first, and refuse pictures that no world can learn from. RUN/check.png shows them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, 0, LARGEST, "retries")


@command(CollectConfig)
def main(config: CollectConfig) -> None:
    collect_into(config, *environment(config))


def collect_into(config: CollectConfig, make_env: MakeEnv, described: dict[str, Any]) -> EpisodeStore:
    """Look at the environment, and collect its episodes into RUN/episodes.

    described: the settings of the environment as plain values, by which another program can make it.

    Raises:
        ValueError: an environment that cannot be, or pictures that no world can learn from.
        SystemExit: episodes are missing, status 1; the lines that are printed say why.
    """
    refuse_other_env(config.run, described)
    info = look_first(config, make_env, described)
    store = EpisodeStore.create(config.run / "episodes", info)
    if config.continue_from is not None:
        link_episodes(config.continue_from, store)
    how = settings(config) | {"max_steps": info.max_steps, "workers": config.workers, "timeout": config.timeout}
    report = collect(make_env, store, config.episodes, retries=config.retries, **how)
    frames = sum(store.lengths.values())
    print(f"episodes: {len(store.indices)} with {frames:,} frames in {store.folder}", end="")
    tried = report.episodes or report.failures
    print(f" ({report.episodes} new, {report.frames_per_s:,.0f} frames/s)" if tried else " (nothing to do)")
    print_remarks(report, info.max_steps)
    if report.failures:
        print_failures(report.failures)
        raise SystemExit(1)
    return store


def environment(config: EpisodesConfig) -> tuple[MakeEnv, dict[str, Any]]:
    """What makes the environment, and its settings as plain values.

    Raises: ValueError for an unknown environment or setting, or a value of the wrong kind.
    """
    try:
        env_config = from_mapping(envs.schema(config.env.get("name", "")), config.env, "env")
    except TypeError as error:
        raise ValueError(str(error)) from error
    return partial(envs.make, env_config), to_dict(env_config)


def refuse_other_env(run: Path, described: dict[str, Any]) -> None:
    """Refuse a run that holds episodes of another environment, before any is played.

    Raises: ValueError; the message names a run that is free.
    """
    episodes = run / "episodes"
    if is_unused(episodes) or not (episodes / DATASET).is_file():
        return
    there, here = (env.get("id") or env.get("name") for env in (DatasetInfo.load(episodes).env, described))
    if there and here and there != here:
        raise ValueError(f"{episodes} holds episodes of {there}; for {here} name another run: {free_run(described)}")


def free_run(env: dict[str, Any]) -> str:
    """A run for an environment, such as run=runs/my_env, whose folder does not exist."""
    name = slug(env)
    names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return "run=" + next(f"runs/{each}" for each in names if not Path("runs", each).exists())


def settings(config: EpisodesConfig) -> dict[str, Any]:
    """The settings that decide the content of episodes, aside from the environment's."""
    return {name: getattr(config, name) for name in ("policy", "hold", "seed", "max_steps", "info_keys")}


def examine(config: EpisodesConfig, make_env: MakeEnv, described: dict[str, Any], **look: Any) -> Findings:
    """Look at the environment; `look` has the limits of that.

    Raises: ValueError for an environment that cannot be.
    """
    how = {"episodes": config.episodes, "workers": config.workers, "timeout": config.timeout, **settings(config)}
    try:
        return check_env(make_env, described, frame_skip=described.get("frame_skip"), **how, **look)
    except TypeError as error:  # an environment of the wrong kind
        raise ValueError(str(error)) from error


def look_first(config: CollectConfig, make_env: MakeEnv, described: dict[str, Any]) -> DatasetInfo:
    """Print what a world would see, unless all is collected; returns the settings of the episodes.

    Raises: ValueError for an environment that cannot be, or pictures that no world can learn from.
    """
    there = len(list((config.run / "episodes").glob("episode_*.h5")))
    look = LOOK if config.check and there < config.episodes else {"played": 0}
    try:
        findings = examine(config, make_env, described, **look)
    except EngineError as error:
        if not look["played"]:
            raise
        findings = examine(config, make_env, described, played=0)  # a crash in an episode costs that one alone
        print(f"warning: {error}")
    if look["played"]:
        print(findings.short())
    if findings.look.played:
        print(f"pictures: {findings.write_sheet(config.run / 'check.png')}")
    if findings.refusals:
        raise ValueError(f"{findings.refusals[0].text}. See {config.run / 'check.png'}; check=false collects anyway")
    return findings.info


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

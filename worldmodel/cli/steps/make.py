"""Make a world of an environment: collect, train tokenizer and prior, imagine a video, measure.

Each part gets a share of the minutes. If the command is stopped or killed, the same one continues; parts that are
done already take no time. The parts are the commands collect, train-tokenizer, train-prior, rollout and evaluate.
"""

import time
from dataclasses import dataclass, field
from typing import Any

from worldmodel.cli.command import RunConfig, command
from worldmodel.cli.steps import collect, evaluate, rollout, train_prior, train_tokenizer
from worldmodel.evaluate.page.run_page import write_run_page
from worldmodel.io.config import LARGEST, POSITIVE, check_range
from worldmodel.io.json_files import read_checked_json, write_checked_json

STEPS = {
    "collect": collect, "train_tokenizer": train_tokenizer, "train_prior": train_prior,
    "rollout": rollout, "evaluate": evaluate,
}  # fmt: skip
SHARES = {"collect": 0.1, "train_tokenizer": 0.27, "train_prior": 0.4}  # of the minutes; the rest goes to the others
TRAININGS = ("train_tokenizer", "train_prior")
LOOK: dict[str, Any] = {"played": 8, "seconds": 5.0}  # limits of the look that shows how long an episode takes
FEWEST_EPISODES, FRAMES_A_MINUTE = 16, 6000  # of the set, in the end
PLAN = "make.json"


@dataclass
class MakeConfig(RunConfig):
    """Settings of `worldmodel make`."""

    preset: str = "${hydra:runtime.choices.preset}"
    """The preset of every part."""
    env: dict[str, Any] = field(default_factory=dict)
    """Settings of the environment; `name` says which one it is."""
    minutes: float = 10
    """Time for everything together, about; on a machine that is busy it takes longer."""
    fresh: bool = False
    """Move other trainings that are there to NAME.old-1 and start anew (false: refuse them)."""
    seed: int = 0
    """Everything is a function of the seed, and of the numbers of episodes and steps."""
    overrides: dict[str, tuple[str, ...]] = field(default_factory=lambda: {name: () for name in STEPS})
    """More settings of a part: 'overrides.collect=["policy=random"]'."""

    def __post_init__(self) -> None:
        check_range(self, POSITIVE, LARGEST, "minutes")
        check_range(self, 0, LARGEST, "seed")
        if unknown := [name for name in self.overrides if name not in STEPS]:
            raise ValueError(f"overrides.{unknown[0]}: expected one of {', '.join(STEPS)}")


@command(MakeConfig)
def main(config: MakeConfig) -> None:
    start = time.monotonic()
    refuse_other_time(config)
    parts = {name: part(config, name) for name in STEPS}
    parts["collect"].episodes = episodes = planned_episodes(config, parts["collect"])
    print(plan(parts), flush=True)
    for name, module in STEPS.items():
        begin = time.monotonic()
        print(f"== {name.replace('_', '-')}", flush=True)
        module.main.work(parts[name])
        print(f"== {name.replace('_', '-')} took {time.monotonic() - begin:.0f} s", flush=True)
        if name == "collect":
            write_checked_json(config.run / PLAN, {"episodes": episodes, "minutes": config.minutes})
    print(f"page: {write_run_page(config.run)}")
    print(f"everything took {(time.monotonic() - start) / 60:.1f} minutes; the world is {config.run / 'world'}")


def refuse_other_time(config: MakeConfig) -> None:
    """Raises: ValueError if the run was made in another time; its trainings are as long as that allowed."""
    path = config.run / PLAN
    if path.is_file() and (before := read_checked_json(path).get("minutes")) != config.minutes:
        raise ValueError(
            f"minutes: {config.run} was made in {before} minutes, and its episodes and trainings stay; expected "
            f"minutes={before}, or another run="
        )


def plan(parts: dict[str, Any]) -> str:
    """What will be done, on one line."""
    trainings = (f"{name.replace('_', '-')} {parts[name].minutes:.2g} minutes" for name in TRAININGS)
    return f"plan: {parts['collect'].episodes} episodes, {', '.join(trainings)}, then a video and a report"


def part(config: MakeConfig, name: str) -> Any:
    """The config of one part, with its share of the time; `overrides` have the last word."""
    given = {"preset": config.preset, "run": config.run}
    if name in TRAININGS:
        given |= {"minutes": config.minutes * SHARES[name], "fresh": config.fresh, "fit.seed": config.seed}
    elif name != "evaluate":
        given["seed"] = config.seed
    arguments = [f"{key}={value}" for key, value in given.items()]
    made = STEPS[name].main.config([*arguments, *config.overrides.get(name, ())])
    if name == "collect":
        made.env = config.env
    return made


def planned_episodes(config: MakeConfig, settings: collect.CollectConfig) -> int:
    """How many episodes the run gets: by the length and time of a few that are only looked at.

    When all are collected, the number is in RUN/make.json, so a second call plans nothing else.
    """
    path = config.run / PLAN
    if path.is_file():
        return int(read_checked_json(path)["episodes"])
    if any(each.startswith("episodes=") for each in config.overrides.get("collect", ())):
        return settings.episodes
    findings = collect.examine(settings, *collect.environment(settings), **LOOK)
    if not findings.look.played:
        return FEWEST_EPISODES  # the collection will say why nothing can be played
    steps, seconds, _ = findings.of_an_episode()
    in_time = config.minutes * 60 * SHARES["collect"] / max(seconds, 1e-9)
    return max(FEWEST_EPISODES, int(min(in_time, config.minutes * FRAMES_A_MINUTE / steps)))

"""Play in the real environment: random, planner and trained agents, with intervals; and whether dreams rank them."""

from _run import made_already, real_env, script

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.agents import Agent, RandomAgent
from worldmodel.agents.planner import Planner, PlannerConfig
from worldmodel.agents.sb3 import PolicyAgent
from worldmodel.evaluate.agents import dream_returns, ranking, returns
from worldmodel.evaluate.statistics.results import bootstrap
from worldmodel.io.config import to_dict
from worldmodel.io.hub import world_folder
from worldmodel.io.model_folder import read_checked_json, read_config, write_checked_json
from worldmodel.io.progress import progress
from worldmodel.world import WorldModel


@dataclass
class EvaluateAgentConfig:
    """The keys of configs/evaluate_agent.yaml, explained there."""

    run: Path
    runs: tuple[Path, ...]
    world: Path | None
    out: Path
    agents: dict[str, tuple[str, ...]]
    planners: dict[str, PlannerConfig]
    hold: float
    episodes: int
    planner_episodes: int
    max_steps: int | None
    rank: str | None
    rank_episodes: int
    seed: int
    device: str


@script(EvaluateAgentConfig)
def main(config: EvaluateAgentConfig) -> None:
    made = {"settings": to_dict(config), "weights": weights(config)}
    if not made_already(config.out, made):
        write_checked_json(config.out, {"made_with": made, **play(config)})
    found = read_checked_json(config.out)
    for name, figures in found["returns"].items():
        print(f"  {name:12} {figures['mean']:9.3f}  [{figures['low']:.3f}, {figures['high']:.3f}]  {figures['count']}")
    for run, figures in found["ranking"].items():
        print(f"  {run}: " + ", ".join(f"{name} {format_metric(value)}" for name, value in figures.items()))
    print(f"report: {config.out}")


def format_metric(value: float | None) -> str:
    """A figure of a ranking, in three digits."""
    return "not applicable" if value is None else f"{value:.3g}"


def weights(config: EvaluateAgentConfig) -> dict[str, str]:
    """What stands behind the names: the weights of each world and agent."""
    parts = [part for group in config.agents.values() for part in group]
    folders = [path for run in config.runs for path in (world_of(config, run), *(run / part for part in parts))]
    if missing := [folder for folder in folders if not (folder / "config.json").exists()]:
        raise ValueError(
            f"{missing[0]} holds no agent; run scripts/train_agent.py, or name other folders in agents.NAME="
        )
    return {str(folder): read_config(folder)[1] for folder in folders}


def world_of(config: EvaluateAgentConfig, run: Path) -> Path:
    """The folder of the world that a run's agents dream of."""
    return world_folder(run / "world" if config.world is None else config.world)


def play(config: EvaluateAgentConfig) -> dict[str, Any]:
    """Returns of each agent over all runs, each run with its own world and its own agents."""
    found: dict[str, list[np.ndarray]] = {}
    ranked = {}
    for number, run in enumerate(config.runs):
        world = WorldModel.load(world_of(config, run), config.device)
        if world.info.action_space is None:
            raise ValueError(f"{world_of(config, run)}: this world has no actions for an agent to choose from")
        playing = partial(returns, real_env(world.info), seed=config.seed + number, max_steps=config.max_steps)
        space, trained, planners = world.info.action_space, config.agents, config.planners
        agents: list[tuple[str, Agent, int]] = [("random", RandomAgent(space), config.episodes)]
        agents += [("sticky", RandomAgent(space, "sticky", config.hold), config.episodes)]
        agents += [(name, PolicyAgent.load(run / path), config.episodes) for name in trained for path in trained[name]]
        agents += [(name, Planner(world, planners[name]), config.planner_episodes) for name in planners]
        for name, agent, episodes in progress(agents, f"{run}", total=len(agents), unit="agent"):
            found.setdefault(name, []).append(playing(agent, episodes))
        if config.rank is not None:
            ranked[str(run)] = rank(config, world, run / config.rank, playing)
    intervals = {name: to_dict(bootstrap(groups)) for name, groups in found.items()}
    episodes = {name: [group.tolist() for group in groups] for name, groups in found.items()}
    return {"returns": intervals, "ranking": ranked, "episodes": episodes}


def rank(config: EvaluateAgentConfig, world: WorldModel, folder: Path, playing: Any) -> dict[str, float | None]:
    """How well dreams rank the agents in a folder."""
    agents = {
        path.name: PolicyAgent.load(path) for path in sorted(folder.iterdir()) if (path / "config.json").is_file()
    }
    real, dreamed = {}, {}
    for name, agent in progress(agents.items(), f"{folder}", total=len(agents), unit="agent"):
        real[name] = playing(agent, config.rank_episodes)
        dreamed[name] = dream_returns(agent, world, config.rank_episodes, config.seed)
    means = {
        f"{where}/{name}": float(np.mean(x))
        for where, of in (("real", real), ("dream", dreamed))
        for name, x in of.items()
    }
    return ranking(real, dreamed) | means


if __name__ == "__main__":
    main()

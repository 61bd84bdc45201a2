"""Measure agents in the real environment, and whether dreams rank them as it does.

The agents are random ones, planners and trained ones. Mean returns with bootstrap 95 % intervals (over runs, and over
episodes within a run) go to OUT. So do, for the agents of one training, Spearman's correlation of dreamed and real
returns, regret@1, and the agents that exploit the dream.
"""

import shlex
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from worldmodel.agents import Agent, Policy, RandomAgent
from worldmodel.agents.planner import Planner, PlannerConfig
from worldmodel.agents.sb3 import PolicyAgent
from worldmodel.cli.command import RunConfig, command
from worldmodel.cli.models import check_device, is_up_to_date, real_env
from worldmodel.evaluate.agents import dream_returns, ranking, returns
from worldmodel.evaluate.statistics.nested import nested_bootstrap
from worldmodel.io.config import LARGEST, check_range, to_dict
from worldmodel.io.hub.names import world_folder
from worldmodel.io.json_files import read_checked_json, write_checked_json
from worldmodel.io.model_folder import read_config
from worldmodel.io.progress import progress
from worldmodel.world import WorldModel


@dataclass
class EvaluateAgentConfig(RunConfig):
    """Settings of `worldmodel evaluate-agent`."""

    runs: tuple[Path, ...] = (Path("${run}"),)
    """Folders of runs, such as [runs/a,runs/b]: the same experiment with other seeds."""
    world: Path | None = None
    """Folder or name of one world for all runs (null: the world of each run). With the name of a world that comes
    with the package, `run` is runs/NAME unless it is given."""
    out: Path = Path("${run}/agents.json")
    """File of the results."""
    agents: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"dream": ("agent",)})
    """For each name, folders in each run of agents that differ only in their seed."""
    planners: dict[str, PlannerConfig] = field(default_factory=lambda: {"cem": PlannerConfig()})
    """For each name, a planner: kind (cem, shooting), candidates, horizon, iterations, elites, discount."""
    hold: float = 5.0
    """Mean steps for which the sticky random policy holds an action."""
    episodes: int = 100
    """Real episodes of each agent and run."""
    planner_episodes: int = 10
    """Real episodes of each planner and run."""
    max_steps: int | None = None
    """Longest real episode, in steps (null: as long as the environment lets it)."""
    rank: str | None = "agent/checkpoints"
    """Folder in each run with the agents that dreams rank (null: none)."""
    rank_episodes: int = 32
    """Real and dreamed episodes of each of these agents."""
    seed: int = 1000
    """Episodes are functions of the seed."""
    device: str = "cpu"
    """cpu or cuda."""

    def __post_init__(self) -> None:
        check_range(self, 1, LARGEST, "episodes", "planner_episodes", "max_steps", "rank_episodes")
        check_range(self, 1, 1e9, "hold")
        check_range(self, 0, LARGEST, "seed")
        check_device(self)


@command(EvaluateAgentConfig)
def main(config: EvaluateAgentConfig) -> None:
    made = {"settings": to_dict(config), "weights": weights(config)}
    if not is_up_to_date(config.out, made):
        write_checked_json(config.out, {"made_with": made, **play(config)})
    found = read_checked_json(config.out)
    for name, mean in found["returns"].items():
        print(f"  {name:12} {mean['mean']:9.3f}  [{mean['low']:.3f}, {mean['high']:.3f}]  {mean['count']}")
    for run, values in found["ranking"].items():
        print(f"  {run}: " + ", ".join(f"{name} {format_metric(value)}" for name, value in values.items()))
    print(f"report: {config.out}")


def format_metric(value: float | None) -> str:
    """A value of a ranking, in three digits."""
    return "not applicable" if value is None else f"{value:.3g}"


def weights(config: EvaluateAgentConfig) -> dict[str, str]:
    """The hash of the weights of each world and agent, by folder."""
    parts = [part for group in config.agents.values() for part in group]
    worlds = [world_of(config, run) for run in config.runs]
    agents = [(run, run / part) for run in config.runs for part in parts]
    for run, folder in agents:
        if not (folder / "config.json").exists():
            command = shlex.join(["worldmodel", "train-agent", *settings_of(config, run, folder)])
            raise ValueError(f"{folder} holds no agent; `{command}` makes it, or set agents.NAME= to other folders")
    if config.rank is not None and (absent := [run for run in config.runs if not (run / config.rank).is_dir()]):
        raise ValueError(f"{absent[0] / config.rank} holds no agents to rank; rank=null ranks none")
    folders = [*worlds, *(folder for _, folder in agents)]
    return {str(folder): read_config(folder)[1] for folder in folders}


def settings_of(config: EvaluateAgentConfig, run: Path, folder: Path) -> list[str]:
    """The settings of `worldmodel train-agent` that make the agent in a folder."""
    world = [] if config.world is None else [f"world={config.world}"]
    return [f"run={run}", *world, *([] if folder == run / "agent" else [f"out={folder}"])]


def world_of(config: EvaluateAgentConfig, run: Path) -> Path:
    """The folder of the world that a run's agents dream in."""
    return world_folder(run / "world" if config.world is None else config.world)


def play(config: EvaluateAgentConfig) -> dict[str, Any]:
    """Returns of each agent over all runs; each run has its own world and agents."""
    found: dict[str, list[np.ndarray]] = {}
    ranked = {}
    for number, run in enumerate(config.runs):
        world = WorldModel.load(world_of(config, run), config.device)
        if world.info.action_space is None:
            raise ValueError(f"{world_of(config, run)}: this world has no actions, so no agent can play")
        playing = partial(returns, real_env(world.info), seed=config.seed + number, max_steps=config.max_steps)
        space, trained, planners = world.info.action_space, config.agents, config.planners
        agents: list[tuple[str, Agent, int]] = [("random", RandomAgent(space), config.episodes)]
        agents += [("sticky", RandomAgent(space, "sticky", config.hold), config.episodes)]
        agents += [(name, PolicyAgent.load(run / path), config.episodes) for name in trained for path in trained[name]]
        agents += [(name, Planner(world, planners[name]), config.planner_episodes) for name in planners]
        with progress(name=f"{run}", total=sum(each[-1] for each in agents), unit="episode") as bar:
            for name, agent, episodes in agents:
                found.setdefault(name, []).append(playing(Counted(agent, bar), episodes))
        if config.rank is not None:
            ranked[str(run)] = rank(config, world, run / config.rank, playing)
    intervals = {name: to_dict(nested_bootstrap(groups)) for name, groups in found.items()}
    episodes = {name: [group.tolist() for group in groups] for name, groups in found.items()}
    return {"returns": intervals, "ranking": ranked, "episodes": episodes}


class Counted:
    """An agent that moves a progress bar by one at the start of each of its episodes."""

    def __init__(self, agent: Agent, bar: tqdm):
        self.agent, self.bar = agent, bar

    def episode(self, rng: np.random.Generator) -> Policy:
        self.bar.update()
        return self.agent.episode(rng)


def rank(config: EvaluateAgentConfig, world: WorldModel, folder: Path, playing: Any) -> dict[str, float | None]:
    """How well dreams rank the agents in a folder, and the mean returns of each."""
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

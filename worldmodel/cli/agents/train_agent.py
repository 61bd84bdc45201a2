"""Train an agent by PPO in dreams of a world, and measure it in the real environment.

PPO is that of Stable-Baselines3. The agent goes to OUT, its state at each evaluation to OUT/checkpoints, its curves
to OUT/logs_1. If it is stopped or killed, the same command continues: in dreams to the last bit, in the real
environment with new episodes. Needs worldmodel[agents].
"""

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, VecNormalize

from worldmodel.agents.encoded_env import EncodedEnv, check_spaces
from worldmodel.agents.sb3 import DreamVecEnv, PolicyAgent, PPOConfig, make_ppo, ppo_agent
from worldmodel.agents.sb3_actions import ActionAdapter
from worldmodel.cli.agents.resume import FOLDER, Resume
from worldmodel.cli.command import WorldConfig, command
from worldmodel.cli.models import is_up_to_date, load_matching, real_env
from worldmodel.dream import action_space
from worldmodel.evaluate.agents import returns
from worldmodel.evaluate.statistics.nested import nested_bootstrap
from worldmodel.io.config import LARGEST, check_range, to_dict
from worldmodel.io.hub.names import world_folder
from worldmodel.io.json_files import read_checked_json, write_checked_json
from worldmodel.io.lock import writer_lock
from worldmodel.io.model_folder import CONFIG, read_config
from worldmodel.io.progress import progress
from worldmodel.io.untrusted import errors_name
from worldmodel.kernels.threads import threads
from worldmodel.world import WorldModel


@dataclass
class DreamConfig:
    """Where training dreams start and end, see `DreamVectorEnv`."""

    starts: Literal["resets", "anywhere"] = "anywhere"
    """Where dreams start: at the starts of episodes (resets), or anywhere within episodes."""
    horizon: int | str | None = None
    """Steps after which a dream is truncated; trust: the world's trust horizon, which evaluate measures (null: as many
    as real episodes have)."""
    truncate_on_surprise: float | None = None
    """A dream is truncated at a step that carries more bits than this (null: never)."""

    def __post_init__(self) -> None:
        if not isinstance(self.horizon, str):
            check_range(self, 1, LARGEST, "horizon")
        elif self.horizon != "trust":
            raise ValueError(f"horizon: expected a number of steps or trust, got {self.horizon!r}")
        check_range(self, 0, math.inf, "truncate_on_surprise")


@dataclass
class TrainAgentConfig(WorldConfig):
    """Settings of `worldmodel train-agent`."""

    out: Path = Path("${run}/agent")
    """Folder of the agent."""
    source: Literal["dream", "real"] = "dream"
    """Where the agent trains: in dreams, or in the real environment, as a comparison."""
    init: Path | None = None
    """Folder of an agent that is trained further (null: none)."""
    dream: DreamConfig = field(default_factory=DreamConfig)
    """Where dreams start and end."""
    ppo: PPOConfig = field(default_factory=PPOConfig)
    """How the agent is trained."""
    eval_every: int = 10_000
    """Steps between evaluations in the real environment (0: only at the end)."""
    eval_episodes: int = 10
    """Real episodes of each evaluation (0: none, so the real environment is not needed)."""
    max_steps: int | None = None
    """Longest real episode, in steps (null: as long as the environment lets it)."""
    seed: int = 0
    """The agent's weights, its actions and the dreams are functions of the seed."""

    def __post_init__(self) -> None:
        check_range(self, 1, LARGEST, "max_steps")
        check_range(self, 0, LARGEST, "eval_every", "eval_episodes", "seed")


@command(TrainAgentConfig)
def main(config: TrainAgentConfig) -> None:
    config.world = world_folder(config.world)
    record = config.out / "agent.json"
    made = made_of(config)
    if not is_up_to_date(record, made):
        world = WorldModel.load(config.world)
        check_world(config, world)
        with writer_lock(config.out, "training"):
            record.unlink(missing_ok=True)  # from here on the files are in between
            found = train(config, world, made)
            write_checked_json(record, {"made_with": made, "real_returns": found})
            shutil.rmtree(config.out / FOLDER, ignore_errors=True)
    found = read_checked_json(record)["real_returns"]
    measured = ", ".join(f"{step}: {mean:.4g}" for step, mean in found.items()) or "not measured"
    print(f"agent: {config.out}; mean real return by step: {measured}")


def made_of(config: TrainAgentConfig) -> dict[str, Any]:
    """What decides the agent: the settings, the weights of the world, and its trust horizon if that ends dreams."""
    about, weights = read_config(config.world)
    made = {"settings": to_dict(config), "world": weights}
    with errors_name(config.world / CONFIG):
        trusted = about["info"].get("trust_horizon")
    ends_dreams = config.source == "dream" and config.dream.horizon == "trust"
    return made | ({"trust_horizon": trusted} if ends_dreams else {})


def check_world(config: TrainAgentConfig, world: WorldModel) -> None:
    """Refuse, before any training, a world on which no agent can be trained or measured.

    Raises: ValueError, TypeError, or ImportError if the real environment is needed and its engine is not installed.
    """
    if world.info.action_space is None:
        raise ValueError("this world has no actions, so there is nothing for an agent to choose")
    ActionAdapter(action_space(world), world.info.action_scale)
    if (make_env := environment(config, world)) is not None:
        env = make_env()
        try:
            check_spaces(env, world)
        finally:
            env.close()


def environment(config: TrainAgentConfig, world: WorldModel) -> Callable[[], gymnasium.Env] | None:
    """Makes the real environment; None if the training needs none.

    Raises: ValueError if it is needed and the world does not say which one it is.
    """
    if config.source == "dream" and not config.eval_episodes:
        return None
    try:
        return real_env(world.info)
    except ValueError as error:
        raise ValueError(f"{error}; source=dream eval_episodes=0 trains in dreams alone") from error


def train(config: TrainAgentConfig, world: WorldModel, made: dict[str, Any]) -> dict[str, float]:
    """The mean real return at each evaluation."""
    make_env = environment(config, world)
    env = VecMonitor(dreams(config, world) if config.source == "dream" else reality(config, world, make_env))
    env.seed(config.seed)
    normal, scale = VecNormalize(env, norm_obs=False, gamma=config.ppo.gamma), world.info.action_scale
    model = make_ppo(normal, config.ppo, config.seed, config.out, scale)
    if config.init is not None:
        load_matching(model.policy, PolicyAgent.load(config.init).policy)
    check = RealReturn(config, world, make_env)
    resume = Resume(config.out, made, check.progress, config.seed)
    saved = resume.find()
    with threads(saved.progress["threads"] if saved else None):
        resume.take_up(model, saved)
        bar = Progress(config.ppo.steps, resume.steps)
        how: dict[str, Any] = {"tb_log_name": "logs", "log_interval": 1, "reset_num_timesteps": saved is None}
        model.learn(config.ppo.steps - resume.steps, CallbackList([check, resume, bar]), **how)
        bar.bar.close()
        check.measure()
    env.close()
    return check.found


def dreams(config: TrainAgentConfig, world: WorldModel) -> VecEnv:
    return DreamVecEnv(config.ppo.envs, world=world, obs=config.ppo.policy.obs, **to_dict(config.dream))


def reality(config: TrainAgentConfig, world: WorldModel, make_env: Any) -> VecEnv:
    """The real environment, observed as dreams are, so that two agents differ only in where they were trained."""

    def make() -> gymnasium.Env:
        env = make_env() if config.max_steps is None else gymnasium.wrappers.TimeLimit(make_env(), config.max_steps)
        return EncodedEnv(env, world, config.ppo.policy.obs)

    return DummyVecEnv([make] * config.ppo.envs)


class RealReturn(BaseCallback):
    """Regularly measures the mean return in the real environment, and saves the agent to OUT/checkpoints."""

    def __init__(self, config: TrainAgentConfig, world: WorldModel, make_env: Any):
        super().__init__()
        self.config, self.world = config, world
        self.returns = partial(returns, make_env, episodes=config.eval_episodes, seed=config.seed + 1)
        self.progress: dict[str, Any] = {"next": config.eval_every, "found": {}}  # a resumed training goes on with it

    @property
    def found(self) -> dict[str, float]:
        """The mean real return by step."""
        return self.progress["found"]

    def _on_rollout_end(self) -> None:
        if self.config.eval_every and self.progress["next"] <= self.num_timesteps < self.config.ppo.steps:
            self.progress["next"] += self.config.eval_every
            self.measure()

    def _on_step(self) -> bool:
        return True

    def measure(self) -> None:
        """Save the agent, and measure it if `eval_episodes` is not 0."""
        assert isinstance(self.model, PPO)
        agent = ppo_agent(self.model, self.world, self.config.ppo.policy)
        for folder in (self.config.out, self.config.out / "checkpoints" / f"{self.num_timesteps:09d}"):
            agent.save(folder)
        if self.config.eval_episodes:
            found = self.returns(agent=agent, max_steps=self.config.max_steps)
            mean = nested_bootstrap([found]).mean
            self.found[str(self.num_timesteps)] = mean
            self.logger.record("real/return", mean)
            self.logger.record("real/return_std", float(np.std(found)))
        self.model.policy.train()


class Progress(BaseCallback):
    """A bar over all steps."""

    def __init__(self, steps: int, done: int):
        super().__init__()
        self.bar = progress(name="agent", total=steps, done=done, unit="step")

    def _on_step(self) -> bool:
        self.bar.update(self.training_env.num_envs)
        return True

"""Repeat: collect with the newest agent, train the world further, train the agent in it.

This is the loop of Dyna (Sutton 1991). The first round collects by the preset's policy. Round i is a run of its own,
RUN/round_i, made by the other commands. If it is stopped or killed, the same command continues.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldmodel.cli.command import RunConfig, command
from worldmodel.cli.errors import ROOT
from worldmodel.io.config import LARGEST, check_range

SHUTDOWN_SECONDS = 10.0  # that a command has to end by itself after Ctrl-C
COMMANDS = ("collect", "train_tokenizer", "train_prior", "train_agent")


@dataclass
class ImproveConfig(RunConfig):
    """Settings of `worldmodel improve`; `run` is the folder of the rounds."""

    preset: str = "${hydra:runtime.choices.preset}"
    """The preset of every command."""
    rounds: int = 3
    """How many rounds."""
    episodes: int = 100
    """New episodes of each round."""
    tokenizer_steps: int = 600
    """Training steps of the tokenizer in each round after the first, which takes those of the preset."""
    prior_steps: int = 1000
    """Likewise, of the prior."""
    agent_steps: int = 100_000
    """Likewise, of the agent."""
    seed: int = 0
    """All rounds are functions of the seed."""
    overrides: dict[str, tuple[str, ...]] = field(default_factory=lambda: {name: () for name in COMMANDS})
    """More settings of a command, in every round: 'overrides.train_agent=["ppo.envs=16"]'."""

    def __post_init__(self) -> None:
        check_range(self, 1, LARGEST, "rounds", "episodes", "tokenizer_steps", "prior_steps", "agent_steps")
        check_range(self, 0, LARGEST, "seed")
        if unknown := [name for name in self.overrides if name not in COMMANDS]:
            raise ValueError(f"overrides.{unknown[0]}: expected one of {', '.join(COMMANDS)}")


@command(ImproveConfig)
def main(config: ImproveConfig) -> None:
    for number in range(config.rounds):
        for name, settings in steps(config, number):
            call(config, name, settings)
    print(f"agent: {folder(config, config.rounds - 1) / 'agent'}")


def folder(config: ImproveConfig, number: int) -> Path:
    return config.run / f"round_{number}"


def steps(config: ImproveConfig, number: int) -> list[tuple[str, dict[str, Any]]]:
    """The commands of one round and their settings: the first round's are the preset's, later ones train further."""
    settings_of: dict[str, dict[str, Any]] = {
        "collect": {"episodes": config.episodes * (number + 1), "seed": config.seed},
        "train_tokenizer": {"fit.seed": config.seed},
        "train_prior": {"fit.seed": config.seed},
        "train_agent": {"seed": config.seed + number},
    }
    if number:
        before = folder(config, number - 1)
        settings_of["collect"] |= {
            "continue_from": before,
            "policy": f"worldmodel.agents.sb3:load_policy:{before / 'agent'}",
        }
        settings_of["train_tokenizer"] |= {"init": before, "fit.steps": config.tokenizer_steps}
        settings_of["train_prior"] |= {"init": before, "fit.steps": config.prior_steps}
        settings_of["train_agent"] |= {"init": before / "agent", "ppo.steps": config.agent_steps}
    return [(name, {"run": folder(config, number), **settings}) for name, settings in settings_of.items()]


def call(config: ImproveConfig, name: str, settings: dict[str, Any]) -> None:
    """Run a command in its own process; it continues where it was stopped, and does nothing twice.

    Raises: SystemExit with the status of a command that fails.
    """
    values = [f"{key}={value}" for key, value in {"preset": config.preset, **settings}.items()]
    arguments = [name.replace("_", "-"), *values, *config.overrides.get(name, ())]
    print("$", shlex.join(["worldmodel", *arguments]), flush=True)
    with subprocess.Popen([sys.executable, "-m", "worldmodel", *arguments], env=own_environment()) as process:
        try:
            status = process.wait()
        except SystemExit as leaving:
            forward_stop(process, leaving.code)
            raise
    if status:
        raise SystemExit(status)


def own_environment() -> dict[str, str]:
    """The environment variables of this process; Python finds this very package first."""
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *([before] if before else [])])}


def forward_stop(process: subprocess.Popen, status: Any) -> None:
    """Ask a command to stop, as this one was asked to; it saves its state before it ends.

    Ctrl-C at a terminal reaches the command too, so a second signal is sent only if it does not end by itself.
    """
    if status == 128 + signal.SIGINT:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SHUTDOWN_SECONDS)
    if process.poll() is None:
        process.terminate()

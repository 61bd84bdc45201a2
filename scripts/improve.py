"""The loop: collect with the newest agent, train the world a little more, train the agent in it, and again."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _run import script


@dataclass
class ImproveConfig:
    """The keys of configs/improve.yaml, explained there."""

    run: Path
    preset: str
    rounds: int
    episodes: int
    tokenizer_steps: int
    prior_steps: int
    agent_steps: int
    seed: int
    overrides: dict[str, tuple[str, ...]]


@script(ImproveConfig)
def main(config: ImproveConfig) -> None:
    for number in range(config.rounds):
        for name, settings in steps(config, number):
            call(config, name, settings)
    print(f"agent: {folder(config, config.rounds - 1) / 'agent'}")


def folder(config: ImproveConfig, number: int) -> Path:
    return config.run / f"round_{number}"


def steps(config: ImproveConfig, number: int) -> list[tuple[str, dict[str, Any]]]:
    """The scripts of one round and what they are told: the first as the preset says, the others go on from there."""
    told: dict[str, dict[str, Any]] = {
        "collect": {"episodes": config.episodes * (number + 1), "seed": config.seed},
        "train_tokenizer": {"fit.seed": config.seed},
        "train_prior": {"fit.seed": config.seed},
        "train_agent": {"seed": config.seed + number},
    }
    if number:
        before = folder(config, number - 1)
        told["collect"] |= {"after": before, "policy": f"worldmodel.agents.sb3:collecting:{before / 'agent'}"}
        told["train_tokenizer"] |= {"init": before, "fit.steps": config.tokenizer_steps}
        told["train_prior"] |= {"init": before, "fit.steps": config.prior_steps}
        told["train_agent"] |= {"init": before / "agent", "ppo.steps": config.agent_steps}
    return [(name, {"run": folder(config, number), **settings}) for name, settings in told.items()]


def call(config: ImproveConfig, name: str, settings: dict[str, Any]) -> None:
    """Run a script in a process of its own; it goes on where it was stopped, and does nothing twice.

    Raises: SystemExit with its status where it fails.
    """
    values = [f"{key}={value}" for key, value in {"preset": config.preset, **settings}.items()]
    command = ["python", f"scripts/{name}.py", *values, *config.overrides.get(name, ())]
    print("$", " ".join(command), flush=True)
    status = subprocess.run([sys.executable, str(Path(__file__).with_name(f"{name}.py")), *command[2:]]).returncode
    if status:
        raise SystemExit(status)


if __name__ == "__main__":
    main()

"""The loop: collect with the newest agent, train the world a little more, train the agent in it, and again."""

from _run import script

import contextlib
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 10.0  # seconds that a script has to end by itself after Ctrl-C


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
    """The scripts of one round and their settings: the first as the preset says, the others go on from there."""
    settings_of: dict[str, dict[str, Any]] = {
        "collect": {"episodes": config.episodes * (number + 1), "seed": config.seed},
        "train_tokenizer": {"fit.seed": config.seed},
        "train_prior": {"fit.seed": config.seed},
        "train_agent": {"seed": config.seed + number},
    }
    if number:
        before = folder(config, number - 1)
        settings_of["collect"] |= {"after": before, "policy": f"worldmodel.agents.sb3:load_policy:{before / 'agent'}"}
        settings_of["train_tokenizer"] |= {"init": before, "fit.steps": config.tokenizer_steps}
        settings_of["train_prior"] |= {"init": before, "fit.steps": config.prior_steps}
        settings_of["train_agent"] |= {"init": before / "agent", "ppo.steps": config.agent_steps}
    return [(name, {"run": folder(config, number), **settings}) for name, settings in settings_of.items()]


def call(config: ImproveConfig, name: str, settings: dict[str, Any]) -> None:
    """Run a script in a process of its own; it goes on where it was stopped, and does nothing twice.

    Raises: SystemExit with its status where it fails.
    """
    values = [f"{key}={value}" for key, value in {"preset": config.preset, **settings}.items()]
    command = ["python", f"scripts/{name}.py", *values, *config.overrides.get(name, ())]
    print("$", shlex.join(command), flush=True)
    script = str(Path(__file__).with_name(f"{name}.py"))
    with subprocess.Popen([sys.executable, script, *command[2:]]) as process:
        try:
            status = process.wait()
        except SystemExit as leaving:
            hand_on(process, leaving.code)
            raise
    if status:
        raise SystemExit(status)


def hand_on(process: subprocess.Popen, status: Any) -> None:
    """Ask a script to stop, as this one was asked; it saves what it has before it ends.

    Ctrl-C at a terminal reached it as well: a second signal comes only where it does not end by itself.
    """
    if status == 128 + signal.SIGINT:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
    if process.poll() is None:
        process.terminate()


if __name__ == "__main__":
    main()

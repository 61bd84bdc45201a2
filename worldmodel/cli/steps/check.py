"""Play a few episodes and show what a world would see of them, before any is collected.

`worldmodel check env.id=my_module:MyEnv-v0` prints which picture is taken and its size, the actions, rewards and ends.
It also prints the speed, the time and disk that `collect` needs with the same keys, and what to set. A picture of
eight moments goes to OUT. The exit status is 2 where no world can learn from what is seen.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from worldmodel.cli.command import command
from worldmodel.cli.steps.collect import EpisodesConfig, environment, examine
from worldmodel.data.check.check import EPISODES, SECONDS
from worldmodel.io.config import FINITE, LARGEST, POSITIVE, check_range


@dataclass
class CheckConfig(EpisodesConfig):
    """Settings of `worldmodel check`."""

    out: Path = Path("check.png")
    """Where the picture of eight moments goes."""
    played: int = EPISODES
    """How many episodes to play, of at most 1,000 steps each."""
    seconds: float = SECONDS
    """How long to play at most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, 1, LARGEST, "played")
        check_range(self, POSITIVE, FINITE, "seconds")


@command(CheckConfig)
def main(config: CheckConfig) -> None:
    findings = examine(config, *environment(config), played=config.played, seconds=config.seconds)
    print(findings)
    if findings.look.played:
        print(f"pictures: {findings.write_sheet(config.out)}")
    if findings.refusals or not findings.look.played:
        print("error: no world can learn from this; see the lines above", file=sys.stderr)
        raise SystemExit(2)

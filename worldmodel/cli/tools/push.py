"""Upload a world to the Hugging Face Hub.

Its folder there holds weights, config, and a card with the metrics of RUN/report.json. Needs pip install
"worldmodel[hub]" and, once, `hf auth login`.
"""

import shlex
from dataclasses import dataclass

from worldmodel.cli.command import WorldConfig, command
from worldmodel.io.hub.names import world_folder
from worldmodel.io.hub.transfer import push


@dataclass(kw_only=True)
class PushConfig(WorldConfig):
    """Settings of `worldmodel push`."""

    repo: str
    """Name of the repository, OWNER/NAME; it is made if it does not exist."""
    private: bool = True
    """Whether a repository that is made here is visible to its owner alone."""
    endpoint: str = ""
    """Address of another Hub than the public one (empty: the public one)."""


@command(PushConfig)
def main(config: PushConfig) -> None:
    world, report = world_folder(config.world), config.run / "report.json"
    settings = {"private": config.private, "endpoint": config.endpoint}
    address = push(world, config.repo, report=report if report.is_file() else None, **settings)
    print(f"pushed: {address}\nload it: WorldModel.load('hf://{config.repo}')")
    if not report.is_file():
        command = f"`worldmodel evaluate {shlex.quote(f'run={config.run}')}`"
        print(f"the card has no results: {report} is missing; {command} makes it, then push again")

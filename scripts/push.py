"""Put RUN/world on the Hugging Face Hub, with a card that tells the figures of RUN/report.json."""

from _run import script

from dataclasses import dataclass
from pathlib import Path

from worldmodel.io.hub.names import world_folder
from worldmodel.io.hub.transfer import push


@dataclass
class PushConfig:
    """The keys of configs/push.yaml, explained there."""

    run: Path
    world: Path
    repo: str
    private: bool
    endpoint: str


@script(PushConfig)
def main(config: PushConfig) -> None:
    report = config.run / "report.json"
    settings = {"private": config.private, "endpoint": config.endpoint}
    address = push(world_folder(config.world), config.repo, report=report if report.is_file() else None, **settings)
    print(f"pushed: {address}\nload it: WorldModel.load('hf://{config.repo}')")


if __name__ == "__main__":
    main()

"""Play a world in the browser, with the real environment beside the dream.

The address of the page is printed. Everything that is recorded goes to OUT: videos, and episodes that training can use.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gymnasium

from worldmodel.cli.command import WorldConfig, command
from worldmodel.cli.models import check_device, real_env
from worldmodel.io.config import check_range
from worldmodel.io.hub.names import world_folder
from worldmodel.io.model_folder import read_config
from worldmodel.play.commands import FASTEST, SLOWEST
from worldmodel.play.server import bind, serve
from worldmodel.play.session import LARGEST_SEED, Session
from worldmodel.world import WorldInfo, WorldModel

LARGEST_PORT = 65535


@dataclass
class PlayConfig(WorldConfig):
    """Settings of `worldmodel play`."""

    out: Path = Path("${run}/play")
    """Folder of recordings: videos, dream/episodes and real/episodes."""
    host: str = "127.0.0.1"
    """Address to listen on. With another one than this, everybody who reaches it can play, without a password."""
    port: int = 8000
    """Port to listen on; another one if it is taken (0: any free one)."""
    fps: float = 15
    """Frames per second at first; the page changes it."""
    seed: int = 0
    """The first start is a function of the seed; the page changes it."""
    real: bool | None = None
    """Whether the real environment can be played too (null: yes, unless the world is from the Hub, as its file says
    which environment is made)."""
    open: bool = True
    """Whether a browser opens the page, where this machine has a screen."""
    device: str = "cpu"
    """cpu or cuda."""

    def __post_init__(self) -> None:
        check_range(self, 0, LARGEST_PORT, "port")
        check_range(self, SLOWEST, FASTEST, "fps")
        check_range(self, 0, LARGEST_SEED, "seed")
        check_device(self)


@command(PlayConfig)
def main(config: PlayConfig) -> None:
    name, folder = str(config.world), world_folder(config.world)
    listening = bind(config.host, config.port)
    world = WorldModel.load(folder, config.device)
    session = Session(
        world,
        real_env_of(config, world.info),
        name=name,
        origin={"weights": read_config(folder)[1]},
        seed=config.seed,
        fps=config.fps,
        out=config.out,
    )
    session.warm_up()
    serve(session, listening, config.host, config.open and has_screen())


def real_env_of(config: PlayConfig, info: WorldInfo) -> Callable[[], gymnasium.Env] | None:
    """Makes the real environment; None where it is not wanted or not known.

    Raises: ValueError if it is wanted by real=true and not known.
    """
    wanted = not str(config.world).startswith("hf:/") if config.real is None else config.real
    try:
        return real_env(info) if wanted else None
    except ValueError:
        if config.real:
            raise
        return None


def has_screen() -> bool:
    """Whether this machine can show a browser; without a screen, a browser for terminals would open."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(x) for x in ("DISPLAY", "WAYLAND_DISPLAY"))


if __name__ == "__main__":
    main()

"""Atari games as frames, through the Arcade Learning Environment.

Source: Bellemare et al. 2013, arXiv 1207.4708; sticky actions: Machado et al. 2018, arXiv 1709.06009;
https://ale.farama.org.
"""

import re
from dataclasses import dataclass

import gymnasium

from worldmodel.envs.errors import check_at_least, missing_package, unknown_name
from worldmodel.envs.frames import FrameEnv


@dataclass
class AtariConfig:
    """Which game, and how it is seen and stepped."""

    name: str = "atari"
    game: str = "Pong"
    """Name of the game, as in the id ALE/Pong-v5."""
    height: int = 64
    """Height of a frame in pixels; the console's 210×160 are averaged down."""
    width: int = 64
    """Width of a frame in pixels."""
    frame_skip: int = 4
    """Console frames (1/60 s) per action."""
    sticky: float = 0.25
    """Probability that the console repeats the last action instead (0: a deterministic game)."""
    full_actions: bool = False
    """All 18 joystick actions, or only those that do something in this game."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "height", "width", "frame_skip")
        if not 0 <= self.sticky <= 1:
            raise ValueError(f"sticky: expected a probability in [0, 1], got {self.sticky}")


class AtariEnv(FrameEnv):
    """One Atari game as frames; actions are `Discrete`, named by the joystick ("noop", "fire", "upright").

    Raises:
        ValueError: the game is unknown.
        ImportError: the package is missing.
    """

    def __init__(self, config: AtariConfig) -> None:
        inner = _make(config)
        names = [name.lower() for name in inner.unwrapped.get_action_meanings()]  # pyright: ignore
        super().__init__(inner, config, names)


def games() -> tuple[str, ...]:
    """The games whose cartridges come with the package."""
    try:
        import ale_py
    except ImportError as error:
        raise missing_package("ale_py", "atari") from error
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # its banner would break progress bars
    gymnasium.register_envs(ale_py)
    found = (re.fullmatch(r"ALE/(\w+)-v5", spec_id) for spec_id in gymnasium.registry)
    return tuple(sorted(match[1] for match in found if match))


def _make(config: AtariConfig) -> gymnasium.Env:
    known = games()
    if config.game not in known:
        raise unknown_name("Atari game", config.game, known, setting="env.game")
    return gymnasium.make(
        f"ALE/{config.game}-v5",
        obs_type="rgb",
        frameskip=config.frame_skip,
        repeat_action_probability=config.sticky,
        full_action_space=config.full_actions,
        disable_env_checker=True,  # it costs time at every step, and the tests run it
    )

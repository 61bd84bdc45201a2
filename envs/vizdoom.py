"""ViZDoom's scenarios as frames, through the Gymnasium wrapper that comes with the package.

Source: Kempka et al. 2016 (ViZDoom), arXiv 1605.02097; https://vizdoom.farama.org. The wrapper seeds the engine
before every episode. The same seed and actions then give the same bytes, in the same process after other episodes and
in a new process (a test checks this).
"""

import contextlib
import os
import re
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from worldmodel.envs.errors import check_at_least, unknown_name
from worldmodel.envs.frames import FrameEnv

SHORT_NAMES = {"move_forward": "forward", "move_backward": "backward"}  # the two that every environment shares


@dataclass
class VizdoomConfig:
    """Which scenario, and how it is seen and stepped."""

    name: str = "vizdoom"
    scenario: str = "HealthGathering"
    """A scenario of ViZDoom, named as in the id VizdoomMyWayHome-v1, without Vizdoom and the version."""
    height: int = 32
    """Height of a frame in pixels. The engine's 320×240 are averaged down; by default 5×5 become one."""
    width: int = 64
    """Width of a frame in pixels."""
    frame_skip: int = 2
    """Engine tics (1/35 s) per action."""
    buttons: int = 1
    """Most buttons that one action presses; 1 gives noop and one action per button."""
    crop: tuple[float, float, float, float] = (0.25, 0.91667, 0.0, 1.0)
    """Top, bottom, left and right of what is seen, as shares of the screen; the whole screen is [0,1,0,1]."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "height", "width", "frame_skip", "buttons")
        top, bottom, left, right = self.crop
        if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
            raise ValueError(f"crop: expected shares 0 <= top < bottom <= 1 and left < right likewise, got {self.crop}")


class VizdoomEnv(FrameEnv):
    """One ViZDoom scenario, 3-D and first-person, as frames; actions are `Discrete`, named by their buttons.

    Raises:
        ValueError: the scenario is unknown.
        ImportError: the package is missing.
    """

    def __init__(self, config: VizdoomConfig) -> None:
        inner = _make(config)
        super().__init__(inner, config, _action_names(inner))
        self._folder = tempfile.mkdtemp(prefix="vizdoom-")
        self._shut = weakref.finalize(self, _shut, inner, self._folder)  # also if nobody calls close()

    def image(self, observation: Any) -> np.ndarray | None:
        """The cropped screen; None after the end, when the engine has none."""
        if self.inner.unwrapped.state is None:  # pyright: ignore
            return None
        screen, (top, bottom, left, right) = observation["screen"], self.config.crop
        height, width = screen.shape[:2]
        return screen[round(top * height) : round(bottom * height), round(left * width) : round(right * width)]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """As in `FrameEnv`. The engine starts in a temporary folder, because it writes its settings where it
        starts, and engines that share this file could disturb each other."""
        if self._closed or self.inner.unwrapped.game.is_running():  # pyright: ignore
            return super().reset(seed=seed, options=options)
        with contextlib.chdir(self._folder):
            return super().reset(seed=seed, options=options)

    def step(self, action: Any):
        """As in `FrameEnv`. An episode that runs out of time is only truncated; the wrapper says both.

        After a true end the frame is black, as in the wrapper: if it looked like the frame before it, a world model
        could not distinguish an end from a step in which nothing happened.
        """
        frame, reward, terminated, truncated, info = super().step(action)
        if terminated and not truncated:
            self._frame[:] = 0
            frame = self._frame.copy()
        return frame, reward, terminated and not truncated, truncated, info

    def _end(self) -> None:
        self._shut()


def _shut(inner: gymnasium.Env, folder: str) -> None:
    inner.close()  # first: the engine saves its settings when it stops
    shutil.rmtree(folder, ignore_errors=True)


def scenarios() -> tuple[str, ...]:
    """The short names of the scenarios that come with the package (the campaign maps, "Freedoom1E1M1-S3" and so
    on, are known too, but are thousands)."""
    return tuple(sorted(name for name in _ids() if not re.search(r"-S\d$|-MultiBinary$", name)))


def _ids() -> dict[str, str]:
    """Every scenario's short name → its newest registered id."""
    try:
        import vizdoom.gymnasium_wrapper  # noqa: F401  (registers the ids)
    except ImportError as error:
        raise ImportError("vizdoom is not installed: pip install vizdoom", name="vizdoom") from error
    versions: dict[str, int] = {}
    for spec_id in gymnasium.registry:
        if match := re.fullmatch(r"Vizdoom(.+)-v(\d+)", spec_id):
            versions[match[1]] = max(versions.get(match[1], 0), int(match[2]))
    return {name: f"Vizdoom{name}-v{version}" for name, version in versions.items()}


def _make(config: VizdoomConfig) -> gymnasium.Env:
    ids = _ids()
    if config.scenario not in ids:
        raise unknown_name("ViZDoom scenario", config.scenario, scenarios(), setting="env.scenario")
    names, overrides = _buttons(ids[config.scenario])
    return gymnasium.make(
        ids[config.scenario],
        frame_skip=config.frame_skip,
        max_buttons_pressed=min(config.buttons, len(names)),
        disable_env_checker=True,  # it costs time at every step, and the tests run it
        **overrides,
    )


def _buttons(spec_id: str) -> tuple[list[str], dict[str, Any]]:
    """The scenario's on/off buttons, and the setting that leaves the mouse axes out where it has some: one
    `Discrete` space cannot hold them (Deathmatch)."""
    import vizdoom

    game = vizdoom.DoomGame()
    game.load_config(os.path.join(vizdoom.scenarios_path, gymnasium.spec(spec_id).kwargs["scenario_config_file"]))
    every = game.get_available_buttons()
    names = [button.name for button in every if not vizdoom.is_delta_button(button)]
    return names, {} if len(names) == len(every) else {"available_buttons": names}


def _action_names(inner: gymnasium.Env) -> tuple[str, ...]:
    """What each discrete action presses: "noop", "forward", "forward+attack"."""
    game, combinations = inner.unwrapped.game, inner.unwrapped.button_map  # pyright: ignore
    buttons = [button.name.lower() for button in game.get_available_buttons()]
    buttons = [SHORT_NAMES.get(name) or name for name in buttons]
    pressed = [[name for name, down in zip(buttons, row, strict=True) if down] for row in combinations]
    return tuple("+".join(names) or "noop" for names in pressed)

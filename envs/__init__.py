"""Real environments with one interface; `make` turns the config of any of them into a Gymnasium environment.

For every environment: observations are frames, uint8 [h, w, 3]; `reset(seed=...)` determines the whole episode;
`env.get_wrapper_attr("action_names")` names the discrete actions (an empty tuple where they have no names);
`render()` gives the last frame. `SCHEMAS` holds the config dataclass of each, by its name.
"""

from typing import Any

import gymnasium

from worldmodel.envs.atari import AtariConfig, AtariEnv
from worldmodel.envs.dmlab import DmlabConfig, DmlabEnv
from worldmodel.envs.errors import unknown_name
from worldmodel.envs.gymnasium_env import GenericConfig, GenericEnv
from worldmodel.envs.maze import MazeConfig, MazeEnv
from worldmodel.envs.vizdoom import VizdoomConfig, VizdoomEnv

SCHEMAS: dict[str, type] = {
    "vizdoom": VizdoomConfig,
    "dmlab": DmlabConfig,
    "atari": AtariConfig,
    "gymnasium": GenericConfig,
    "maze": MazeConfig,
}

_CLASSES: dict[type, Any] = {
    VizdoomConfig: VizdoomEnv,
    DmlabConfig: DmlabEnv,
    AtariConfig: AtariEnv,
    GenericConfig: GenericEnv,
    MazeConfig: MazeEnv,
}


def schema(name: str) -> type:
    """The config dataclass of the environment `name`.

    Raises:
        ValueError: no environment has this name; the message lists the known ones.
    """
    if name not in SCHEMAS:
        raise unknown_name("environment", name, SCHEMAS, setting="env")
    return SCHEMAS[name]


def make(config: Any) -> gymnasium.Env:
    """The environment that `config`, an instance of one of `SCHEMAS`, describes.

    Raises:
        TypeError: `config` is not an instance of these.
        ValueError: it names a scenario, level, game or id that does not exist, or the engine could not be made.
        ImportError: its package is not installed; the message says how to install it.
    """
    if type(config) not in _CLASSES:
        expected = ", ".join(cls.__name__ for cls in _CLASSES)
        raise TypeError(f"expected one of {expected}, got {type(config).__name__}; see envs.SCHEMAS")
    try:
        return _CLASSES[type(config)](config)
    except (ValueError, TypeError, ImportError, RuntimeError):
        raise
    except Exception as error:  # any exception of an engine
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"{config.name}: making the environment raised {message}") from error

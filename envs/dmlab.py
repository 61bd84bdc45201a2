"""DeepMind Lab's levels as frames, through the engine's own Python API.

Sources: Beattie et al. 2016, arXiv 1612.03801; the API as documented in github.com/google-deepmind/lab,
docs/users/python_api.md and docs/users/actions.md, and as checked by python/dmlab_module.c. The engine is used
directly, because existing wrappers hide what a data set depends on: its seeds, its level cache, and its end, after
which it has no observation.
"""

import hashlib
import os
import secrets
import shutil
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Int, UInt8

from worldmodel.envs.dmlab_tables import ACTION_SETS, DMLAB30
from worldmodel.envs.errors import check_at_least, check_one_of, missing_package, unknown_name
from worldmodel.envs.frames import area_resize, frame_space

SCREEN = "RGB_INTERLEAVED"  # the observation with axes [h, w, c]
SEEDS = 2**31  # the engine takes a C int
DMLAB30_FOLDER = "contributed/dmlab30/"
OWN = {"width": "width", "height": "height", "fps": "fps", "mixerSeed": "mixer_seed"}  # engine's name -> ours
MIXER_SEEDS = 2**32  # and keeps this one in 32 bits without a sign
HOLD_OUT = "allowHoldOutLevels"  # the engine's own setting
BUILD = (
    "The extra carries no engine, because DeepMind Lab is not on PyPI: build its wheel with Bazel "
    "(github.com/google-deepmind/lab, python/pip_package/README.md) and pip install deepmind_lab-*.whl"
)


@dataclass
class DmlabConfig:
    """Which level, and how it is seen and stepped."""

    name: str = "dmlab"
    level: str = "explore_object_locations_small"
    """A name of DMLab-30, or any path below game_scripts/levels."""
    actions: Literal["impala9", "popart15", "raw7"] = "impala9"
    """The set of actions: 9 of IMPALA, 15 of PopArt, or the engine's 7 numbers."""
    height: int = 64
    """Height of a frame in pixels."""
    width: int = 64
    """Width of a frame in pixels."""
    supersample: int = 2
    """The engine draws this many times larger per side; the area is averaged."""
    frame_skip: int = 4
    """Engine frames per action."""
    fps: int = 60
    """Engine frames per second of game time."""
    renderer: Literal["software", "hardware"] = "software"
    """software, or hardware: EGL or GLX, as the engine was built."""
    mixer_seed: int = 0
    """Combined with every seed: another value gives another, disjoint family of episodes."""
    episode: int = 0
    """The episode number of every reset; some levels depend on it."""
    level_cache: str = ""
    """Folder that keeps compiled levels, which saves most of the time of a reset (empty: none)."""
    options: dict[str, Any] = field(default_factory=dict)
    """Settings of the level itself; allowHoldOutLevels: true for a level held out for evaluation."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "height", "width", "supersample", "frame_skip", "fps")
        check_at_least(self, 0, "mixer_seed", "episode")
        check_one_of(self, "actions", (*ACTION_SETS, "raw7"))
        check_one_of(self, "renderer", ("software", "hardware"))
        if self.mixer_seed >= MIXER_SEEDS:
            raise ValueError(f"mixer_seed: expected a number below 2**32, got {self.mixer_seed}")
        _check_options(self.options)
        _check_held_out(self)


def _check_options(options: dict[str, Any]) -> None:
    for name, value in options.items():
        if name in OWN:
            raise ValueError(f"options: {name} is set by env.{OWN[name]}, not here")
        if not isinstance(value, str | bool | int | float):
            raise ValueError(f"options.{name}: expected a word, a number, true or false, got {value!r}")


def _check_held_out(config: DmlabConfig) -> None:
    """The engine refuses to load these levels without that setting, and does not say so."""
    name = config.level.removeprefix(DMLAB30_FOLDER)
    allowed = str(config.options.get(HOLD_OUT, "")).lower() == "true"
    if name in DMLAB30 and name.endswith("_test") and not allowed:
        raise ValueError(
            f"level: {name} is held out for evaluation; to collect from it all the same, set "
            f"env.options.{HOLD_OUT}=true, or choose {name.removesuffix('test')}train"
        )


class DmlabEnv(gymnasium.Env):
    """One DeepMind Lab level, 3-D and first-person, as frames.

    `actions` impala9 and popart15 are `Discrete` with names, raw7 is the engine's own `Box` of int32. `seed` and
    `mixer_seed` reach the engine, and every reset asks for the same episode number, so that an episode does not
    depend on how many were played before. One engine is open per process: its compiled levels, its temporary
    files and its memory count per process, and parallel collection uses processes anyway. A pickled copy starts an
    engine of its own; after `close`, `reset` and `step` raise RuntimeError.

    Raises:
        ImportError: the module deepmind_lab is missing.
        ValueError: the engine does not know the level.
        RuntimeError: another `DmlabEnv` is open in this process, or the engine does not start.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012
    render_mode = "rgb_array"
    _open: "weakref.ref[DmlabEnv] | None" = None  # of the whole process

    def __init__(self, config: DmlabConfig) -> None:
        self._refuse_second_engine()
        self._config = config
        self._closed = False
        self._engine = _start(config)
        DmlabEnv._open = weakref.ref(self)
        self._moves, self.action_space, self.action_names = _actions(self._engine.action_spec(), config.actions)
        self.observation_space = frame_space(config.height, config.width)
        self._frame = np.zeros((config.height, config.width, 3), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[UInt8[np.ndarray, "h w 3"], dict[str, Any]]:
        """The first frame of an episode that `seed` determines; without a seed, of the next episode."""
        self._refuse_closed()
        super().reset(seed=seed)
        self._engine.reset(episode=self._config.episode, seed=int(self.np_random.integers(SEEDS)))
        return self._observe(), {}

    def step(self, action: Any) -> tuple[UInt8[np.ndarray, "h w 3"], float, bool, bool, dict[str, Any]]:
        """The frame that `action` leads to; at the end the last frame again, as the engine has no other.

        Raises:
            ValueError: the action is not in the action space; the engine's behavior would be undefined.
        """
        self._refuse_closed()
        if not self.action_space.contains(action):
            raise ValueError(f"action: expected one in {self.action_space}, got {action!r}")
        # Contiguous: the engine reads the seven numbers from memory and ignores the strides.
        move = np.ascontiguousarray(action if self._moves is None else self._moves[action], np.intc)
        reward = self._engine.step(move, num_steps=self._config.frame_skip)
        return self._observe(), float(reward), not self._engine.is_running(), False, {}

    def render(self) -> UInt8[np.ndarray, "h w 3"]:
        """The last frame again."""
        return self._frame.copy()

    def close(self) -> None:
        """Release the engine, so that this process may open another. Closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        if DmlabEnv._open is not None and DmlabEnv._open() is self:
            DmlabEnv._open = None
        self._engine.close()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise RuntimeError("this environment is closed, and its engine with it: make another one")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._config,), {"_frame": self._frame}

    def _observe(self) -> UInt8[np.ndarray, "h w 3"]:
        if self._engine.is_running():
            screen = self._engine.observations()[SCREEN]
            self._frame = area_resize(screen, self._config.height, self._config.width)
        return self._frame.copy()

    @staticmethod
    def _refuse_second_engine() -> None:
        if DmlabEnv._open is not None and DmlabEnv._open() is not None:
            raise RuntimeError(
                "a DeepMind Lab engine is open in this process, and there may be one per process: "
                "close() that environment first, or use more worker processes"
            )


class LevelCache:
    """Keeps compiled levels in a folder; the engine calls its two methods.

    Compiling takes most of the time of a reset if a level has a new map in each episode. Several processes may share
    the folder: a level is written under another name and then renamed.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder).expanduser()
        self._folder.mkdir(parents=True, exist_ok=True)

    def fetch(self, key: str, pk3_path: str) -> bool:
        """Copy the level `key` to `pk3_path`; False if it is not in the folder."""
        try:
            shutil.copyfile(self._path(key), pk3_path)
        except FileNotFoundError:
            return False
        return True

    def write(self, key: str, pk3_path: str) -> None:
        """Store the level at `pk3_path` under `key`."""
        if self._path(key).exists():
            return
        # Not by the tempfile module: only their owner can read its files, and others may share the folder.
        temporary = self._folder / f"{os.getpid()}-{secrets.token_hex(8)}.tmp"
        try:
            shutil.copyfile(pk3_path, temporary)
            os.replace(temporary, self._path(key))
        finally:
            temporary.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()}.pk3"  # a key may hold any character


def _start(config: DmlabConfig) -> Any:
    """The engine itself, a `deepmind_lab.Lab`."""
    try:
        import deepmind_lab  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise missing_package("deepmind_lab", "dmlab", BUILD) from error
    level = f"{DMLAB30_FOLDER}{config.level}" if config.level in DMLAB30 else config.level
    try:
        return deepmind_lab.Lab(
            level,
            [SCREEN],
            config=_settings(config),
            renderer=config.renderer,
            level_cache=LevelCache(config.level_cache) if config.level_cache else None,
        )
    except RuntimeError as error:
        if config.level in DMLAB30:
            raise  # the level exists, so it is something else: the renderer, the graphics
        refusal = unknown_name("DeepMind Lab level", config.level, DMLAB30, setting="env.level")
        raise ValueError(f"{refusal} The engine said: {error}") from error


def _settings(config: DmlabConfig) -> dict[str, str]:
    """The engine's settings, all of them strings."""
    settings = {
        "width": config.width * config.supersample,
        "height": config.height * config.supersample,
        "fps": config.fps,
        "mixerSeed": config.mixer_seed,
        **config.options,
    }
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in settings.items()}


def _actions(
    spec: list[dict[str, Any]], name: str
) -> tuple[Int[np.ndarray, "n axes"] | None, spaces.Space, tuple[str, ...]]:
    """The engine's move for each discrete action (None: the action is the move), the space, and the names."""
    if name == "raw7":
        low, high = (np.array([axis[end] for axis in spec], np.int32) for end in ("min", "max"))
        return None, spaces.Box(low, high, dtype=np.int32), ()
    names, moves = zip(*ACTION_SETS[name], strict=True)
    table = np.zeros((len(moves), len(spec)), np.intc)  # levels with gadgets have more axes than seven: left at 0
    table[:, : len(moves[0])] = moves
    return table, spaces.Discrete(len(moves)), names

"""Makes environments that are registered with Gymnasium; the errors say what to install, or how to name one's own."""

import os
import sys
from typing import Any

import gymnasium
import numpy as np

from worldmodel.envs.errors import SHIMMY, unknown_name

OWN = "an environment of your own is env.id=my_module:MyEnv-v0, where my_module registers MyEnv-v0"
SHIMMY_DM = 'pip install "shimmy[dm-control]"; then env.id=shimmy:{id}'
PACKAGES = {  # how an id begins: what to install, and how to name it then
    "dm_control/": SHIMMY_DM,
    "ALE/": "pip install ale-py; then env.id=ale_py:{id}, or env=atari env.game=…",
    "MiniGrid-": "pip install minigrid; then env.id=minigrid:{id}",
    "BabyAI-": "pip install minigrid; then env.id=minigrid:{id}",
    "MiniWorld-": "pip install miniworld; then env.id=miniworld:{id}",
    "GymV21Environment": SHIMMY,
    "GymV26Environment": SHIMMY,
    "OpenSpiel": "games of OpenSpiel have several players, and shimmy makes them environments of PettingZoo: "
    "write a gymnasium.Env around one player",
}


def make_registered(name: str, kwargs: dict[str, Any], **more: Any) -> gymnasium.Env:
    """`gymnasium.make`. The modules of `module:Id` are also looked for in the working directory.

    Raises:
        ValueError: the id is unknown, or the constructor raised an exception.
        ImportError: a package is missing; the message says which one.
    """
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame renders without a screen, too
    if ":" in name and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last, so that no package is hidden
    try:
        return gymnasium.make(name, disable_env_checker=True, **{**kwargs, **more})
    except gymnasium.error.DependencyNotInstalled as error:
        raise ImportError(f"{name}: {error}") from error
    except ModuleNotFoundError as error:
        cause = error.__cause__ if isinstance(error.__cause__, ModuleNotFoundError) else error  # without advice
        raise ImportError(f"{name}: {cause}; {_missing_module(name, cause.name or '')}") from error
    except gymnasium.error.Error as error:  # unregistered, malformed, or too old
        raise _unknown_id(name) from error
    except ImportError as error:  # Gymnasium's own ids of shimmy, without shimmy
        raise ImportError(f"{name}: {' '.join(str(error).split())}; {_package_of(name) or OWN}") from error
    except Exception as error:  # any exception of the environment's constructor
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ValueError(f"{name}: making it raised {message.rstrip('.')}; {_after_making(message)}") from error


def own_limit(env: gymnasium.Env) -> int | None:
    """Steps after which an environment cuts its episodes itself; None if it does not say."""
    given = [getattr(env.unwrapped, attribute, None) for attribute in ("max_steps", "max_episode_steps")]
    for limit in (None if env.spec is None else env.spec.max_episode_steps, *given):
        if isinstance(limit, int | np.integer) and limit > 1:  # not a bool
            return int(limit)
    return None


def _after_making(message: str) -> str:
    """What to do about an exception of a constructor, or of Gymnasium's check of what it made."""
    if "must inherit from the gymnasium.Env" in message:
        return f"let its class inherit from gymnasium.Env; for one of the old Gym, {SHIMMY}"
    return SHIMMY if "Gym is incompatible" in message else "check env.kwargs"


def _missing_module(name: str, missing: str) -> str:
    """What to do about a module that cannot be imported."""
    top = missing.partition(".")[0]
    if (module := name.partition(":")[0]).endswith(".py"):
        return f"write the module without .py: env.id={module.removesuffix('.py')}:{name.partition(':')[2]}"
    if top == "gym":
        return f"it is written for the old Gym: write `import gymnasium as gym` in it, or {SHIMMY}"
    if hint := _package_of(name):
        return hint
    if top == name.partition(":")[0].partition(".")[0]:
        return "install it, start in its folder, or put that folder on PYTHONPATH"
    return f"pip install {top}, or put its folder on PYTHONPATH"


def _unknown_id(name: str) -> ValueError:
    module, _, bare = name.rpartition(":")  # the module was imported first
    if _is_old_gym(bare):
        return ValueError(f"unknown Gymnasium id {bare!r}: it is registered with the old Gym; {SHIMMY}")
    if module in ("", "shimmy") and (hint := _package_of(bare)):  # shimmy registers what is installed beside it
        return ValueError(f"unknown Gymnasium id {bare!r}: {hint}")
    error = unknown_name("Gymnasium id", bare, gymnasium.registry, setting="env.id")
    if not module:
        return ValueError(f"{error}; {OWN}")
    own = ", ".join(sorted(_registered_by(module))) or f"none: call gymnasium.register(id={bare!r}, …) in it"
    return ValueError(f"{error}; registered by {module}: {own}")


def _registered_by(module: str) -> list[str]:
    """The ids whose classes are defined in a module or below it."""
    found = []
    for key, spec in gymnasium.registry.items():
        made_by = spec.entry_point
        home = made_by.partition(":")[0] if isinstance(made_by, str) else getattr(made_by, "__module__", "")
        if f"{home}.".startswith(f"{module}."):
            found.append(key)
    return found


def _package_of(name: str) -> str:
    """How to install and name an environment of a well-known package; empty for any other one."""
    bare = name.rpartition(":")[2]
    return next((hint.replace("{id}", bare) for start, hint in PACKAGES.items() if bare.startswith(start)), "")


def _is_old_gym(name: str) -> bool:
    """Whether an id is registered with the package gym, which a module has imported."""
    registry = getattr(getattr(sys.modules.get("gym"), "envs", None), "registry", {})
    return name in getattr(registry, "env_specs", registry)

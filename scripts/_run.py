"""What every script shares: a typed config from Hydra, and errors that a person can read."""

import inspect
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import gymnasium
import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

import envs
from worldmodel.checkpoint import read_json
from worldmodel.config import to_dict, typed
from worldmodel.data.store import EpisodeStore
from worldmodel.hub import WARM, comes_along, drawn_at
from worldmodel.world import WorldInfo

T = TypeVar("T")

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def script(schema: type[T]) -> Callable[[Callable[[T], None]], Callable[[], None]]:
    """Make `main(config)` the entry of the script configs/<name>.yaml, `name` being that of its file.

    What the user can set right (a value, a missing package, a full disk) ends in one line and exit status 2, and
    so do Ctrl-C and SIGTERM, with status 130 and 143; what was begun is undone on the way out.
    """

    def decorate(main: Callable[[T], None]) -> Callable[[], None]:
        def run(values: DictConfig) -> None:
            try:
                name_run(values)
                config = typed(schema, OmegaConf.to_container(values, resolve=True))
            except (ValueError, TypeError, OmegaConfBaseException) as error:
                stop(error)
            signal.signal(signal.SIGTERM, leave)
            try:
                main(config)
            except KeyboardInterrupt:
                leave(signal.SIGINT)
            except (ValueError, ImportError, OSError, FloatingPointError) as error:
                stop(error)

        name = Path(inspect.getfile(main)).stem
        return hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(run)

    return decorate


def name_run(values: DictConfig) -> None:
    """A world that comes with the package has a run folder of its own name, runs/NAME, unless run= says another: the
    episodes of another world's run would be the wrong ones."""
    world = OmegaConf.select(values, "world", default=None)
    asked = any(override.startswith("run=") for override in HydraConfig.get().overrides.task)
    if world is not None and comes_along(str(world)) and not asked:
        values.run = f"runs/{world}"


def real_env(info: WorldInfo) -> Callable[[], gymnasium.Env]:
    """Makes the environment that a world was learned from.

    Raises: ValueError when the world does not say which.
    """
    if "name" not in info.env:
        raise ValueError("this world does not say which environment it was learned from (config.json, info.env)")
    return partial(envs.make, typed(envs.schema(info.env["name"]), info.env, "env"))


def stop(error: Exception) -> NoReturn:
    """Leave with the error's message alone."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2)


def leave(signum: int, frame: object = None) -> NoReturn:
    """Leave because a person or the machine asked for it."""
    print("stopped; what is finished is whole, and the same command goes on from there", file=sys.stderr)
    raise SystemExit(128 + signum)


def made_with(config: Any, world: Path, store: EpisodeStore | None) -> dict[str, Any]:
    """What decides a result: the settings, the world with its weights and temperature, and the episodes, if any."""
    about = read_json(world / "config.json")
    weights, drawn = about.get("weights"), drawn_at(about.get("config", {}).get("info", {}))
    made = {"settings": to_dict(config), "world": weights, "episodes": store and store.fingerprint()}
    return made | ({} if drawn == WARM else {"temperature": list(drawn)})


def made_already(path: Path, made: dict[str, Any]) -> bool:
    """Whether the result at `path` is whole and was made with just this."""
    try:
        return read_json(path).get("made_with") == made
    except ValueError:  # missing or damaged
        return False


def begin_with(model: nn.Module, earlier: nn.Module) -> None:
    """Take over the weights of an earlier model, but those of other shapes: new rewards make another outcome head.

    Raises: ValueError when most of it is of another shape.
    """
    known, weights = model.state_dict(), earlier.state_dict()
    fitting = {name: x for name, x in weights.items() if name in known and known[name].shape == x.shape}
    if len(fitting) < len(weights) // 2 or len(fitting) < len(known) // 2:
        raise ValueError("init: expected a model of the same shape; give the settings that it was trained with")
    keep = {name for name in fitting if name.endswith("log_weight")}  # these count the new data
    model.load_state_dict({k: v for k, v in fitting.items() if k not in keep}, strict=False)


def parameters(model: nn.Module) -> int:
    """How many numbers a model learns."""
    return sum(p.numel() for p in model.parameters())


def shown(metrics: dict[str, float]) -> str:
    """Metrics on one line."""
    return ", ".join(f"{name.rpartition('/')[2]} {value:.4g}" for name, value in metrics.items())

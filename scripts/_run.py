"""What every script shares: a typed config from Hydra, and errors that a person can read."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import hydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from worldmodel.checkpoint import read_json
from worldmodel.config import to_dict, typed
from worldmodel.data.store import EpisodeStore

T = TypeVar("T")

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def script(schema: type[T]) -> Callable[[Callable[[T], None]], Callable[[], None]]:
    """Make `main(config)` the entry of the script configs/<name>.yaml, `name` being that of its file.

    What the user can set right (a value, a missing package, a full disk) ends in one line and exit status 2.
    """

    def decorate(main: Callable[[T], None]) -> Callable[[], None]:
        def run(values: DictConfig) -> None:
            try:
                config = typed(schema, OmegaConf.to_container(values, resolve=True))
            except (ValueError, TypeError, OmegaConfBaseException) as error:
                stop(error)
            try:
                main(config)
            except (ValueError, ImportError, OSError, FloatingPointError) as error:
                stop(error)

        name = Path(inspect.getfile(main)).stem
        return hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(run)

    return decorate


def stop(error: Exception) -> NoReturn:
    """Leave with the error's message alone."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2)


def made_with(config: Any, world: Path, store: EpisodeStore) -> dict[str, Any]:
    """What decides a result: the settings, the weights of the world, and the episodes."""
    weights = read_json(world / "config.json").get("weights")
    return {"settings": to_dict(config), "world": weights, "episodes": store.fingerprint()}


def made_already(path: Path, made: dict[str, Any]) -> bool:
    """Whether the result at `path` is whole and was made with just this."""
    try:
        return read_json(path).get("made_with") == made
    except ValueError:  # missing or damaged
        return False


def parameters(model: nn.Module) -> int:
    """How many numbers a model learns."""
    return sum(p.numel() for p in model.parameters())


def shown(metrics: dict[str, float]) -> str:
    """Metrics on one line."""
    return ", ".join(f"{name.rpartition('/')[2]} {value:.4g}" for name, value in metrics.items())

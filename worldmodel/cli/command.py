"""What all commands share: a typed config from Hydra, and errors on one line."""

import contextlib
import inspect
import io
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import gymnasium
import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from torch import nn
from yaml import YAMLError

from worldmodel import envs
from worldmodel.cli.errors import run_command, start_work
from worldmodel.cli.overrides import SEVERAL, as_typed
from worldmodel.cli.schema import help_text, register, takes_env
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.config import from_mapping, suggestion, to_dict, unknown_key
from worldmodel.io.hub.names import bundled_name
from worldmodel.io.hub.report import DEFAULT_TEMPERATURE, sampling_temperature
from worldmodel.io.model_folder import CONFIG, read_checked_json, read_config
from worldmodel.io.untrusted import errors_name
from worldmodel.kernels.threads import set_threads
from worldmodel.world import WorldInfo

T = TypeVar("T")

HELP = {"--help", "-h"}
HERE = Path(__file__).resolve().parent  # Hydra wants a folder of configs; all of ours are registered without files


@dataclass
class RunConfig:
    """What every command needs to know."""

    run: Path = Path("runs/demo")
    """Folder of the run; all that the commands make lies in it."""


@dataclass
class WorldConfig(RunConfig):
    """What commands need that use a trained world."""

    world: Path = Path("${run}/world")
    """Folder of the world, the name of one that comes with the package, or hf://OWNER/NAME. With such a name, `run`
    is runs/NAME unless it is given."""


def check_device(config: Any) -> None:
    """For the `__post_init__` of a config with a `device`. Raises: ValueError where this machine has no such device."""
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    devices = ["cpu", *(["cuda"] if cuda else []), *cuda]
    if config.device not in devices:
        raise ValueError(f"device: expected one that is here, {', '.join(devices)}; got {config.device!r}")


def command(schema: type[T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """Make `main(config)` the entry of a command, whose keys are the fields of `schema`.

    The entry takes the arguments of the command line, by default those of the process.

    What the user can correct (a value, a missing package, a full disk) ends in one line and exit status 2. Ctrl-C,
    SIGTERM and SIGHUP end with status 130, 143 and 129, after partial files are removed.
    """

    def decorate(main: Callable[[T], None]) -> Callable[..., None]:
        name = Path(inspect.getfile(main)).stem

        def work(arguments: Sequence[str]) -> None:
            given = [each for each in arguments if each not in HELP]
            for values in composed(schema, name, given):
                if len(given) < len(arguments):
                    about = inspect.getdoc(sys.modules[main.__module__]) or ""
                    print(help_text(schema, name, about, values))
                    return
                config = from_mapping(schema, values)
                start_work()
                set_threads()
                main(config)

        @wraps(main)
        def entry(arguments: Sequence[str] | None = None) -> None:
            run_command(lambda: work(sys.argv[1:] if arguments is None else arguments))

        return entry  # its __wrapped__ is main

    return decorate


def composed(schema: type, name: str, arguments: Sequence[str]) -> list[Any]:
    """The values that the defaults, the preset and the arguments give: one config, or several with --multirun.

    Hydra only composes; the work happens outside of it, so that its errors become ours.
    Raises: ValueError for whatever Hydra does not take.
    """
    found: list[Any] = []

    def keep(values: DictConfig) -> None:
        try:
            name_run(values, name)
            found.append(OmegaConf.to_container(values, resolve=True))
        except OmegaConfBaseException as error:
            found.append(error)

    register(schema, name)
    typed = as_typed(schema, with_env(schema, arguments))
    several = bool(SEVERAL & {*typed})
    with readable(), tempfile.TemporaryDirectory() if several else contextlib.nullcontext() as folder:
        if several:
            place = next((i for i, each in enumerate(typed) if "=" in each), len(typed))
            typed.insert(place, f"hydra.sweep.dir={folder}")  # otherwise Hydra leaves a folder `multirun`
        with mock.patch.object(sys, "argv", [name, *typed]):
            hydra.main(version_base="1.3", config_path=str(HERE), config_name=name)(keep)()
    for each in found:
        if isinstance(each, Exception):
            raise refusal(each)
    return found


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Turn what Hydra refuses into a ValueError on one line, without its advice about Hydra."""
    before, output = os.environ.get("HYDRA_FULL_ERROR"), io.StringIO()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise errors, print none
    try:
        with contextlib.redirect_stderr(output):
            yield
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise refusal(error) from error
    except SystemExit as leaving:
        if leaving.code == 2:  # an argument that is no setting and no option
            raise ValueError(
                output.getvalue().rpartition("error: ")[2].strip() + "; --help lists the keys"
            ) from leaving
        raise
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before
    print(output.getvalue(), end="", file=sys.stderr)


def refusal(error: Exception) -> ValueError:
    """An error of Hydra or OmegaConf in our words."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        hint = suggestion(choice, error.options) or f"there are: {', '.join(error.options)}"
        return ValueError(f"{group}: there is no {choice!r}; {hint}")
    if isinstance(error, OverrideParseException):
        return ValueError(f"{error.override}: expected key=value, such as run=runs/mine; --help lists the keys")
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    around = getattr(cause, "parent_node", None)
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and isinstance(around, DictConfig):
        return unknown_key(str(cause.full_key).rpartition(".")[0], str(cause.key), map(str, around))
    return ValueError(" ".join(str(cause or error).split()))


def with_env(schema: type, arguments: Sequence[str]) -> Sequence[str]:
    """The arguments; an `env.id` chooses env=gymnasium, the one environment with ids, unless env= is given."""
    names = {each.lstrip("+").partition("=")[0] for each in arguments}
    chosen = takes_env(schema) and "env.id" in names and "env" not in names
    return ["env=gymnasium", *arguments] if chosen else arguments


def name_run(values: DictConfig, command: str) -> None:
    """Set the run folder to runs/NAME, unless run= is given: for a world that comes with the package, as the episodes
    of another run would be the wrong ones; for `make`, after the environment.
    """
    if any(override.lstrip("+").startswith("run=") for override in HydraConfig.get().overrides.task):
        return
    world = OmegaConf.select(values, "world", default=None)
    name = None if world is None else bundled_name(str(world))
    if command == "make":
        name = slug(values.env)
    if name is not None:
        values.run = f"runs/{name}"


def slug(env: Any) -> str:
    """A name for the runs of an environment: "my_env" for the id my_module:MyEnv-v0."""
    text = str(env.get("id", env.name)).rpartition(":")[2].rpartition("/")[2]
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", re.sub(r"-v\d+$", "", text))
    return re.sub(r"\W+", "_", words).strip("_").lower() or "made"


def real_env(info: WorldInfo) -> Callable[[], gymnasium.Env]:
    """Makes the environment that a world was learned from.

    Raises: ValueError if the world does not say which one.
    """
    if "name" not in info.env:
        raise ValueError("this world does not say which environment it was learned from (config.json, info.env)")
    return partial(envs.make, from_mapping(envs.schema(info.env["name"]), info.env, "env"))


def provenance(config: Any, world: Path, store: EpisodeStore | None) -> dict[str, Any]:
    """All that decides a result: the settings, the world's weights and temperature, and the episodes.

    Raises: ValueError if the world's config.json is damaged.
    """
    about, weights = read_config(world)
    with errors_name(world / CONFIG):
        drawn = sampling_temperature(about["info"])
    made = {"settings": to_dict(config), "world": weights, "episodes": store and store.fingerprint()}
    return made | ({} if drawn == DEFAULT_TEMPERATURE else {"temperature": list(drawn)})


def is_up_to_date(path: Path, made: dict[str, Any]) -> bool:
    """Whether the result at `path` is complete and was made with exactly this."""
    try:
        return read_checked_json(path).get("made_with") == made
    except ValueError:  # missing, damaged, or changed by hand
        return False


def load_matching(model: nn.Module, earlier: nn.Module) -> None:
    """Load the weights of an earlier model that have the same shape; new rewards change the outcome head.

    Raises: ValueError if most weights have another shape.
    """
    known, weights = model.state_dict(), earlier.state_dict()
    fitting = {name: x for name, x in weights.items() if name in known and known[name].shape == x.shape}
    if len(fitting) < len(weights) // 2 or len(fitting) < len(known) // 2:
        raise ValueError("init: expected a model of the same shape; give the settings that it was trained with")
    keep = {name for name in fitting if name.endswith((".log_weight", ".rewards"))}  # these belong to the new data
    model.load_state_dict({k: v for k, v in fitting.items() if k not in keep}, strict=False)


def parameters(model: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(p.numel() for p in model.parameters())


def format_metrics(metrics: dict[str, float]) -> str:
    """Metrics on one line."""
    return ", ".join(f"{name.rpartition('/')[2]} {value:.4g}" for name, value in metrics.items())

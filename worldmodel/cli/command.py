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
from pathlib import Path
from typing import Any, Generic, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from worldmodel.cli.errors import run_command, start_work
from worldmodel.cli.overrides import SEVERAL, as_typed
from worldmodel.cli.schema import help_text, register, takes_env
from worldmodel.io.config import from_mapping, suggestion, unknown_key
from worldmodel.kernels.threads import set_threads

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


@dataclass(frozen=True)
class Command(Generic[T]):
    """A subcommand. Calling it runs it as a process does; `config` and `work` serve programs and other commands.

    What the user can correct (a value, a missing package, a full disk) ends in one line and exit status 2. Ctrl-C,
    SIGTERM and SIGHUP end with status 130, 143 and 129, after partial files are removed.

    name: that of its module. schema: the dataclass of its keys. work: what it does with a config.
    """

    name: str
    schema: type[T]
    work: Callable[[T], None]

    def __call__(self, arguments: Sequence[str] | None = None) -> None:
        """Run with these arguments of the command line, by default those of the process. Raises: SystemExit."""
        run_command(lambda: self._run(sys.argv[1:] if arguments is None else arguments))

    def config(self, arguments: Sequence[str]) -> T:
        """The config that these arguments give.

        Raises: ValueError, TypeError for keys and values that the command does not take.
        """
        (values,) = composed(self.schema, self.name, arguments)
        return from_mapping(self.schema, values)

    def _run(self, arguments: Sequence[str]) -> None:
        given = [each for each in arguments if each not in HELP]
        for values in composed(self.schema, self.name, given):
            if len(given) < len(arguments):
                about = inspect.getdoc(sys.modules[self.work.__module__]) or ""
                print(help_text(self.schema, self.name, about, values))
                return
            config = from_mapping(self.schema, values)
            start_work()
            if "torch" in sys.modules:
                set_threads()
            self.work(config)


def command(schema: type[T]) -> Callable[[Callable[[T], None]], Command[T]]:
    """Make `main(config)` a command whose keys are the fields of `schema`, named as its module."""
    return lambda main: Command(Path(inspect.getfile(main)).stem, schema, main)


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
        with process_arguments(name, *typed):
            hydra.main(version_base="1.3", config_path=str(HERE), config_name=name)(keep)()
    for each in found:
        if isinstance(each, Exception):
            raise refusal(each)
    return found


@contextlib.contextmanager
def process_arguments(*arguments: str) -> Iterator[None]:
    """Give the process other arguments inside the block: Hydra reads them there."""
    before, sys.argv = sys.argv, [*arguments]
    try:
        yield
    finally:
        sys.argv = before


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
    name = slug(values.env) if command == "make" else None
    if (world := OmegaConf.select(values, "world", default=None)) is not None:
        from worldmodel.io.hub.names import bundled_name  # imports torch, which other commands may do without

        name = bundled_name(str(world))
    if name is not None:
        values.run = f"runs/{name}"


def slug(env: Any) -> str:
    """A name for the runs of an environment: "my_env" for the id my_module:MyEnv-v0."""
    text = str(env.get("id") or env.get("name")).rpartition(":")[2].rpartition("/")[2]
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", re.sub(r"-v\d+$", "", text))
    return re.sub(r"\W+", "_", words).strip("_").lower() or "made"

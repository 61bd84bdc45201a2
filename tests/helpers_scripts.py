"""The scripts within this process: their entries, configs and exits, without the seconds that imports take."""

import importlib.util
import inspect
import io
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import torch

from worldmodel.io.config import from_mapping

SCRIPTS = Path(__file__).parents[1] / "scripts"
NAMES = sorted(path.stem for path in SCRIPTS.glob("[a-z]*.py"))


@cache
def module(name: str) -> ModuleType:
    """A script as a module of another name: `data` and `evaluate` are too plain for a module of this process."""
    if str(SCRIPTS) not in sys.path:
        sys.path.insert(0, str(SCRIPTS))
    spec = importlib.util.spec_from_file_location(f"script_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


def shared(name: str) -> ModuleType:
    """One of the modules that scripts share: "_run", "_errors", "_overrides"."""
    module("push")
    return importlib.import_module(name)


def entry(name: str) -> Callable[[], None]:
    """What the command calls."""
    return module(name).main


def work(name: str, values: Any) -> None:
    """What a script does once its config is composed of these values."""
    inspect.unwrap(entry(name))(from_mapping(schema(name), values))


def schema(name: str) -> type:
    """The dataclass of a script's config."""
    (hint,) = (hint for key, hint in get_type_hints(inspect.unwrap(entry(name))).items() if key != "return")
    return hint


def run(script: str, *settings: str, folder: Path | None = None, ok: bool = True) -> str:
    """Run a script in this process, as its command does; what it printed. Its environment and threads stay its own.

    ok: whether its exit status has to be 0, or has to be another one.
    """
    output, before, threads = io.StringIO(), sys.argv, torch.get_num_threads()
    sys.argv = [str(SCRIPTS / f"{script}.py"), *([f"run={folder}"] if folder else []), *settings]
    try:
        with redirect_stdout(output), redirect_stderr(output), warnings.catch_warnings():
            warnings.simplefilter("default")
            status = exit_status(entry(script))
    finally:
        sys.argv = before
        torch.set_num_threads(threads)
    assert (status == 0) == ok, output.getvalue()
    return output.getvalue()


def exit_status(work: Callable[[], Any]) -> int:
    """The exit status that a piece of work asks for."""
    try:
        work()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    return 0


def leaves(work: Callable[[], Any]) -> int:
    """The exit status of a piece of work behind the door of the scripts."""
    return exit_status(lambda: shared("_errors").run_script(work))

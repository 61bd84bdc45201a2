"""The commands within this process: their entries, configs and exits, without the seconds that imports take."""

import importlib
import io
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from worldmodel.cli.errors import run_command
from worldmodel.cli.main import MODULES, entry
from worldmodel.io.config import from_mapping

SCRIPTS = Path(__file__).parents[1] / "scripts"
NAMES = sorted(MODULES)


def module(name: str) -> ModuleType:
    """The module of a command."""
    return importlib.import_module(MODULES[name])


def work(name: str, values: Any) -> None:
    """What a command does once its config is composed of these values."""
    entry(name).work(from_mapping(schema(name), values))


def schema(name: str) -> type:
    """The dataclass of a command's config."""
    return entry(name).schema


def run(command: str, *settings: str, folder: Path | None = None, ok: bool = True) -> str:
    """Run a command in this process; what it printed. Its environment and threads stay its own.

    ok: whether its exit status has to be 0, or has to be another one.
    """
    output, threads = io.StringIO(), torch.get_num_threads()
    given = [*([f"run={folder}"] if folder else []), *settings]
    try:
        with redirect_stdout(output), redirect_stderr(output), warnings.catch_warnings():
            warnings.simplefilter("default")
            status = exit_status(lambda: entry(command)(given))
    finally:
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
    """The exit status of a piece of work behind the door of the commands."""
    return exit_status(lambda: run_command(work))

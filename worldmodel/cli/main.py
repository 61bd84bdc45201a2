"""The command `worldmodel NAME [key=value ...]`. The scripts of a clone are the same subcommands, one each.

Nothing here imports PyTorch, so the list of subcommands and a misspelt one answer at once.
"""

import ast
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from worldmodel import __version__
from worldmodel.cli.errors import exit_with_error, install
from worldmodel.io.config import suggestion
from worldmodel.kernels.threads import wait_asleep

GROUPS = {
    "steps": ("make", "check", "collect", "train_tokenizer", "train_prior", "rollout", "evaluate"),
    "agents": ("train_agent", "evaluate_agent", "improve"),
    "tools": ("play", "data", "bundle", "push"),
}
MODULES = {name: f"worldmodel.cli.{group}.{name}" for group, names in GROUPS.items() for name in names}
HELP = ("--help", "-h", "help")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command with these arguments, by default those of the process.

    Raises: SystemExit with the status of the subcommand; 2 where there is no such subcommand.
    """
    first, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if first == "--version":
        print(__version__)
    elif not first or first in HELP:
        print(overview())
    else:
        run(first.replace("-", "_"), rest)


def run(name: str, arguments: Sequence[str] | None = None) -> None:
    """Run a subcommand, as a process of its own: signals and uncaught errors end in one line from here on."""
    install(name)
    wait_asleep()  # OpenMP reads it when torch is imported
    if name not in MODULES:
        known = [each.replace("_", "-") for each in MODULES]
        hint = suggestion(name.replace("_", "-"), known) or f"there are: {', '.join(known)}"
        exit_with_error(ValueError(f"worldmodel {name.replace('_', '-')}: no such command; {hint}"))
    entry(name)(arguments)


def entry(name: str) -> Any:
    """The `Command` of a subcommand, whose module is imported."""
    return import_module(MODULES[name]).main


def overview() -> str:
    """What `worldmodel --help` prints: each subcommand with the first sentence of its text."""
    lines = ["usage: worldmodel COMMAND [key=value ...]", ""]
    lines += [f"  {name.replace('_', '-'):17}{summary(name)}" for name in MODULES]
    return "\n".join([*lines, "", "worldmodel COMMAND --help lists the keys of a command."])


def summary(name: str) -> str:
    """The first sentence of a subcommand's docstring. The module is read, not imported."""
    spec = find_spec(MODULES[name])
    assert spec is not None and spec.origin is not None
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text())) or ""
    return " ".join(text.split("\n\n")[0].split()).partition(". ")[0].rstrip(".")

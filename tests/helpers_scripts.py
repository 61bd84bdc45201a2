"""The scripts within this process: their entries, configs and exits, without the seconds that imports take."""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

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


def leaves(work: Callable[[], Any]) -> int:
    """The exit status of a piece of work behind the door of the scripts."""
    try:
        shared("_errors").run_script(work)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    return 0

"""What the pages show is right: their Python runs, and their commands have keys that exist."""

import re
import shutil
from functools import cache, partial
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from tests.helpers_docs import PAGES, PYTHON, SHELL, code_spans, commands_in, keys_of, name_of
from worldmodel import envs
from worldmodel.cli.command import composed
from worldmodel.cli.main import MODULES, entry
from worldmodel.data.collect.collect import collect, dataset_info_of
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.config import from_mapping, to_dict
from worldmodel.io.hub.names import WORLDS

RUNS = [page for page in PAGES if page.name != "CONTRIBUTING.md" and PYTHON.search(page.read_text())]
SHELLS = [page for page in PAGES if SHELL.search(page.read_text())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs that pages speak of: the maze's world, and a few episodes."""
    folder = tmp_path_factory.mktemp("pages")
    for run in ("demo", "mine"):
        shutil.copytree(WORLDS / "maze", folder / "runs" / run / "world")
    config = envs.schema("maze")(rooms=3, goal_ends=False)
    about = dataset_info_of(envs.make(config), to_dict(config), policy="random", hold=8.0, seed=0, max_steps=40)
    store = EpisodeStore.create(folder / "runs/demo/episodes", about)
    assert not collect(partial(envs.make, config), store, 3, max_steps=40, progress=False).failures
    return folder


@pytest.mark.parametrize("page", RUNS, ids=name_of)
def test_the_python_of_a_page_runs(page, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("gymnasium.envs.registration.registry", {**gymnasium.registry})  # pages may use one id
    names: dict[str, Any] = {"__name__": "__main__"}
    for snippet in PYTHON.finditer(page.read_text()):
        line = page.read_text()[: snippet.start()].count("\n")
        exec(compile("\n" * line + snippet["code"], str(page), "exec"), names)


@pytest.mark.parametrize("page", SHELLS, ids=name_of)
def test_the_commands_of_a_page_have_keys_and_values_that_exist(page):
    for name, arguments in commands_in(page):
        assert name in MODULES, f"worldmodel {name.replace('_', '-')}: no such command"
        try:
            check(name, arguments)
        except ValueError as error:
            pytest.fail(f"worldmodel {name} {' '.join(arguments)}: {error}")


@cache
def check(name: str, arguments: tuple[str, ...]) -> None:
    """Compose the config of a command.

    Raises: ValueError for a key that does not exist, or a wrong value.
    """
    schema = entry(name).schema
    for values in composed(schema, name, arguments):
        config = from_mapping(schema, values)
        if given := getattr(config, "env", None):
            from_mapping(envs.schema(given["name"]), given, "env")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_keys_in_the_text_of_a_page_exist(page):
    spans = code_spans(page)
    named = [match[1] for span in spans if (match := re.match(r"worldmodel ([a-z][a-z-]+)", span))]
    assert {name for name in named if name.replace("-", "_") not in MODULES} == set()
    keys = [match[1] for span in spans if (match := re.match(r"([a-z_]+(?:\.[a-z_]+)+)=", span))]
    assert {key for key in keys if not key.startswith("env.kwargs") and key not in known()} == set()


@cache
def known() -> set[str]:
    """All keys of all commands and environments."""
    return {key for name in MODULES for key in keys_of(name)}


def test_there_are_snippets_and_commands():
    assert len(RUNS) >= 5 and sum(len(commands_in(page)) for page in SHELLS) >= 40

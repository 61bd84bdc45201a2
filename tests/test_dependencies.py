"""docs/dependencies.md has every direct dependency, and none that is gone."""

import re
import tomllib
from email.message import Message
from importlib.metadata import distributions, requires, version
from pathlib import Path
from typing import cast

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def named_in_pyproject() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return {Requirement(each).name for group in groups for each in group}


def named_in_tables() -> set[str]:
    text = (ROOT / "docs" / "dependencies.md").read_text().partition("## Licenses")[0]
    rows = re.findall(r"^\| ([^|]+) \|", text, flags=re.MULTILINE)
    return {name for row in rows for name in row.split(", ")} - {"package"}


def test_the_page_of_dependencies_is_that_of_pyproject():
    assert named_in_tables() == named_in_pyproject()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {normal(name): number for name, _, number in (line.partition("==") for line in lines) if number}


def test_every_installed_licence_that_is_not_permissive_is_named():
    named = re.findall(r"^\| ([\w.-]+) \|", section("## Licenses that are not permissive"), flags=re.MULTILINE)
    found = set()
    for each in distributions():
        metadata = cast(Message, each.metadata)  # its protocol lacks `get`
        words = [word for word in metadata.get_all("Classifier") or [] if word.startswith("License")]
        words += [metadata.get("License-Expression") or "", (metadata.get("License") or "")[:60]]
        if re.search(r"GPL|MPL|Mozilla|EUPL|CDDL|EPL|SSPL|Commons Clause", " ".join(words)):
            found.add(normal(metadata["Name"]))
    ours = found & set(pinned())
    assert ours <= set(named), ours - set(named)
    assert set(named) - {"distribution"} <= set(pinned())


def section(title: str) -> str:
    text = (ROOT / "docs" / "dependencies.md").read_text()
    return text.partition(title)[2].partition("\n## ")[0]


FLOORS = {"hydra-core": "1.3.7", "torch": "2.10"}  # the first versions without the faults that the page names


@pytest.mark.parametrize("name", FLOORS)
def test_versions_with_known_faults_are_not_admitted(name):
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (asked,) = (each for each in map(Requirement, dependencies) if each.name == name)
    assert str(asked.specifier) == f">={FLOORS[name]}" and f"| {name} |" in section("## Known vulnerabilities")
    assert asked.specifier.contains(pinned()[name])


def test_pillow_is_held_by_the_cap_that_the_page_names():
    assert Requirement("pillow<12.0").specifier.contains(pinned()["pillow"])
    (asked,) = (each for each in map(Requirement, requires("moviepy") or ()) if each.name == "pillow")
    if version("moviepy") == pinned()["moviepy"]:
        assert not asked.specifier.contains("12.1.1")

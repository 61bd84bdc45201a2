"""docs/dependencies.md has every direct dependency, and none that is gone."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def named_in_pyproject() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return {re.match(r"[\w.-]+", each)[0] for group in groups for each in group}


def named_in_tables() -> set[str]:
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "dependencies.md").read_text(), flags=re.MULTILINE)
    return {name for row in rows for name in row.split(", ")} - {"package"}


def test_the_page_of_dependencies_is_that_of_pyproject():
    assert named_in_tables() == named_in_pyproject()

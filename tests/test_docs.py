"""The pages of the documentation: links lead somewhere, commands exist, and the front page stays one."""

import re
from pathlib import Path

import pytest

from tests.helpers_docs import PAGES, ROOT, name_of


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_pictures_lead_to_files(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)", prose)
    inside = [target for target in targets if "://" not in target]
    assert [target for target in inside if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_name_scripts_presets_and_targets_that_exist(page: Path) -> None:
    text = page.read_text()
    scripts = re.findall(r"\b(?:scripts|benchmarks|examples)/\w+\.py\b", text)
    presets = re.findall(r"\bpreset=(\w+)", text)
    targets = re.findall(r"(?:^|`)make (\w+)", text, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert [name for name in scripts if not (ROOT / name).is_file()] == []
    assert [name for name in presets if not (ROOT / f"configs/preset/{name}.yaml").is_file()] == []
    assert [name for name in targets if f"\n{name}:" not in makefile] == []


def test_the_front_page_has_at_most_170_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 170


def test_the_table_of_what_was_tried_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "results" / "robustness.md").read_text()
    named = re.findall(r"`(test_\w+)::(test_\w+)`", page)
    assert len(named) > 50
    gone = [f"{f}::{t}" for f, t in named if f"def {t}(" not in (ROOT / f"tests/{f}.py").read_text()]
    assert gone == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_module_paths_exist(page: Path) -> None:
    named = re.findall(r"\b(?:worldmodel|envs)/[\w/]+\.py\b", page.read_text())
    assert [name for name in named if not (ROOT / name).is_file()] == []

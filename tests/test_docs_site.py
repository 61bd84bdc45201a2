"""The documentation site: it builds without a warning, and its notebooks run."""

import json
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
MAX_BYTES = 300_000  # of a notebook, its pictures included


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. Warnings are errors: pages in no list, dead links, broken docstrings."""
    out = tmp_path_factory.mktemp("site")
    options = ["-q", "-W", "--keep-going", "-E", "-b", "html", "-d", str(out / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(out / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return out / "html"


@pytest.mark.slow
def test_the_site_has_every_key_and_every_public_name(site):
    keys = (site / "reference/commands.html").read_text()
    assert all(key in keys for key in ("episodes=200", "fit.steps=6000", "tokenizer.quantizer.codes=256"))
    assert "env.scenario=" in (site / "reference/environments.html").read_text()
    world = unescape(re.sub(r"<[^>]+>", "", (site / "reference/python/world.html").read_text()))
    assert "imagine(frames: UInt8[Tensor, 'b t h w c'], actions:" in " ".join(world.split())


@pytest.mark.slow
def test_no_page_of_the_site_shows_what_was_to_be_replaced(site):
    pages = {str(page.relative_to(site)): page.read_text() for page in site.rglob("*.html")}
    assert [name for name, text in pages.items() if "<!-- generated:" in text or "~typing." in text] == []
    assert len(pages) > 30


def test_the_tables_of_results_are_those_of_their_json():
    done = subprocess.run(
        [sys.executable, "-c", "import tables; print(*(p.name for p in tables.outdated()))"],
        cwd=DOCS / "_ext", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [], "run: python docs/_ext/tables.py"


def test_the_lists_on_github_and_on_the_site_have_the_same_pages():
    site = set(re.findall(r"^(?:[^<\n]*<)?([\w/-]+)>?$", (DOCS / "index.md").read_text(), re.MULTILINE))
    github = {each for each in re.findall(r"\]\(([\w./-]+?)\.(?:md|ipynb)\)", (DOCS / "README.md").read_text())}
    own = {"../CHANGELOG": "changes", "../CONTRIBUTING": "contributing"}
    assert {own.get(page, page) for page in github} - {"index"} == site


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_its_stored_cells_ran_in_order(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert path.stat().st_size < MAX_BYTES
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("WORLDMODEL_MINUTES", "0.1")  # of each training in the notebook
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()

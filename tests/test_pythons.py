"""Every source compiles without a warning on all supported Pythons, and what needs no library runs there."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
FOLDERS = ("worldmodel", "envs", "scripts", "benchmarks", "examples", "tests")
COMPILE = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("error")
print(*sys.version_info[:2], sep=".")
for folder in sys.argv[1:]:
    for path in sorted(Path(folder).rglob("*.py")):
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        print(path)
"""
ALONE = """
import sys, warnings
warnings.simplefilter("error")
sys.path.insert(0, ".")
import runpy
for path in sys.argv[1:]:
    runpy.run_path(path)
    print(path)
"""


def interpreter(version: str) -> str:
    """A Python of that version on this machine; without one the test is skipped."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python{version}"))]
    found += [path for path in [shutil.which(f"python{version}")] if path]
    for path in found:
        if subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return path
    pytest.skip(f"no Python {version} on this machine")


def run(version: str, program: str, *words: str) -> list[str]:
    """The lines that a program prints under that version."""
    command = [interpreter(version), "-I", "-B", "-c", program, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_source_compiles_without_a_warning(version):
    found, *paths = run(version, COMPILE, *FOLDERS)
    assert found == version
    assert set(paths) == {str(path.relative_to(ROOT)) for each in FOLDERS for path in (ROOT / each).rglob("*.py")}


def test_a_warning_of_the_compiler_would_be_seen(tmp_path):
    (tmp_path / "wrong.py").write_text('"\\d"\n')
    done = subprocess.run([sys.executable, "-c", COMPILE, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1 and "wrong.py" in done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_modules_that_need_no_library_run(version):
    alone = ["envs/dmlab_tables.py", "envs/errors.py", "worldmodel/io/config.py"]
    alone += ["worldmodel/training/prefetch.py", "worldmodel/training/interrupt.py"]
    assert run(version, ALONE, *alone) == alone


def test_the_package_admits_these_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={VERSIONS[0]}"

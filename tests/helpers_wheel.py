"""A wheel of the package, built from a copy, so that nothing is left in this tree."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def copy_source(folder: Path) -> Path:
    """Copy what a wheel is made of to folder/source."""
    how: Any = {"symlinks": True, "ignore": shutil.ignore_patterns("__pycache__")}
    for each in ("worldmodel", "envs", "configs"):
        shutil.copytree(ROOT / each, folder / "source" / each, **how)
    for each in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / each, folder / "source")
    return folder / "source"


def build_wheel(source: Path, folder: Path) -> Path:
    """Build the wheel of a copy into a folder."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q", "."]
    subprocess.run([*command, "-w", str(folder)], cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel

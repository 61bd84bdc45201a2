"""The floors of the house: imports point one way, and no room stands outside the plan."""

import tomllib
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]


def rooms() -> set[str]:
    """Every module and package that lies directly in worldmodel."""
    found = (ROOT / "worldmodel").iterdir()
    return {p.stem for p in found if (p.suffix == ".py" or (p / "__init__.py").is_file()) and "__" not in p.stem}


def test_imports_keep_the_floors(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    code = lint_imports(config_filename="pyproject.toml", no_cache=True)
    assert code == 0, capsys.readouterr().out


def test_every_room_has_its_floor():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (c["layers"] for c in contracts if c["type"] == "layers" and "containers" not in c)
    names = " ".join(layers).translate(str.maketrans("():|", "    ")).split()
    planned = {name.removeprefix("worldmodel.") for name in names} | {"training", "envs"}  # these have contracts
    assert rooms() <= planned, f"give these a floor in pyproject.toml: {rooms() - planned}"


def test_no_room_but_training_knows_training():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (c for c in contracts if c.get("forbidden_modules") == ["worldmodel.training"])
    free = {"training", "cli", "api", "envs"}  # commands train, and environments know nothing at all
    assert {name.removeprefix("worldmodel.") for name in contract["source_modules"]} == rooms() - free

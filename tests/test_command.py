"""The command `worldmodel`: its list of subcommands, what it refuses, and that each script is one of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers_scripts import SCRIPTS, leaves
from worldmodel import __version__
from worldmodel.cli.main import MODULES, main, overview
from worldmodel.io.hub.names import WORLDS

ROOT = Path(__file__).parents[1]
NO_TORCH = "import sys; from worldmodel.cli.main import main; main({given}); assert 'torch' not in sys.modules"


def test_every_subcommand_is_listed_with_one_sentence():
    lines = overview().splitlines()
    for name in MODULES:
        (line,) = (line for line in lines if line.split()[:1] == [name.replace("_", "-")])
        assert len(line) <= 111 and len(line.split()) > 3


@pytest.mark.parametrize("given", [[], ["--help"], ["-h"], ["help"]])
def test_without_a_subcommand_the_list_is_printed(given, capsys):
    main(given)
    assert capsys.readouterr().out.startswith("usage: worldmodel COMMAND")


def test_the_version_is_that_of_the_package(capsys):
    main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


def test_the_list_needs_no_pytorch():
    program = NO_TORCH.format(given=["--help"])
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0


def test_a_misspelt_subcommand_is_answered_with_the_close_one(monkeypatch, capsys):
    monkeypatch.setattr("worldmodel.cli.main.install", lambda name: None)
    assert leaves(lambda: main(["colect", "env=maze"])) == 2
    printed = capsys.readouterr().err
    assert printed == "error: worldmodel colect: no such command; did you mean 'collect'?\n"


def test_both_spellings_of_a_name_are_one_command(monkeypatch, capsys):
    monkeypatch.setattr("worldmodel.cli.main.install", lambda name: None)
    for name in ("train-prior", "train_prior"):
        main([name, "--help"])
        assert "usage: worldmodel train-prior" in capsys.readouterr().out


def test_each_script_of_a_clone_is_a_subcommand_and_runs_it():
    found = {path.stem: path.read_text() for path in SCRIPTS.glob("*.py")}
    assert {*found} == {*MODULES}
    assert [name for name, text in found.items() if f'run("{name}")' not in text] == []


def test_the_module_is_the_command_too(tmp_path):
    command = [sys.executable, "-m", "worldmodel", "collect", f"run={tmp_path}", "env=nowhere"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "there is no 'nowhere'" in done.stderr


def test_environments_and_presets_are_found_below_the_package():
    package = WORLDS.parent
    assert (package / "envs" / "maze.py").samefile(ROOT / "envs" / "maze.py")
    assert (package / "configs" / "preset" / "demo.yaml").samefile(ROOT / "configs" / "preset" / "demo.yaml")


def test_what_needs_no_model_needs_no_pytorch():
    program = "import sys, {}; assert 'torch' not in sys.modules".format(
        ", ".join(MODULES[name] for name in ("check", "collect"))
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)

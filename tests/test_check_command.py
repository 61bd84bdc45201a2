"""`worldmodel check`, and the first lines of `worldmodel collect`: what is printed, refused and written."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers_scripts import exit_status, run
from worldmodel.cli.main import entry
from worldmodel.data.episodes.store import EpisodeStore

FEW = ["workers=0", "episodes=2", "policy=random"]


def of(name: str) -> str:
    return f"env.id=tests.helpers_check:Check{name}-v0"


def test_check_prints_the_findings_and_writes_the_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = run("check", of("MiniGridLike"), *FEW)
    assert [line.split()[0] for line in printed.splitlines()] == [
        *("frames", "actions", "rewards", "ends", "speed", "estimate", "warning:", "warning:", "pictures:")
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["check.png"]
    with Image.open("check.png") as image:
        assert image.width <= 1600


@pytest.mark.parametrize("name", ["Black", "Constant", "OldStep"])
def test_what_no_world_can_learn_from_has_status_two(name, tmp_path, capsys):
    assert exit_status(lambda: entry("check")([of(name), *FEW, f"out={tmp_path / 'a.png'}"])) == 2
    printed = capsys.readouterr()
    assert ("warning: episode 0 failed: " if name == "OldStep" else "refused: the observation: ") in printed.out
    assert printed.err == "error: no world can learn from this; see the lines above\n"
    assert (tmp_path / "a.png").exists() == (name != "OldStep")


def test_a_preset_is_checked_as_it_would_be_collected(tmp_path):
    printed = run("check", "preset=maze", "env.height=16", "env.width=16", f"out={tmp_path / 'a.png'}", "played=1")
    assert "the observation, 16×16 → 16×16" in printed and "for 320 episodes" in printed


def test_a_collection_begins_with_what_it_would_see(tmp_path: Path):
    printed = run("collect", of("MiniGridLike"), *FEW, folder=tmp_path)
    assert printed.startswith(
        "frames: render(), 160×160 → 64×64\nactions: Discrete(3): left, right, forward\nestimate:"
    )
    assert f"pictures: {tmp_path / 'check.png'}" in printed and (tmp_path / "check.png").exists()
    info = EpisodeStore.open(tmp_path / "episodes").info
    assert info.action_names == ("left", "right", "forward") and info.max_steps == 40
    again = run("collect", of("MiniGridLike"), *FEW, folder=tmp_path)
    assert "nothing to do" in again and "pictures" not in again and "estimate" not in again


def test_a_collection_of_black_pictures_is_refused_before_it_begins_unless_it_is_asked_for(tmp_path: Path):
    printed = run("collect", of("Black"), *FEW, folder=tmp_path, ok=False)
    assert "check.png; check=false collects anyway" in printed and not (tmp_path / "episodes").exists()
    assert "2 new" in run("collect", of("Black"), *FEW, "check=false", folder=tmp_path)


def test_names_on_the_command_line_are_kept_with_the_episodes(tmp_path: Path):
    run("collect", of("CarRacingLike"), *FEW, "env.action_names=[steer,gas,brake]", "max_steps=5", folder=tmp_path)
    info = EpisodeStore.open(tmp_path / "episodes").info
    assert info.action_names == ("steer", "gas", "brake") and info.max_steps == 5


@pytest.mark.slow
def test_a_module_in_the_working_directory_is_found_in_the_worker_processes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "worked_at_home"
    text = "import gymnasium\nfrom tests.helpers_check import Walker\n\n\ndef act(observation, rng, action_space):\n"
    text += f"    return 1\n\n\ngymnasium.register('{name}-v0', Walker)\n"
    Path(f"{name}.py").write_text(text)
    given = [f"env.id={name}:{name}-v0", f"policy={name}:act", "episodes=3", "workers=2", "env.height=16"]
    run("collect", *given, folder=tmp_path / "run")
    store = EpisodeStore.open(tmp_path / "run/episodes")
    assert all((store.actions(index) == 1).all() for index in range(3))


def test_an_import_is_told_what_it_lacks(tmp_path: Path):
    (tmp_path / "films" / "first").mkdir(parents=True)
    for number in range(6):
        pixels = np.full((9, 9, 3), 40 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "films" / "first" / f"{number}.png")
    (tmp_path / "films" / "first.csv").write_text("action\n" + "left\n" * 5)
    printed = run("data", "import", f"from={tmp_path / 'films'}", folder=tmp_path / "run")
    assert "warning: all rewards of 5 steps are 0: a table needs the column reward" in printed
    assert "warning: pictures of 9×9 pixels are smaller than 16×16: import larger ones" in printed

"""Worlds that come with the package: found by name everywhere, rounded before they are measured, in the wheel."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.helpers_dreams import noise_store
from tests.helpers_models import pixelcnn_of, quantizer_of, random_frames, small_world, vqvae_of
from tests.helpers_scripts import run
from tests.helpers_wheel import build_wheel, copy_source
from tests.test_examples import maze_world
from tests.test_scripts import ROOT, TINY
from worldmodel.evaluate.sections.horizon import keep_horizon
from worldmodel.io.hub import names
from worldmodel.io.hub.names import bundled_worlds, resolve_world
from worldmodel.io.hub.report import load_report
from worldmodel.io.json_files import read_checked_json, read_json, write_json
from worldmodel.world import WorldModel, to_float16_if_lossless

SHIPPED = ["maze", "my_way_home"]  # the worlds that the package has: whoever adds one adds its name here
BYTES = 8_000_000


@pytest.fixture
def worlds(tmp_path, monkeypatch) -> Path:
    """The package has one world, "tiny", and we are in an empty folder."""
    world = small_world()
    world.round_weights()
    world.save(tmp_path / "worlds" / "tiny")
    monkeypatch.setattr(names, "WORLDS", tmp_path / "worlds")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "worlds"


def named(script: str, *settings: str, folder: Path, worlds: Path) -> str:
    """Run a script in a folder, by a package that has these worlds; what it printed."""
    program = (
        f"import pathlib, runpy, sys\n"
        f"from worldmodel.io.hub import names; names.WORLDS = pathlib.Path({str(worlds)!r})\n"
        f"runpy.run_path({str(ROOT / script)!r} + '.py', run_name='__main__')"
    )
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, *settings]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- names


def test_a_name_is_loaded_and_makes_environments_alone_and_batched(worlds):
    assert WorldModel.load("tiny").info == WorldModel.load(worlds / "tiny").info
    alone = gymnasium.make("worldmodel/Dream-v0", world="tiny")
    batch = gymnasium.make_vec("worldmodel/Dream-v0", num_envs=2, world="tiny")
    assert np.array_equal(alone.reset(seed=3)[0], batch.reset(seed=3)[0][0])


def test_a_folder_of_that_name_wins(worlds):
    assert resolve_world("tiny") == resolve_world(Path("tiny")) == worlds / "tiny"
    small_world(longest=77).save("tiny")
    assert resolve_world("tiny") == Path("tiny") and WorldModel.load("tiny").info.longest == 77


def test_a_folder_of_that_name_without_a_world_is_named_and_the_world_of_the_package_has_a_name_of_its_own(worlds):
    assert resolve_world("worldmodel:tiny") == resolve_world(Path("worldmodel:tiny")) == worlds / "tiny"
    for make in (Path.mkdir, Path.touch):  # a folder, or a file
        make(Path("tiny"))
        for ask in (resolve_world, WorldModel.load, lambda name: gymnasium.make("worldmodel/Dream-v0", world=name)):
            with pytest.raises(ValueError, match=r"tiny is there, but holds no world.*write worldmodel:tiny"):
                ask("tiny")
        assert WorldModel.load("worldmodel:tiny").info == WorldModel.load(worlds / "tiny").info
        Path("tiny").rmdir() if Path("tiny").is_dir() else Path("tiny").unlink()
    with pytest.raises(ValueError, match="the package has: tiny"):
        resolve_world("worldmodel:tinny")


def test_the_error_for_an_unknown_name_lists_the_known_ones_and_a_path_is_left_as_it_is(worlds):
    for ask in (resolve_world, WorldModel.load):
        with pytest.raises(
            ValueError,
            match=r"'tinny': no such folder, and no world .* the package has: tiny",
        ):
            ask("tinny")
    assert (
        resolve_world("runs/tiny") == Path("runs/tiny")
        and resolve_world(".") == Path(".")
        and resolve_world("..") == Path("..")
    )
    shutil.rmtree(worlds)
    with pytest.raises(ValueError, match="the package has: none"):
        resolve_world("tiny")


@pytest.mark.slow
def test_a_named_world_is_rolled_out_without_any_episode_into_a_run_of_its_name(worlds):
    here = Path.cwd()
    printed = named("scripts/rollout", "world=tiny", "horizon=6", "scale=1", folder=here, worlds=worlds)
    out = here / "runs" / "tiny" / "rollout"
    assert "runs/tiny/rollout/rollout.mp4" in printed and np.load(out / "tokens.npy").shape == (6, 2, 3)
    first = np.load(out / "tokens.npy")
    run("rollout", "world=tiny", "horizon=6", "scale=1", "episode=2", "seed=1")
    assert not np.array_equal(np.load(out / "tokens.npy"), first)
    (here / "tiny").mkdir()  # a folder of the user, which is no world
    world = "world=worldmodel:tiny"
    assert "runs/tiny/rollout" in run("rollout", world, "horizon=6", "scale=1")
    (here / "tiny").rmdir()
    run("rollout", "world=tiny", "horizon=6", "scale=1", "run=mine")
    assert np.array_equal(np.load(here / "mine" / "rollout" / "tokens.npy"), first)


@pytest.mark.slow
def test_agents_learn_and_are_measured_and_examples_run_in_a_world_by_its_name(worlds):
    here = Path.cwd()
    maze_world().save(worlds / "small_maze")
    printed = named("examples/step_a_dream", "small_maze", folder=here, worlds=worlds)
    assert printed.count("surprise") == 60
    run("train_agent", "world=small_maze", *TINY["train_agent"], "max_steps=6")
    assert (here / "runs" / "small_maze" / "agent" / "agent.json").is_file()
    run("evaluate_agent", "world=small_maze", *TINY["evaluate_agent"])
    found = read_json(here / "runs" / "small_maze" / "agents.json")
    assert str(worlds / "small_maze") in found["made_with"]["weights"] and set(found["returns"]) >= {"dream", "cem"}


@pytest.mark.slow
def test_an_episodes_folder_that_was_asked_for_must_be_there(worlds, tmp_path):
    printed = run("rollout", f"world={worlds / 'tiny'}", f"episodes={tmp_path / 'none'}", folder=tmp_path, ok=False)
    assert "error:" in printed and str(tmp_path / "none") in printed


# --- rounding


def test_a_rounded_world_comes_back_to_the_last_bit_from_half_the_bytes(tmp_path):
    world = small_world()
    world.save(tmp_path / "before")
    before = [p.clone() for p in world.parameters()]
    world.round_weights()
    assert all(torch.equal(p, q.half().float()) for p, q in zip(world.parameters(), before, strict=True))
    world.save(tmp_path / "after")
    back = WorldModel.load(tmp_path / "after")
    states = world.state_dict(), back.state_dict()
    assert all(torch.equal(x, states[1][k]) and x.dtype == states[1][k].dtype for k, x in states[0].items())
    sizes = [
        sum(x.nbytes for x in load_file(tmp_path / each / "weights.safetensors").values())
        for each in ("before", "after")
    ]
    assert sizes[1] < 0.6 * sizes[0]
    frames, actions = random_frames(2, 3), np.random.default_rng(0).integers(0, 4, (2, 8))
    assert torch.equal(world.imagine(frames, actions, 6), back.imagine(frames, actions, 6))
    assert torch.equal(world.tokenizer.encode(frames), back.tokenizer.encode(frames))


def test_what_float16_would_change_is_saved_as_it_is_and_starts_take_the_bytes_that_they_need():
    for kept in ([1 / 3], [1e6], [float("nan")]):
        assert to_float16_if_lossless(torch.tensor(kept)).dtype == torch.float32
    assert to_float16_if_lossless(torch.tensor([0.5, 2.0])).dtype == torch.float16
    assert to_float16_if_lossless(torch.tensor([0.5], dtype=torch.float64)).dtype == torch.float64
    starts = small_world().starts
    assert starts is not None
    for largest, kind in ((18, torch.uint8), (255, torch.uint8), (256, torch.int16), (2**15, torch.int32)):
        starts.tokens[0, 0] = largest
        assert starts.tensors()["tokens"].dtype == kind
        again = type(starts).from_tensors({k: to_float16_if_lossless(x) for k, x in starts.tensors().items()})
        assert torch.equal(again.tokens, starts.tokens) and torch.equal(again.actions, starts.actions)


def test_a_weight_beyond_float16_is_refused_and_nothing_is_rounded():
    world = small_world()
    with torch.no_grad():
        pixelcnn_of(world).first.add_(1e5)
    before = world.state_dict()["tokenizer.bottleneck.codebook"].clone()
    with pytest.raises(ValueError, match=r"cannot hold prior\.first"):
        world.round_weights()
    assert torch.equal(quantizer_of(vqvae_of(world)).codebook, before)


# --- shipping


@pytest.mark.slow
def test_what_is_shipped_is_what_was_measured(tmp_path):
    world, to = small_world(), tmp_path / "worlds" / "tiny"
    world.info.trust_horizon = 99  # of the world before it is rounded
    world.save(tmp_path / "world")
    noise_store(tmp_path / "episodes")
    assert "not measured yet" in run("bundle", f"to={to}", "commands=[]", folder=tmp_path)
    assert WorldModel.load(to).info.trust_horizon is None
    out = tmp_path / "bundle"
    run("evaluate", f"world={to}", f"out={out}", *TINY["evaluate"], folder=tmp_path)
    assert not (tmp_path / "report.json").exists() and not (tmp_path / "tokens").exists()
    printed = run("bundle", f"to={to}", 'commands=["python scripts/collect.py env=maze","train it"]', folder=tmp_path)
    assert "WorldModel.load('tiny')" in printed and "not measured" not in printed
    report, whole = read_checked_json(to / "report.json"), read_checked_json(out / "report.json")
    assert report == {name: whole[name] for name in ("made_with", "figures")}
    assert report["made_with"]["world"] == read_json(to / "config.json")["weights"]
    horizon = WorldModel.load(to).info.trust_horizon
    assert horizon == whole["figures"]["horizon/steps"]["low"]
    keep_horizon(to, 99)
    other = "report.sampler.temperature=0.5", f"out={tmp_path / 'cooler'}"
    run("evaluate", f"world={to}", *other, *TINY["evaluate"], folder=tmp_path)
    assert WorldModel.load(to).info.trust_horizon == 99  # that was no measurement of the world as it dreams
    words = (to / "README.md").read_text()
    assert 'WorldModel.load("tiny")' in words and "| step 2 | train it |" in words and "| tokenizer/psnr |" in words
    assert "| seed of the episodes | 0 |" in words and "| seed of the evaluation | 0 |" in words


@pytest.mark.slow
def test_a_world_that_is_found_by_its_name_keeps_the_horizon_that_it_came_with(worlds):
    here = Path.cwd()
    keep_horizon(worlds / "tiny", 5)
    noise_store(here / "runs" / "tiny" / "episodes")
    run("evaluate", "world=tiny", *TINY["evaluate"])
    assert (here / "runs" / "tiny" / "report.html").is_file() and WorldModel.load("tiny").info.trust_horizon == 5


def test_figures_of_other_weights_are_not_shipped(tmp_path):
    small_world().save(tmp_path / "world")
    write_json(tmp_path / "report.json", {"made_with": {"world": "0" * 64}, "figures": {}})
    settings = f"report={tmp_path / 'report.json'}", f"to={tmp_path / 'tiny'}", "commands=[]"
    assert "measured of other weights" in run("bundle", *settings, folder=tmp_path, ok=False)


def test_figures_of_another_temperature_are_not_shipped(tmp_path):
    world, report = small_world(), tmp_path / "report.json"
    world.info.temperature = 0.5
    world.save(tmp_path / "world")
    weights = read_json(tmp_path / "world" / "config.json")["weights"]
    cooler = {"temperature": [0.5, 0], "settings": {"sampler": {"temperature": 0.2, "temperature_until": 0}}}
    for made, wrong in (({}, True), (cooler, True), ({"temperature": [0.5, 0]}, False)):
        write_json(report, {"made_with": {"world": weights, **made}, "figures": {}})
        if wrong:
            with pytest.raises(ValueError, match="at another temperature"):
                load_report(report, tmp_path / "world")
        else:
            assert load_report(report, tmp_path / "world")["made_with"]["temperature"] == [0.5, 0]


# --- in the package


def test_the_package_has_these_worlds_and_no_others():
    assert bundled_worlds() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_each_is_small_and_measured_and_dreams_by_its_name(name):
    folder = resolve_world(name)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert (
        set(sizes) == {"weights.safetensors", "config.json", "README.md", "report.json"} and sum(sizes.values()) < BYTES
    )
    assert read_json(folder / "report.json")["made_with"]["world"] == read_json(folder / "config.json")["weights"]
    world = WorldModel.load(name)
    world.round_weights()
    assert all(torch.equal(x, world.state_dict()[k]) for k, x in WorldModel.load(name).state_dict().items())
    env = gymnasium.make("worldmodel/Dream-v0", world=name)
    frame, _ = env.reset(seed=0)
    frames = [frame, *(env.step(env.action_space.sample())[0] for _ in range(3))]
    assert all(each.shape == world.info.frame_shape and each.std() > 1 for each in frames)


@pytest.mark.slow
def test_a_wheel_holds_worlds_environments_and_presets_below_one_name(tmp_path):
    source = copy_source(tmp_path)
    small_world().save(source / "worldmodel" / "worlds" / "tiny")
    names = set(zipfile.ZipFile(build_wheel(source, tmp_path)).namelist())
    assert {f"worldmodel/worlds/tiny/{name}" for name in ("weights.safetensors", "config.json")} <= names
    assert {f"worldmodel/worlds/{name}/README.md" for name in SHIPPED} <= names
    assert {"worldmodel/envs/maze.py", "worldmodel/configs/preset/tiny.yaml", "worldmodel/cli/main.py"} <= names
    assert not {name.partition("/")[0] for name in names} & {"envs", "configs", "scripts", "tests"}

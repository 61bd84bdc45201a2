"""The training scripts on one tiny run: what they record, what they refuse, and what they leave on disk."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import pytest

from tests.helpers_scripts import run
from tests.test_scripts import ROOT, TINY, WORLDS, run_process
from tests.test_threads import SCRIPTS
from worldmodel.cli import errors
from worldmodel.cli.agents.resume import Resume
from worldmodel.io.lock import writer_lock
from worldmodel.training.run_state import Checkpoint, save

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A run of real-valued actions with a tokenizer and a prior of 6 steps."""
    folder = tmp_path_factory.mktemp("made")
    env, tokenizer, _ = WORLDS["continuous"]
    run("collect", *env, *TINY["collect"], folder=folder)
    run("train_tokenizer", *tokenizer, *TINY["train_tokenizer"], folder=folder)
    run("train_prior", *TINY["train_prior"], folder=folder)
    return folder


@pytest.fixture
def trained(made, tmp_path) -> Path:
    """A copy of that run, to change."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def test_a_prior_trained_longer_says_so_and_the_world_keeps_its_course(trained):
    printed = run("train_prior", *TINY["train_prior"], "fit.steps=8", folder=trained)
    assert "at step 6: fit.steps is 8 now and was 6" in printed
    course = json.loads((trained / "world/config.json").read_text())["config"]["info"]["trained"]
    assert [(each["from_step"], each["steps"]) for each in course["prior"]] == [(0, 6), (6, 8)]
    assert [(each["from_step"], each["steps"]) for each in course["tokenizer"]] == [(0, 6)]


@pytest.mark.parametrize("kind", ["fsq", "rvq"])
def test_every_bottleneck_is_trained_dreamed_and_measured_by_the_scripts(made, tmp_path, kind):
    shutil.copytree(made / "episodes", tmp_path / "episodes")
    settings = [*WORLDS["continuous"][1], *TINY["train_tokenizer"], f"tokenizer.bottleneck={kind}"]
    assert "parameters" in run("train_tokenizer", *settings, folder=tmp_path)
    run("train_prior", *TINY["train_prior"], folder=tmp_path)
    run("rollout", "horizon=8", WORLDS["continuous"][2], folder=tmp_path)
    run("evaluate", *TINY["evaluate"], folder=tmp_path)
    saved = json.loads((tmp_path / "world/config.json").read_text())["config"]
    assert saved["tokenizer"]["bottleneck"] == kind and (tmp_path / "report.html").exists()


def test_other_bounds_of_the_actions_are_another_run(trained):
    path = trained / "episodes/dataset.json"
    values = json.loads(path.read_text())
    values["action_space"]["high"], _ = [4.0], values.pop("sha256", None)
    path.write_text(json.dumps(values))
    assert "identity.actions" in run("train_prior", *TINY["train_prior"], folder=trained, ok=False)


def test_a_tokenizer_trained_again_needs_a_fresh_prior_and_nothing_is_deleted(trained):
    tokenizer = [*WORLDS["continuous"][1], *TINY["train_tokenizer"], "fit.seed=1"]
    assert "fit.seed: 0 there, 1 here); choose another run name, or start anew with fresh=true" in run(
        "train_tokenizer", *tokenizer, folder=trained, ok=False
    )
    before = (trained / "tokenizer/weights.safetensors").read_bytes()
    assert "tokenizer.old-1" in run("train_tokenizer", *tokenizer, "fresh=true", folder=trained)
    assert (trained / "tokenizer.old-1/weights.safetensors").read_bytes() == before
    prior = TINY["train_prior"]
    refused = run("train_prior", *prior, folder=trained, ok=False)
    assert "prior holds another run (the tokenizer was trained again, or the episodes changed" in refused
    assert "start anew with fresh=true, which keeps this one as prior.old-1" in refused
    assert "fresh: " in run("train_prior", *prior, "fresh=true", folder=trained)
    assert "fresh: " not in run("train_prior", *prior, "fresh=true", folder=trained)  # it has these settings
    assert "fresh: " in run("train_prior", *prior, "fresh=true", "fit.steps=4", folder=trained)
    kept = sorted(path.name for path in trained.glob("*.old-*"))
    assert kept == ["prior.old-1", "prior.old-2", "tokenizer.old-1", "world.old-1", "world.old-2"]
    assert (trained / "world/weights.safetensors").is_file()


@pytest.mark.parametrize(("script", "part"), [("train_tokenizer", "tokenizer"), ("train_prior", "prior")])
def test_a_second_training_of_a_run_ends_in_one_line_that_says_who_trains(trained, script, part):
    settings = WORLDS["continuous"][1] if script == "train_tokenizer" else []
    with writer_lock(trained / part, "training"):
        printed = run_process(script, *settings, *TINY[script], folder=trained, ok=False)
    assert re.fullmatch(rf"error: \S+/{part}: process {os.getpid()} on \S+, since .*\(training\).*\n", printed), printed


AGENT = [*TINY["train_agent"], "ppo.steps=256", "eval_every=96"]


def returns_of(folder: Path) -> dict[str, float]:
    return json.loads((folder / "agent.json").read_text())["real_returns"]


@pytest.mark.long
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_an_agent_that_was_stopped_ends_as_one_that_was_not(trained, signum):
    run("train_agent", *AGENT, f"out={trained / 'whole'}", folder=trained)
    command = [sys.executable, "scripts/train_agent.py", f"run={trained}", *AGENT]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    training = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
    while not list((trained / "agent/resume/checkpoints").glob("0*")):
        assert training.poll() is None
        time.sleep(0.02)
    training.send_signal(signum)
    said = training.communicate(timeout=60)[1]
    assert training.returncode in (128 + signum, -signum) and not (trained / "agent/agent.json").exists()
    assert signum == signal.SIGKILL or "the same command continues from there" in said
    assert "agent: continues from step" in run("train_agent", *AGENT, folder=trained)
    same = [(trained / name / "weights.safetensors").read_bytes() for name in ("whole", "agent")]
    assert same[0] == same[1] and returns_of(trained / "whole") == returns_of(trained / "agent")
    assert not (trained / "agent/resume").exists()
    assert "continues from step" not in run("train_agent", *AGENT, folder=trained)


def test_an_agent_of_other_settings_does_not_take_up_what_was_saved(trained):
    save(trained / "agent/resume", Checkpoint(32, {}, {"made_with": {"seed": 0}}))
    other, own = (Resume(trained / "agent", {"seed": seed}, {}, 0) for seed in (1, 0))
    assert other.find() is None and own.find() is not None
    other.take_up(cast(Any, None), None)
    assert own.find() is None


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_stopped_script_says_is_true_of_it(script, monkeypatch, capsys):
    for name, value in {"_command": script, "_signum": 0, "_early": False}.items():
        monkeypatch.setattr(errors, name, value)
    with pytest.raises(SystemExit):
        errors.exit_on_signal(signal.SIGTERM)
    goes_on = script in {"make", "collect", "train_tokenizer", "train_prior", "train_agent", "improve"}
    assert ("continues from there" in capsys.readouterr().err) == goes_on

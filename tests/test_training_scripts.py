"""The training scripts on one tiny run: what they record, what they refuse, and what they leave on disk."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.test_scripts import TINY, WORLDS, run
from worldmodel.io.lock import writer_lock

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


def test_other_bounds_of_the_actions_are_another_run(trained):
    path = trained / "episodes/dataset.json"
    values = json.loads(path.read_text())
    values["action_space"]["high"], _ = [4.0], values.pop("sha256", None)
    path.write_text(json.dumps(values))
    assert "identity.actions" in run("train_prior", *TINY["train_prior"], folder=trained, ok=False)


@pytest.mark.parametrize(("script", "part"), [("train_tokenizer", "tokenizer"), ("train_prior", "prior")])
def test_a_second_training_of_a_run_ends_in_one_line_that_says_who_trains(trained, script, part):
    settings = WORLDS["continuous"][1] if script == "train_tokenizer" else []
    with writer_lock(trained / part, "training"):
        printed = run(script, *settings, *TINY[script], folder=trained, ok=False)
    assert re.fullmatch(rf"error: \S+/{part}: process {os.getpid()} on \S+, since .*\(training\).*\n", printed), printed

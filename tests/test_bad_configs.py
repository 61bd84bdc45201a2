"""A world's config.json that holds other things than a world: every script says so in one line, and ends with 2."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers_env import counter_info
from tests.helpers_models import small_world
from tests.helpers_scripts import SCRIPTS, entry
from tests.test_episode_store import make_episode
from worldmodel.cli.models import is_up_to_date
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.json_files import write_checked_json, write_json

ODD: dict[str, Any] = {
    "nothing": {},
    "a list": {"format": 1, "weights": "", "config": []},
    "no weights": {"format": 1, "config": {"kind": "world", "info": {}}},
    "no info": {"format": 1, "weights": "", "config": {"kind": "world"}},
    "info that is a list": {"format": 1, "weights": "", "config": {"kind": "world", "info": []}},
    "a temperature that is a list": {
        "format": 1,
        "weights": "",
        "config": {"kind": "world", "info": {"temperature": [1], "trust_horizon": {}}},
    },
}
COMMANDS = {
    "evaluate": [],
    "rollout": [],
    "train_agent": [],
    "evaluate_agent": [],
    "push": ["repo=a/b", "endpoint=http://127.0.0.1:9"],
    "bundle": ["to=RUN/to", "commands=[]"],
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    small_world().save(tmp_path / "world")
    store = EpisodeStore.create(tmp_path / "episodes", counter_info())
    for index in range(3):
        store.write(make_episode(index, 5))
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("what", ODD)
def test_a_config_of_something_else_is_one_line(run, what, name, monkeypatch, capsys):
    digest = hashlib.sha256((run / "world/weights.safetensors").read_bytes()).hexdigest()
    about = {key: digest if key == "weights" else value for key, value in ODD[what].items()}
    (run / "world/config.json").write_text(json.dumps(about))
    shutil.copytree(run / "world", run / "agent")
    given = [each.replace("RUN", str(run)) for each in COMMANDS[name]]
    with pytest.raises(SystemExit) as leaving:
        entry(name)([f"run={run}", *given])
    printed = capsys.readouterr().err
    assert leaving.value.code == 2 and printed.startswith(f"error: {run}") and printed.count("\n") == 1, printed


def test_a_result_that_was_changed_is_made_anew(tmp_path):
    path = tmp_path / "agent.json"
    write_checked_json(path, {"made_with": {"x": 1}, "real_returns": {"0": 0.5}})
    assert is_up_to_date(path, {"x": 1}) and not is_up_to_date(path, {"x": 2})
    path.write_text(path.read_text().replace("0.5", "9.5"))
    assert not is_up_to_date(path, {"x": 1})
    write_json(path, {"made_with": {"x": 1}, "real_returns": {"0": 0.5}})  # by an older version, without a seal
    assert is_up_to_date(path, {"x": 1})


def test_a_script_runs_as_a_module_too(tmp_path):
    command = [sys.executable, "-m", "scripts.collect", f"run={tmp_path}", "env=nowhere"]
    done = subprocess.run(command, cwd=SCRIPTS.parent, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "there is no 'nowhere'" in done.stderr

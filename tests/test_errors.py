"""One door: what a person can set right ends in one line and status 2; a fault of our own asks to be reported."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import urllib.error
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import gymnasium
import httpx2
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub.errors import LocalEntryNotFoundError
from hydra.errors import ConfigCompositionException
from omegaconf.errors import ConfigKeyError
from safetensors import SafetensorError

from tests.helpers_models import small_world
from tests.helpers_scripts import entry, leaves, module, schema
from tests.test_scripts import ROOT
from worldmodel.cli.models import format_metrics
from worldmodel.data.collect.collect import EngineError
from worldmodel.io.config import from_mapping

OURS = "please report the lines above and the command"


class OwnError(Exception):
    """As a person's own code may raise."""


PERSONS = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x"),
    OSError(errno.EIO, os.strerror(errno.EIO), "x"),
    PermissionError(errno.EACCES, os.strerror(errno.EACCES), "x"),
    FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "x"),
    TimeoutError("timed out"),
    ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)),
    urllib.error.URLError("no network"),
    ValueError("a value"),
    ValueError("two\nlines"),
    ValueError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    json.JSONDecodeError("no JSON", "x", 0),
    ImportError("no package", name="x"),
    FloatingPointError("loss is nan"),
    MemoryError(),
    EngineError("step raised KeyError: 'engine'"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    SafetensorError("header too large"),
    RuntimeError("Can't decrement id ref count (errno = 28, error message = 'No space left on device')"),
    torch.OutOfMemoryError("CUDA out of memory"),
    gymnasium.error.ResetNeeded("reset first"),
    ConfigCompositionException("composed wrongly"),
    ConfigKeyError("no such key"),
    httpx2.ConnectError("no network"),
    LocalEntryNotFoundError("not in the cache"),
    yaml.YAMLError("no YAML"),
    zipfile.BadZipFile("no zip"),
]
FAULTS = [
    KeyError("x"), IndexError("x"), TypeError("x"), AttributeError("x"), AssertionError("x"), AssertionError(),
    RuntimeError("x"), RecursionError("x"), NameError("x"), ZeroDivisionError("x"), OwnError("x"), StopIteration(),
]  # fmt: skip


def raising(error: BaseException):
    """Raises from the standard library, as C code below ours does: no line of a person's is in the traceback."""
    return mock.Mock(side_effect=error.with_traceback(None))


@pytest.mark.parametrize("error", PERSONS, ids=lambda error: type(error).__name__)
def test_what_a_person_can_set_right_is_one_line_and_status_2(error, capsys):
    assert leaves(raising(error)) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1 and len(printed) > len("error: \n")
    assert ("make room" in printed) == ("No space left" in str(error))


@pytest.mark.parametrize("error", FAULTS, ids=repr)
def test_a_fault_of_our_own_is_a_traceback_a_request_and_status_1(error, capsys):
    assert leaves(raising(error)) == 1
    printed = capsys.readouterr().err.splitlines()
    assert printed[0].startswith("Traceback") and OURS in printed[-1]


@pytest.mark.parametrize("error", [*PERSONS, *FAULTS, SystemExit(0), SystemExit("bye")], ids=repr)
def test_errors_in_a_persons_own_code_are_one_line_that_says_where(error, tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text("def act(error):\n    raise error\n")
    names: dict = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    error.with_traceback(None)
    assert leaves(lambda: np.apply_along_axis(lambda _: names["act"](error), 0, np.zeros(1))) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1 and f"{path}, line 2" in printed
    assert type(error).__name__ in printed or "memory" in printed


def test_type_errors_of_our_doors_are_one_line_and_those_of_our_slips_are_not(capsys):
    config = {"run": [], "episodes": 3}
    assert leaves(lambda: from_mapping(schema("collect"), config)) == 2
    assert capsys.readouterr().err == "error: run: expected Path, got list []\n"
    assert leaves(lambda: format_metrics(cast(Any, {"loss": None}))) == 1  # no number, where our own code formats one
    assert OURS in capsys.readouterr().err


@pytest.mark.parametrize("status", [0, 1, 2, 143])
def test_a_status_that_our_own_code_asks_for_stays(status, capsys):
    assert leaves(raising(SystemExit(status))) == status
    assert leaves(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err.count("\n") <= 1


RUNNING = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}


def command(name: str, *given: str) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *given]


def has_handlers(pid: int) -> bool:
    """Whether a process catches SIGHUP, as scripts do from their first import on."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
@pytest.mark.parametrize(
    ("signum", "delay"),
    [(signal.SIGINT, 0.0), (signal.SIGTERM, 0.3), (signal.SIGHUP, 0.8), (signal.SIGINT, 1.4), (signal.SIGTERM, 2.0)],
)
def test_a_signal_while_torch_is_imported_or_settings_are_composed_is_one_line(signum, delay, tmp_path):
    def heard() -> None:  # a shell's & leaves SIGINT ignored, and nohup SIGHUP
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    started = subprocess.Popen(
        command("train_prior", f"run={tmp_path}"), cwd=tmp_path, env=RUNNING, stderr=subprocess.PIPE, preexec_fn=heard
    )
    while started.poll() is None and not has_handlers(started.pid):
        time.sleep(0.002)
    time.sleep(delay)
    started.send_signal(signum)
    printed = started.communicate(timeout=60)[1].decode()
    assert started.returncode == 128 + signum, printed
    assert printed.startswith("stopped; ") and printed.count("\n") == 1


def test_a_signal_is_not_lost_in_a_finalizer_and_one_that_is_ignored_stays_ignored(tmp_path):
    code = """
        import os, signal, sys, time
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        from worldmodel.cli import errors
        errors.install("collect")
        class Sleeps:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(1)
        def work():
            errors.start_work()
            os.kill(os.getpid(), signal.SIGHUP)
            Sleeps()
            time.sleep(5)
            print("went on")
        errors.run_command(work)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (143, "") and done.stderr.startswith("stopped; "), done.stderr
    assert done.stderr.count("\n") == 1


def test_an_error_in_a_thread_ends_the_script_without_a_traceback():
    code = """
        import sys, threading
        from worldmodel.cli import errors
        errors.install("collect")
        def write():
            raise OSError(28, "No space left on device")
        def work():
            thread = threading.Thread(target=write)
            thread.start()
            thread.join()
        errors.run_command(work)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: disk full") and done.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(("target", "status"), [("/dev/full", 2), ("pipe", 141)])
def test_output_that_nobody_takes_is_no_traceback(target, status, tmp_path):
    if target == "pipe":
        reading, writing = os.pipe()
        os.close(reading)
        out = os.fdopen(writing, "wb")
    else:
        out = open(target, "wb")  # noqa: SIM115
    with out:
        done = subprocess.run(command("push", "--help"), cwd=tmp_path, env=RUNNING, stdout=out, stderr=subprocess.PIPE)
    printed = done.stderr.decode()
    assert done.returncode == status and "Traceback" not in printed and "Exception ignored" not in printed
    assert printed.count("\n") == (status == 2)


def test_a_missing_package_and_an_error_while_a_script_is_imported_are_one_line(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so: cannot open shared object file')")
    env = {**RUNNING, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command("train_prior"), cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: ImportError: libcudart.so")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_scripts_run_from_another_folder_and_leave_nothing_of_hydras_there(tmp_path):
    given = ["env=maze", "env.height=16", "env.width=16", "episodes=1", "workers=1", "max_steps=4", "run=mine (1)/é"]
    done = subprocess.run(command("collect", *given), cwd=tmp_path, env=RUNNING, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.rglob("*.h5")) == ["episode_000000.h5"]
    assert [path.name for path in tmp_path.iterdir()] == ["mine (1)"]


@pytest.mark.parametrize("script", ["rollout", "train_agent", "evaluate_agent", "push"])
def test_a_script_without_a_world_names_the_script_that_makes_one(script, tmp_path, monkeypatch, capsys):
    more = ["repo=a/b"] if script == "push" else []
    monkeypatch.setattr("sys.argv", [f"{script}.py", f"run={tmp_path / 'none'}", *more])
    assert leaves(entry(script)) == 2
    command = f"`worldmodel train-prior run={tmp_path / 'none'}`"
    words = f"none/world holds no world (config.json is missing); make one with {command}"
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (None, "not kept with this world; its dreams are as long as real episodes"),
        (0, "0 steps; dreams are as long as real episodes, and horizon=trust .* ends them after 1$"),
        (7, "7 steps; .*after 7$"),
    ],
)
def test_an_evaluation_says_where_dreams_will_end(kept, expected):
    assert re.search(expected, module("evaluate").describe_horizon(kept))


def test_agents_learn_in_dreams_of_imported_data_where_no_real_episode_is_asked_for():
    script, world = module("train_agent"), small_world()
    world.info.env = {}
    script.check_world(SimpleNamespace(eval_episodes=0, source="dream"), world)
    for asked in (SimpleNamespace(eval_episodes=1, source="dream"), SimpleNamespace(eval_episodes=0, source="real")):
        with pytest.raises(ValueError, match=r"which environment .*source=dream eval_episodes=0"):
            script.check_world(asked, world)


def test_an_evaluation_of_agents_that_are_not_there_names_the_script_that_makes_them(tmp_path, monkeypatch, capsys):
    small_world().save(tmp_path / "world")
    monkeypatch.setattr("sys.argv", ["evaluate_agent.py", f"run={tmp_path}"])
    assert leaves(entry("evaluate_agent")) == 2
    assert f"agent holds no agent; `worldmodel train-agent run={tmp_path}` makes it" in capsys.readouterr().err


def test_the_error_for_half_a_name_of_the_hub_says_what_a_whole_one_is(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["rollout.py", "world=hf://nobody"])
    assert leaves(entry("rollout")) == 2
    assert "expected hf://OWNER/NAME" in capsys.readouterr().err

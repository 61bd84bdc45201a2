"""Threads: a number that the machine decides, idle ones asleep, and what a person sets stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from worldmodel.kernels import threads

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))
# Prints what the environment says when torch is imported, which is when OpenMP reads it, or at the end without torch.
PROBE = """
import atexit, importlib.abc, os, runpy, sys
def say():
    told = {name: os.environ.get(name) for name in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")}
    print(told, file=sys.stderr, flush=True)
class Probe(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            say()
            os._exit(0)
atexit.register(say)
sys.meta_path.insert(0, Probe())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def told_to_torch(script: str, **environment: str) -> str:
    names = {*threads.WAITING_SET, *threads.COUNTS}
    env = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", PROBE, f"scripts/{script}.py", "--help"]
    env |= {"PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60).stderr.strip()


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_tells_openmp_to_sleep_before_torch_is_imported(script):
    expected = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "GOMP_SPINCOUNT": None}
    assert told_to_torch(script) == str(expected)


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "7")])
def test_waiting_that_a_person_set_stays(name, value):
    expected = {"OMP_WAIT_POLICY": None, "KMP_BLOCKTIME": None, "GOMP_SPINCOUNT": None, name: value}
    assert told_to_torch("train_prior", **{name: value}) == str(expected)


def test_importing_the_package_changes_neither_environment_nor_threads():
    program = "import os; e, c = dict(os.environ), os.cpu_count(); import torch; n = torch.get_num_threads();"
    program += "import worldmodel.kernels.threads, worldmodel.world, worldmodel.training; "
    program += "assert torch.get_num_threads() == n and not {*dict(os.environ)} - {*e} & {'OMP_WAIT_POLICY'}"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


@pytest.fixture
def free(monkeypatch):
    """An environment that says nothing of threads; torch's number is given back."""
    before = torch.get_num_threads()
    for name in threads.COUNTS:
        monkeypatch.delenv(name, raising=False)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 1), (3, 2), (16, 15)])
def test_one_core_is_left_for_others(monkeypatch, free, cores, expected):
    monkeypatch.setattr(threads, "usable_cores", lambda: cores)
    assert threads.set_threads() == torch.get_num_threads() == expected


@pytest.mark.parametrize("name", threads.COUNTS)
def test_a_number_that_a_person_set_stays(monkeypatch, free, name):
    torch.set_num_threads(3)
    monkeypatch.setattr(threads, "usable_cores", lambda: 9)
    monkeypatch.setenv(name, "3")
    with threads.threads(5):
        assert threads.set_threads() == 3


def test_threads_of_a_block_are_given_back(free):
    torch.set_num_threads(2)
    with pytest.raises(KeyError), threads.threads(3):
        assert torch.get_num_threads() == 3
        raise KeyError
    assert torch.get_num_threads() == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_cores_are_those_of_the_affinity():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert threads.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("files", "own", "expected"),
    [
        ({"job/cpu.max": "150000 100000", "cpu.max": "max 100000"}, "0::/job/step\n", [1.5]),
        ({"job/step/cpu.max": "400000 100000", "job/cpu.max": "300000 100000"}, "0::/job/step\n", [4.0, 3.0]),
        ({"cpu/a/cpu.cfs_quota_us": "50000", "cpu/a/cpu.cfs_period_us": "100000"}, "3:cpu,cpuacct:/a\n0::/\n", [0.5]),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu:/\n4:memory:/b\n", []),
        ({}, "", []),
    ],
)
def test_quotas_of_control_groups_are_read_in_both_versions(tmp_path, files, own, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "own").write_text(own)
    assert list(threads._quotas(tmp_path, tmp_path / "own")) == expected


def test_a_quota_below_one_core_still_leaves_a_thread(monkeypatch):
    monkeypatch.setattr(threads, "_quotas", lambda: iter([0.5]))
    assert threads.usable_cores() == 1 and threads.own_count() == 1

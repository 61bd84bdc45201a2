"""Every kind of error, thrown at every place where an engine or a file is touched: one line, or a request to report."""

import copy
from pathlib import Path
from unittest import mock

import pytest

from tests.helpers_env import BrokenEnv
from tests.helpers_scripts import leaves, work
from tests.test_errors import FAULTS, OURS, PERSONS
from tests.test_overrides import compose
from worldmodel.data.collect.engine import EngineError

BROKEN = ["env=gymnasium", "env.id=tests.helpers_env:Broken-v0", "env.height=6", "env.width=5"]
FEW = ["episodes=1", "workers=0", "retries=0", "max_steps=4", "policy=random"]
# One function of a library for each way in which bytes are read and written.
TOUCHED = {
    "os.open": ["data", "rollout"],  # JSON, and whatever else comes from outside
    "builtins.open": ["rollout"],
    "h5py.File": ["data"],
    "safetensors.torch.load": ["rollout"],
    "safetensors.safe_open": ["rollout"],
    "os.replace": ["data", "collect", "rollout"],
    "os.fsync": ["collect"],
    "pathlib.Path.mkdir": ["collect", "rollout"],
    "pathlib.Path.is_file": ["rollout"],
}


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    """The composed values of a few scripts, and a small set of episodes."""
    run = tmp_path_factory.mktemp("run")
    found = {"collect": compose("collect", f"run={run}", *BROKEN, *FEW), "data": compose("data", f"run={run}")}
    found["rollout"] = compose("rollout", "world=maze", f"run={run}/dreamt", "horizon=2")
    assert leaves(lambda: work("collect", found["collect"])) == 0
    return found


def elsewhere(values: dict, name: str, folder: Path) -> dict:
    """The same, into another folder; what is looked at stays where it is."""
    return copy.deepcopy(values[name]) | ({} if name == "data" else {"run": str(folder), "out": str(folder / "out")})


def reported_well(status: int, printed: str) -> bool:
    """One line and status 2, or episodes that are missing, or a traceback with the request to report it."""
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    if OURS in printed:
        return status == 1 and len(errors) == 1
    return status in (1, 2) and len(errors) == 1 and "Traceback" not in printed


@pytest.mark.parametrize("place", ["make", "space", "reset", "step", "close"])
@pytest.mark.parametrize("error", [*PERSONS, *FAULTS, SystemExit(0), SystemExit("bye")], ids=repr)
def test_what_an_engine_raises_is_reported_with_its_place_and_never_as_our_fault(
    place, error, values, tmp_path, capsys, monkeypatch
):
    given = elsewhere(values, "collect", tmp_path)
    given.pop("out")
    monkeypatch.setattr(BrokenEnv, "faults", {place: error})
    status = leaves(lambda: work("collect", given))
    printed = capsys.readouterr().err
    if place == "close" and status == 0:  # everything was collected
        return
    assert reported_well(status, printed) and OURS not in printed, printed
    says_itself = isinstance(error, EngineError)  # our own word for such an error: it has its place already
    assert "helpers_env.py" in printed or "disk full" in printed or says_itself


@pytest.mark.parametrize(("touched", "name"), [(touched, name) for touched, names in TOUCHED.items() for name in names])
def test_what_reading_and_writing_raise_is_one_line(touched, name, values, tmp_path, capsys):
    for number, error in enumerate([*PERSONS, *FAULTS]):
        given = elsewhere(values, name, tmp_path / str(number))
        if name == "collect":
            given.pop("out")
        with mock.patch(touched, side_effect=error.with_traceback(None)) as thrower:
            status = leaves(lambda: work(name, given))  # noqa: B023
        printed = capsys.readouterr().err
        if not thrower.called or status == 0:  # not reached, or not needed
            continue
        assert reported_well(status, printed), f"{error!r}: {printed}"
        assert status == 2 or error in FAULTS, f"{error!r}: {printed}"

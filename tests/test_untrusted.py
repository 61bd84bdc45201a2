"""Files from anyone: nothing runs from them, nothing floods memory, and what is damaged is right or refused."""

import ast
from pathlib import Path

import pytest
import torch

from tests.helpers_models import small_world
from tests.torture import files
from worldmodel.io.json_files import read_checked_json, write_checked_json
from worldmodel.io.model_folder import build_module

ROOT = Path(__file__).parents[1]
# Whatever can run code that stands in a file, or takes a file for what it may not be.
FORBIDDEN = {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
CALLS = {
    "torch.load",
    "torch.jit.load",
    "torch.package",
    "joblib.load",
    "yaml.load",
    "yaml.unsafe_load",
    "eval",
    "exec",
}
CALLS |= {"pandas.read_pickle", "PPO.load", "BaseAlgorithm.load", "ActorCriticPolicy.load"}

# What may stay: FVD's network is a program, which the user names by its own setting; and what travels through pipes
# between processes of one run is tried out first. Words of the command line are read by a subclass of yaml.SafeLoader.
KNOWN = {"frechet.py": ["torch.jit.load"], "literals.py": ["yaml.load"], "worker_pool.py": ["pickle", "cloudpickle"]}


def sources() -> list[Path]:
    return [
        path
        for room in ("worldmodel", "envs", "scripts", "benchmarks", "examples")
        for path in (ROOT / room).rglob("*.py")
    ]


def loaders(tree: ast.AST) -> list[str]:
    """What in this code may run code from a file."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [name for name in names if name.split(".")[0] in FORBIDDEN]
        if isinstance(node, ast.Call):
            name, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            found += [name] if name in CALLS else []
            found += [name] if name == "np.load" and given.get("allow_pickle") != "False" else []
            found += [name] if given.get("allow_pickle") == "True" or given.get("weights_only") == "False" else []
    return found


def test_nothing_in_the_package_runs_code_from_a_file():
    assert len(sources()) > 60
    found = {path.name: names for path in sources() if (names := loaders(ast.parse(path.read_text())))}
    assert found == KNOWN


@pytest.mark.parametrize(
    "code",
    ["torch.load(p)", "np.load(p)", "np.load(p, allow_pickle=True)", "import pickle", "from cloudpickle import loads"],
)
def test_the_search_for_loaders_finds_them(code):
    assert loaders(ast.parse(code))


def test_a_reader_that_dies_or_is_wrong_counts_as_failed(tmp_path):
    row = files.judged("no_such_kind", 1, tmp_path)
    assert (row.tried, row.failed) == (1, 1) and "0: died" in row.note


def test_every_kind_of_damage_changes_a_file():
    content, other = bytes(range(1, 251)) * 8, bytes(2000)
    damaged = {files.mutated(content, other, [(0, 50), (99, 50)], files.random.Random(i)) for i in range(200)}
    assert len(damaged - {content}) > 150
    assert {len(each) > len(content) for each in damaged} == {True, False}


def test_sealed_values_come_back_and_changed_ones_do_not_unless_the_seal_is_gone(tmp_path):
    path = tmp_path / "x.json"
    write_checked_json(path, {"steps": 3, "name": "ä"})
    assert read_checked_json(path) == {"steps": 3, "name": "ä"}
    path.write_text(path.read_text().replace("3", "4", 1))
    with pytest.raises(ValueError, match=r"x\.json: damaged, or changed by hand"):
        read_checked_json(path)
    path.write_text('{"steps": 4}')
    assert read_checked_json(path) == {"steps": 4}


def test_a_module_is_built_only_for_weights_that_fit_it():
    made = []

    def make() -> torch.nn.Module:
        module = torch.nn.Linear(10**7, 10**6)  # 40 TB
        made.append(module.weight.device.type)
        return module

    with pytest.raises(ValueError, match=r"bias: expected \(1000000,\), got none, and 1 more"):
        build_module(make, {})
    assert made == ["meta"]


def test_a_world_of_weights_that_are_no_numbers_is_not_written_and_refused_at_its_first_step(tmp_path):
    world = small_world()
    with torch.no_grad():
        [parameter.fill_(float("nan")) for parameter in world.parameters()]
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        world.save(tmp_path)
    with pytest.raises(ValueError, match="no finite probability"):
        world.step(world.start_from_context(1), [0])

"""Folders of models from anyone: refused before the weights are read to their end, or before memory is taken."""

import json
import os
from pathlib import Path

import pytest
import torch

from tests.helpers_models import small_world
from tests.torture.bombs import safetensors, sparse
from worldmodel.io import files, tensors_file, untrusted
from worldmodel.io.json_files import read_checked_json, write_checked_json, write_json
from worldmodel.io.model_folder import load_weights, save_weights
from worldmodel.nn.actions import space_from_json
from worldmodel.world import WorldModel


def never(*_: object) -> None:
    raise AssertionError("the weights were read to their end")


@pytest.mark.parametrize("size", [0, 7, 100, 2**32, 10**11])
def test_weights_of_another_size_than_they_claim_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    save_weights(tmp_path, {}, {"x": torch.ones(3)})
    os.truncate(tmp_path / "weights.safetensors", size)
    monkeypatch.setattr(tensors_file, "_sha256", never)
    with pytest.raises(ValueError, match=r"weights\.safetensors: .*(bytes|lie outside of the file)"):
        load_weights(tmp_path)


def test_weights_that_do_not_fit_the_config_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_world().save(tmp_path)
    header = safetensors(10**9)
    sparse(tmp_path / "weights.safetensors", header, 10**9 + len(header))
    monkeypatch.setattr(tensors_file, "_sha256", never)
    with pytest.raises(ValueError, match=r"do not fit config\.json"):
        WorldModel.load(tmp_path)


def test_weights_beyond_the_ceiling_are_neither_read_nor_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_weights(tmp_path, {}, {"x": torch.ones(1000)})
    for module in (tensors_file, untrusted):
        monkeypatch.setattr(module, "WEIGHTS_BYTES", untrusted.JSON_BYTES + 100)
    with pytest.raises(ValueError, match="4,000 bytes of weights, expected at most"):
        save_weights(tmp_path, {}, {"x": torch.ones(1000)})
    with pytest.raises(ValueError, match="bytes, expected at most 100"):
        tensors_file.tensor_shapes(tmp_path / "weights.safetensors", 100)


def test_what_a_writer_leaves_is_swept_and_what_is_not_its_own_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, strange = tmp_path / "a[1].json", tmp_path / ".a1.json.1-ab.partial"
    left = [tmp_path / f".a[1].json.{pid}-ab.partial" for pid in (1, 10**30)]
    [each.touch() for each in (strange, *left)]
    write_json(path, {})
    assert set(tmp_path.iterdir()) == {path, strange}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"new": 1})
    with pytest.raises(OSError, match="No space"):
        save_weights(tmp_path / "model", {}, {"x": torch.ones(9)})
    (tmp_path / "model").rmdir()  # empty: neither of its files was left there
    assert set(tmp_path.iterdir()) == {path, strange} and json.loads(path.read_text()) == {}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_does_not_have_are_not_written(tmp_path: Path, number: float) -> None:
    for write in (write_json, write_checked_json):
        with pytest.raises(ValueError, match=r"x\.json: .*JSON"):
            write(tmp_path / "x.json", {"deep": [{"value": number}]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ['{"a": 1e999}', '{"a": [-1e400]}'])
def test_numbers_too_large_for_a_float_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=r"x\.json: .*too large a number"):
        read_checked_json(tmp_path / "x.json")


def test_a_seal_whose_name_was_damaged_is_noticed(tmp_path: Path) -> None:
    write_checked_json(tmp_path / "x.json", {"steps": 3})
    text = (tmp_path / "x.json").read_text()
    for changed in (text.replace('"sha256"', '"sha25v"'), text.replace('"sha256"', '"Sha256"').replace("3", "4", 1)):
        (tmp_path / "x.json").write_text(changed)
        with pytest.raises(ValueError, match=r"x\.json: damaged"):
            read_checked_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text(json.dumps({"steps": 4}))
    assert read_checked_json(tmp_path / "x.json") == {"steps": 4}


SPACES = [
    {"kind": "discrete", "n": 65_537, "start": 0, "dtype": "int64"},
    {"kind": "discrete", "n": 2**62, "start": -5, "dtype": "int64"},
    {"kind": "multi_discrete", "nvec": [40_000, 40_000], "start": [0, 0], "dtype": "int64"},
    {"kind": "multi_discrete", "nvec": [2**62] * 9, "start": [0] * 9, "dtype": "int64"},
    {"kind": "multi_binary", "n": 10**12},
    {"kind": "multi_binary", "n": [10**6, 10**6]},
]


@pytest.mark.parametrize("values", SPACES)
def test_actions_of_more_choices_than_allowed_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="at most 65,536 are allowed"):
        space_from_json(values)
    space_from_json({"kind": "discrete", "n": 65_536, "start": 0, "dtype": "int64"})

"""Checkpoints: what is saved is what is loaded, a kill leaves the old, and damage is refused by name."""

import fcntl
import json
import os
from typing import Any

import pytest
import torch
from torch import nn

from worldmodel.io.model_folder import load_weights, save_weights
from worldmodel.training import run_state as training
from worldmodel.training.run_state import Checkpoint, load_optimizer_tensors, optimizer_tensors

CONFIG = {"codes": 7, "strides": [1, 2], "nested": {"rate": 0.1, "name": None}}


def tensors() -> dict[str, torch.Tensor]:
    base = torch.randn(4, 6)
    return {"view": base.T, "same": base, "flag": torch.tensor(True), "count": torch.arange(3), "none": base[:0]}


def equal(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def flip_a_bit(path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def test_weights_loaded_are_weights_saved(tmp_path):
    saved = tensors()
    save_weights(tmp_path / "deep" / "model", CONFIG, saved)
    config, loaded = load_weights(tmp_path / "deep" / "model")
    assert config == CONFIG and equal(loaded, saved)
    assert all(loaded[k].dtype == saved[k].dtype for k in saved)


def test_a_model_folder_holds_two_files_and_nothing_else(tmp_path):
    for _ in range(2):
        save_weights(tmp_path, CONFIG, tensors())
    assert sorted(os.listdir(tmp_path)) == ["config.json", "weights.safetensors"]


def test_a_config_that_is_no_json_leaves_the_old_model(tmp_path):
    saved = tensors()
    save_weights(tmp_path, CONFIG, saved)
    with pytest.raises(TypeError):
        save_weights(tmp_path, {"bad": object()}, {"other": torch.ones(1)})
    assert load_weights(tmp_path)[0] == CONFIG and equal(load_weights(tmp_path)[1], saved)
    assert len(os.listdir(tmp_path)) == 2


def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    dead, alive = (tmp_path / f".weights.safetensors.{pid}-ab.partial" for pid in (1, 2))
    dead.touch()
    with open(alive, "xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        save_weights(tmp_path, CONFIG, tensors())
    assert sorted(os.listdir(tmp_path))[:-2] == [alive.name]


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors"])
def test_a_missing_file_is_named(tmp_path, name):
    save_weights(tmp_path, CONFIG, tensors())
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        load_weights(tmp_path)


def test_a_flipped_bit_in_the_weights_is_refused(tmp_path):
    save_weights(tmp_path, CONFIG, tensors())
    flip_a_bit(tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"weights\.safetensors: damaged"):
        load_weights(tmp_path)


def test_the_config_of_another_save_is_refused(tmp_path):
    for name in "ab":
        save_weights(tmp_path / name, CONFIG, tensors())
    (tmp_path / "a" / "config.json").replace(tmp_path / "b" / "config.json")
    with pytest.raises(ValueError, match="from another save"):
        load_weights(tmp_path / "b")


def test_a_config_cut_short_and_a_newer_format_are_refused(tmp_path):
    save_weights(tmp_path, CONFIG, tensors())
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match=r"config\.json: damaged"):
        load_weights(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**json.loads(text), "format": 99}))
    with pytest.raises(ValueError, match="changed by hand; if that was meant, delete its entry sha256"):
        load_weights(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**json.loads(text), "format": 99, "sha256": None}))
    with pytest.raises(ValueError, match="expected format 1, got 99"):
        load_weights(tmp_path)


def save(folder, step: int) -> dict[str, dict[str, torch.Tensor]]:
    groups = {"model": tensors(), "ema": {}}
    training.save(folder, Checkpoint(step, groups, {"seen": step}))
    return groups


def test_the_latest_checkpoint_is_the_newest_and_two_are_kept(tmp_path):
    assert training.latest(tmp_path) is None
    groups = [save(tmp_path, step) for step in (9, 10, 200)][-1]
    found = training.latest(tmp_path)
    assert found is not None and found.step == 200 and found.progress == {"seen": 200}
    assert all(equal(found.tensors[name], groups[name]) for name in groups)
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["00000010", "00000200"]


@pytest.mark.parametrize("damage", ["flip", "missing", "progress"])
def test_a_damaged_checkpoint_is_passed_over_for_an_older_whole_one(tmp_path, damage):
    save(tmp_path, 1), save(tmp_path, 2)
    newest = tmp_path / "checkpoints" / "00000002"
    if damage == "flip":
        flip_a_bit(newest / "model.safetensors")
    else:
        (newest / {"missing": "ema.safetensors", "progress": "progress.json"}[damage]).unlink()
    with pytest.warns(RuntimeWarning, match="00000002"):
        found = training.latest(tmp_path)
    assert found is not None and found.step == 1


def test_only_damaged_checkpoints_are_an_error_not_a_fresh_start(tmp_path):
    save(tmp_path, 1)
    flip_a_bit(tmp_path / "checkpoints" / "00000001" / "model.safetensors")
    with pytest.raises(ValueError, match="Delete that folder to start again"):
        training.latest(tmp_path)


def test_a_checkpoint_killed_while_it_is_written_does_not_count(tmp_path, monkeypatch):
    save(tmp_path, 1)
    monkeypatch.setattr(training, "write_checked_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2)
    monkeypatch.undo()
    found = training.latest(tmp_path)
    assert found is not None and found.step == 1
    save(tmp_path, 2)
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["00000001", "00000002"]


def test_what_a_killed_save_left_goes_with_the_next_save_whatever_its_step(tmp_path):
    (tmp_path / "checkpoints" / ".00000433.tmp").mkdir(parents=True)
    save(tmp_path, 500)
    assert os.listdir(tmp_path / "checkpoints") == ["00000500"]


def stepped(optimizer: torch.optim.Optimizer, net: nn.Module, steps: int) -> None:
    for i in range(steps):
        optimizer.zero_grad()
        x = torch.arange(2 * 3 * 4 * 4).view(2, 3, 4, 4) / (i + 1)
        net(x).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_an_optimizer_given_the_saved_tensors_of_another_takes_the_same_steps(tmp_path, layout):
    nets: list[Any] = [nn.Conv2d(3, 5, 3).to(**{"memory_format": layout}) for _ in range(2)]
    first, second = (torch.optim.AdamW(net.parameters(), lr=0.1, fused=True) for net in nets)
    stepped(first, nets[0], 3)
    nets[1].load_state_dict(nets[0].state_dict())
    training.save(tmp_path, Checkpoint(3, {"optimizer": optimizer_tensors(first)}, {}))
    found = training.latest(tmp_path)
    assert found is not None
    load_optimizer_tensors(second, found.tensors["optimizer"])
    for optimizer, net in zip((first, second), nets, strict=True):
        stepped(optimizer, net, 2)
    assert equal(nets[0].state_dict(), nets[1].state_dict())
    assert equal(optimizer_tensors(first), optimizer_tensors(second))

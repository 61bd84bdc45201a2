"""The benchmark's own arithmetic: targets, medians, and the table that is written."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from beside import beside_busy, share
from measure import ROOT, extra_memory, markdown, preset, row, typical, versus, write
from playing import frames_per_second
from presets import ACTIONS, FRAME, PARTS, PRESETS, built, prior_of, random_batch, tokenizer_of

from tests.helpers_play import small_session
from worldmodel.prior import SamplerConfig
from worldmodel.world import WorldInfo, WorldModel


def test_a_row_says_whether_its_target_is_reached():
    assert row("a", 2.0, "", most=2).ok and not row("a", 2.1, "", most=2).ok
    assert row("a", 2.0, "", least=2).ok and not row("a", 1.9, "", least=2).ok
    assert row("a", 2.0, "").ok is None


def test_ratios_are_of_the_work_to_the_yardstick():
    ratio, cost, floor = versus(lambda: time.sleep(0.02), lambda: time.sleep(0.01), repeats=3)
    assert 1.5 < ratio < 2.5 and cost > floor > 0.009
    assert typical(lambda: time.sleep(0.01), repeats=3) == pytest.approx(0.01, rel=0.5)


def test_extra_memory_is_what_a_call_takes_beyond_before():
    def work() -> None:
        taken = np.ones(1 << 23)  # 64 MB
        time.sleep(0.05)
        del taken

    assert 60 < extra_memory(work) / 2**20 < 90


def test_the_table_and_the_results_hold_every_row(tmp_path):
    rows = [row("speed", 12.345, "frames/s", least=100, note="why"), row("time", 1.0, "", most=2)]
    text = write(rows, tmp_path)
    assert text == (tmp_path / "results.md").read_text() and "| speed | 12.35 frames/s | ≥ 100 | **no** | why |" in text
    found = json.loads((tmp_path / "results.json").read_text())
    assert [each["ok"] for each in found] == [False, True]
    assert set(found[0]) == {"name", "value", "unit", "target", "ok", "note"}
    assert markdown(rows, "about").startswith("about\n")


def test_the_presets_are_read_as_the_scripts_read_them():
    assert preset("train_prior")["prior"]["core_layers"] >= 1
    assert preset("train_prior", "maze")["prior"]["context_noise"] == 0


@pytest.mark.parametrize("name", PRESETS)
def test_models_of_the_presets_learn_dream_and_are_as_large_as_the_docs_say(name):
    torch.manual_seed(0)
    sizes = []
    for part in PARTS:
        model = built(part, name).train()
        sizes.append(f"{sum(p.numel() for p in model.parameters()):,}")
        loss, _ = model.loss(random_batch(model, 1, 2))  # pyright: ignore
        loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters()) and loss > 0
    assert f"| `{name}` | {sizes[0]} | {sizes[1]} |" in (ROOT / "docs" / "guides" / "presets.md").read_text()
    world = WorldModel(tokenizer_of(name), prior_of(name), WorldInfo(FRAME, Discrete(ACTIONS))).eval()
    frames = torch.randint(0, 256, (2, 2, *FRAME), dtype=torch.uint8)
    state = world.start(frames, np.zeros((2, 1), int), seed=0)
    auto, loop = (world.step(state, [1, 2], SamplerConfig(kind=kind))[1] for kind in ("auto", "cached"))
    assert torch.equal(auto.tokens, loop.tokens)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
def test_busy_processes_run_beside_the_measurement_and_end_with_it():
    def children() -> set[str]:
        return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())

    before = children()
    assert len(beside_busy(2, children) - before) == 2
    with pytest.raises(ZeroDivisionError):
        beside_busy(1, lambda: 1 / 0)
    assert children() == before


def test_a_share_of_the_cores_is_what_is_left_to_a_thread_on_each():
    assert [share(2, busy) for busy in (0, 1, 2)] == [1, 2 / 3, 1 / 2]


def test_the_speed_of_play_is_that_of_frames_which_arrive(tmp_path, monkeypatch):
    monkeypatch.setattr("playing.SECONDS", 0.3)
    session = small_session(tmp_path)
    assert 1 < frames_per_second(session) < 130 and session.now.steps > 1

"""The benchmark's own arithmetic: targets, medians, and the table that is written."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from measure import extra_memory, markdown, preset, row, typical, versus, write


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
    assert preset("train_prior", "my_way_home")["fit"]["batch_size"] == 8

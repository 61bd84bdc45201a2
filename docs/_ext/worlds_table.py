"""The table of the worlds that come with the package, from their report.json."""

import json
from collections.abc import Iterator
from fnmatch import filter as matching
from pathlib import Path
from typing import Any

from worldmodel.evaluate.output.catalogue import metric_info
from worldmodel.evaluate.statistics.results import Interval

WORLDS = Path(__file__).resolve().parents[2] / "worldmodel" / "worlds"
Figures = dict[str, dict[str, Any]]

# What, the names of its figures, and how numbers are written. Names are patterns, as some have a
# step of their world in them.
ROWS = [
    ("reconstruction, PSNR in dB", ["tokenizer/psnr"], "{:.1f}"),
    ("reconstruction, SSIM", ["tokenizer/ssim"], "{:.2f}"),
    ("bits per token", ["prior/bits_per_token"], "{:.3f}"),
    ("… under shuffled actions", ["prior/bits_per_token/shuffled_actions"], "{:.2f}"),
    ("bits per frame saved by knowing the action", ["prior/bits_saved_per_frame/any_action"], "{:.1f}"),
    ("PSNR of the dream − that of the repeated last frame, 1, 5, 10, 30 frames ahead, in dB",
     [f"rollout/psnr_gained/copy_last_frame@{n}" for n in (1, 5, 10, 30)], "{:+.1f}"),
    ("… at the frame, of 30, with the lowest end of the interval", ["rollout/least_gain_over_copy"], "{:+.2f}"),
    ("ΔtPSNR, 1, 4, 10 frames, in dB", [f"control/delta_psnr@{n}" for n in (1, 4, 10)], "{:.1f}"),
    ("counterfactuals: gain of knowing the changed action, against the simulator, 1, 4, 10 frames, in dB",
     [f"control/counterfactual_gain@{n}" for n in (1, 4, 10)], "{:+.2f}"),
    ("actions recognized in real frames", ["control/action_accuracy_real"], "{:.2f}"),
    ("… in imagined ÷ in real frames", ["control/action_accuracy_ratio"], "{:.2f}"),
    ("512 dreams: sharpness at the last step that real episodes reach (maze: 495, MyWayHome: 520) over step 10",
     ["drift/sharpness_[!1]*_over_10"], "{:.2f}"),
    ("… at step 1,000 over step 10", ["drift/sharpness_1000_over_10"], "{:.2f}"),
    ("… codes' divergence ÷ that of real samples, sets of 64, at these two steps",
     ["drift/token_divergence_[!1]*_over_real", "drift/token_divergence_1000_over_real"], "{:.2f}"),
    ("… share of frozen dreams, at step 1,000", ["drift/frozen"], "{:.3f}"),
    ("… share of collapsed dreams, at step 1,000", ["drift/collapsed"], "{:.3f}"),
    ("memory: turned away for 2 steps and back: PSNR against the true view − that against other scenes, in dB",
     ["memory/gain@2"], "{:+.1f}"),
    ("… for 24 steps", ["memory/gain@24"], "{:+.1f}"),
    ("trust horizon, in steps", ["horizon/steps"], "{:.0f}"),
]  # fmt: skip


def worlds() -> Iterator[str]:
    """The lines of the table: a value has its interval, several have the lowest end of theirs."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(WORLDS.glob("*/report.json"))]
    yield from ["| held out | target | maze | MyWayHome |", "|---|---|---|---|"]
    for what, patterns, form in ROWS:
        cells = [_cell(report["figures"], patterns, form) for report in reports]
        target = metric_info(patterns[0].replace("[!1]*", "0").replace("*", "0")).target
        yield f"| {what} | {target} | {' | '.join(cells)} |"


def _cell(figures: Figures, patterns: list[str], form: str) -> str:
    found = {name: figures[name] for pattern in patterns for name in matching(figures, pattern)}
    mean, low, high = ([form.format(each[end]) for each in found.values()] for end in ("value", "low", "high"))
    lowest = form.format(min(each["low"] for each in found.values()))
    interval = f"(lowest end {lowest})" if len(found) > 1 else f"[{low[0]}, {high[0]}]"
    exact = all(each["low"] == each["high"] for each in found.values())
    missed = "" if all(_reached(name, each) in (True, None) for name, each in found.items()) else ": **missed**"
    return signed(" ".join(filter(None, [", ".join(mean), "" if exact else interval])) + missed)


def _reached(name: str, figure: dict[str, Any]) -> bool | None:
    count, resampled = figure["count"], figure.get("resampled", "")
    return metric_info(name).reached(Interval(figure["value"], figure["low"], figure["high"], count, resampled))


def signed(text: str) -> str:
    """The text with a minus sign for each hyphen."""
    return text.replace("-", "−")

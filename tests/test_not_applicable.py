"""Figures that mean nothing say so, with the reason, and never count as reached; report.json is strict and sealed."""

import json
import math
import re

import numpy as np
import pytest
from gymnasium.spaces import Discrete

from tests.helpers_dreams import Blank, Frozen, TrueMaze, maze_store, maze_tokens
from tests.helpers_evaluate import brightening_tokens, brightening_world
from tests.helpers_models import small_world
from worldmodel.data.episodes.episode import Episode
from worldmodel.data.episodes.store import DatasetInfo, EpisodeStore
from worldmodel.evaluate.agents import ranking
from worldmodel.evaluate.output.catalogue import METRICS, metric_info, verdict
from worldmodel.evaluate.output.tensorboard import log_report
from worldmodel.evaluate.page.report_page import html_page
from worldmodel.evaluate.report import EvaluationContext, measure, to_json
from worldmodel.evaluate.sections.action_recovery import _accuracy_metrics as accuracies
from worldmodel.evaluate.sections.drift import DriftConfig, drift
from worldmodel.evaluate.sections.fidelity import size
from worldmodel.evaluate.statistics.bootstrap import Resampler, ratio, share
from worldmodel.evaluate.statistics.results import Curve, Interval, Section, absent
from worldmodel.evaluate.testbed.dream_clips import DreamSettings
from worldmodel.io.hub.card import model_card
from worldmodel.io.hub.report import load_report, read_report
from worldmodel.io.json_files import read_json, write_checked_json

NONE = (math.nan, math.inf, -math.inf)


@pytest.mark.parametrize("value", NONE)
@pytest.mark.parametrize("known", [known for known in METRICS.values() if known.target], ids=lambda known: known.target)
def test_what_is_no_finite_number_reaches_no_target(value, known):
    for metric in (
        Interval(value, 0, 0, 3),
        Interval(0, value, 0, 3),
        Interval(0, 0, value, 3),
        absent("for a reason"),
    ):
        assert known.reached(metric) is None and metric.inapplicable
    assert known.reached(Interval(0.5, 0.5, 0.5, 3, reason="for a reason")) is None


def test_a_division_by_nothing_is_not_applicable_and_by_nearly_nothing_has_no_interval():
    eight = Resampler.by_row(8, "clips")
    zeros, some = np.zeros(8), np.array([0.0, 0, 0, 0, 0, 0, 0, 1])
    for metric in (eight.quotient(some, zeros), eight.quotient(zeros, zeros), eight.interval(ratio, some, zeros)):
        assert metric_info("drift/variety_1000").reached(metric) is None and "divide" in metric.inapplicable
    rare = eight.quotient(np.ones(8), some)  # a third of the draws have no row that is not 0
    assert rare.mean == 8 and math.isnan(rare.low) and "bootstrap" in rare.inapplicable
    assert eight.quotient(np.ones(8), np.full(8, 2.0)) == Interval(0.5, 0.5, 0.5, 8, "clips")
    assert math.isnan(eight.bias_corrected(lambda a, b: share(a, b), some, zeros).mean)


def named(hits: int, of: int, actions: int = 16) -> np.ndarray:
    """Clips in which each action is taken once, and is named rightly in `hits` of the `of` clips."""
    table = np.zeros((of, actions, actions))
    for clip in range(of):
        table[clip, np.arange(actions), np.arange(actions) if clip < hits else 0] = 1
    return table


def test_dreams_keep_nothing_of_an_accuracy_that_is_that_of_guessing():
    twelve = Resampler.by_row(12, "clips")
    guessed = accuracies(twelve, named(0, 12), named(0, 12))
    assert guessed["control/action_accuracy_real"].mean == 1 / 16
    for name in ("control/action_accuracy_ratio", "control/balanced_action_accuracy_ratio"):
        assert metric_info(name).reached(guessed[name]) is None and "most frequent" in guessed[name].inapplicable
    seen = accuracies(twelve, named(12, 12), named(12, 12))
    assert metric_info("control/action_accuracy_ratio").reached(seen["control/action_accuracy_ratio"]) is True
    one = np.ones((6, 1, 1))  # a single action is named rightly by everybody
    assert accuracies(Resampler.by_row(6, "clips"), one, one)["control/action_accuracy_ratio"].inapplicable


@pytest.fixture(scope="module")
def maze(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maze")
    store = maze_store(folder / "episodes", episodes=10, steps=40)
    return store, maze_tokens(folder / "tokens", store)


def test_late_dreams_are_judged_where_real_episodes_reach_and_not_beyond(maze):
    store, tokens = maze
    config, short = DriftConfig(dreams=16, steps=60, real_frames=16), DreamSettings(context=3)
    section = drift(TrueMaze(), store, tokens, list(range(7)), [7, 8, 9], config, short)
    late = ["sharpness_{}_over_10", "bits_{}_over_10", "token_divergence_{}_over_real", "variety_{}"]
    for name in late:
        assert "ends at step 38" in section.metrics[f"drift/{name.format(60)}"].inapplicable
        assert not section.metrics[f"drift/{name.format(38)}"].inapplicable
    for name in ("frozen", "collapsed"):
        assert "ends at step 38" in section.metrics[f"drift/{name}"].inapplicable
        assert metric_info(f"drift/{name}@38").target and f"drift/{name}@38" in section.metrics
    assert any("before step 60" in note for note in section.notes)
    within = drift(Frozen(), store, tokens, list(range(7)), [7, 8, 9], DriftConfig(16, 38, 16), short)
    assert metric_info("drift/frozen").reached(within.metrics["drift/frozen"]) is False and not within.notes


def still_store(folder, episodes=6, steps=12) -> EpisodeStore:
    """Episodes of one black frame, under one and the same action, without rewards."""
    store = EpisodeStore.create(folder / "episodes", DatasetInfo(Discrete(2), (16, 24, 3), seed=0))
    frames = np.zeros((steps + 1, 16, 24, 3), np.uint8)
    for index in range(episodes):
        rewards, actions = np.zeros(steps, np.float32), np.zeros(steps, np.int64)
        store.write(Episode(frames, actions, rewards, False, True, seed=index, index=index))
    return store


@pytest.mark.slow
@pytest.mark.parametrize("rewards", [(), (0.0,)])
def test_data_in_which_nothing_happens_reach_no_target_by_that(rewards, tmp_path):
    from tests.test_report import CONFIG

    store, world = still_store(tmp_path), brightening_world(rewards=rewards)
    sections = measure(EvaluationContext(world, store, brightening_tokens(world, store, tmp_path), CONFIG), show=False)
    values = to_json(sections)
    json.dumps(values, allow_nan=False)
    reached = {name for name, metric in values["figures"].items() if metric.get("reached")}
    empty = ("control/", "drift/", "prior/bits_saved/shuffled", "rollout/psnr_gained", "rollout/least_gain")
    assert not [name for name in reached if name.startswith(empty)], reached
    assert "nothing moved" in values["figures"]["rollout/least_gain_over_copy"]["not_applicable"]
    log_report(sections, tmp_path / "logs")
    text = html_page("Still", "", sections)
    assert "not applicable" in text and "nan" not in re.sub(r'src="[^"]*"', "", text)


def test_a_blank_dream_of_a_blank_world_keeps_no_sharpness(maze):
    store, tokens = maze
    section = drift(Blank(good=0), store, tokens, list(range(7)), [7, 8, 9], DriftConfig(8, 30, 16), DreamSettings(3))
    metric = section.metrics["drift/sharpness_30_over_10"]
    assert metric_info("drift/sharpness_30_over_10").reached(metric) is None and "divide" in metric.inapplicable


def test_one_code_has_no_compression_and_equal_returns_have_no_ranking():
    assert "single code" in size((16, 24, 3), (2, 3), 1, 1)["compression"].inapplicable
    found = ranking({"a": [1.0, 1.0], "b": [1.0, 1.0]}, {"a": [0.0], "b": [2.0]})
    assert found["spearman"] is found["regret_at_1"] is None
    json.dumps(found, allow_nan=False)


SECTIONS = {
    "Control": Section(
        {
            "control/action_accuracy_ratio": Interval(1.0, 0.9, 1.1, 4, reason="actions cannot be recovered"),
            "drift/variety_1000": absent("nothing varies"),
            "control/delta_psnr@4": Interval(1.0, 0.5, 2.0, 4),
        },
        {"control/delta_psnr": Curve((1, 2), (1.0, math.nan), (0.5, math.nan), (2.0, math.inf), 4)},
    )
}


def test_the_reason_is_in_the_page_the_json_and_the_list(tmp_path):
    values = to_json(SECTIONS)
    assert json.loads(json.dumps(values, allow_nan=False)) == json.loads(json.dumps(values))
    ratio_of = values["figures"]["control/action_accuracy_ratio"]
    assert ratio_of["not_applicable"] == "actions cannot be recovered" and ratio_of["reached"] is None
    assert values["not_applicable"] == {"drift/variety_1000": "nothing varies"}
    assert values["curves"]["control/delta_psnr"]["mean"] == (1.0, None)
    text = html_page("Title", "", SECTIONS)
    assert "1 of 1 targets are reached" in text and "2 more are not applicable" in text
    assert "not applicable: actions cannot be recovered" in text and "not applicable: nothing varies" in text
    assert verdict("> 0.8", None, "no reason") == "> 0.8 not applicable: no reason"
    assert (verdict("> 1", True), verdict("> 1", False), verdict("", None)) == ("> 1 reached", "> 1 NOT reached", "")
    config = {"info": brightening_world().info.to_json(), "tokenizer": {"space_stride": 8, "time_stride": 1}}
    config["tokenizer"]["quantizer"] = {"codes": 19}
    assert "not applicable: actions cannot be recovered" in model_card(config, "x", values["figures"])


# --- the seal


@pytest.fixture
def report(tmp_path):
    small_world(starts=0).save(tmp_path / "world")
    weights = read_json(tmp_path / "world" / "config.json")["weights"]
    write_checked_json(tmp_path / "report.json", {"made_with": {"world": weights}, **to_json(SECTIONS)})
    return tmp_path / "report.json"


def test_a_mutated_report_is_refused_wherever_it_is_read(report):
    whole, rng = report.read_bytes(), np.random.default_rng(0)
    expected, refused = load_report(report, report.parent / "world"), 0
    for _ in range(300):
        place, value = int(rng.integers(len(whole))), int(rng.integers(256))
        report.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        try:
            assert load_report(report, report.parent / "world") == expected
        except ValueError as error:
            assert "report.json" in str(error)
            refused += 1
    assert refused > 250
    report.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"report\.json"):
        read_report(report)


@pytest.mark.parametrize(
    "metric",
    [{}, 3, {"value": "9", "low": 1, "high": 2, "unit": ""}, {"value": 1, "low": 1, "high": None, "unit": ""}]
    + [{"value": value, "low": 1.0, "high": 2.0, "unit": ""} for value in (*NONE, True, None)],
)
def test_a_report_without_a_seal_still_holds_figures_or_is_refused(metric, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"made_with": {}, "figures": {"x": metric}}))
    with pytest.raises(ValueError, match=r"report\.json: (x: expected a value|damaged, not JSON .*(NaN|Infinity))"):
        read_report(path)
    path.write_text(json.dumps({"made_with": {}, "figures": {"x": {"value": 1, "low": 1, "high": 1, "unit": ""}}}))
    assert read_report(path)["figures"]["x"]["value"] == 1

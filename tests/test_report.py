"""The report as a whole: complete, deterministic, and readable by people and programs."""

import base64
import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.helpers_evaluate import brightening, brightening_tokens, brightening_world
from tests.helpers_models import REWARDS
from worldmodel.evaluate.output.catalogue import RESAMPLED, MetricInfo, metric_info
from worldmodel.evaluate.output.plots import plot
from worldmodel.evaluate.output.tensorboard import log_report
from worldmodel.evaluate.page.report_page import html_page
from worldmodel.evaluate.report import EvaluationContext, ReportConfig, measure, prefixed, to_json
from worldmodel.evaluate.sections.action_recovery import InverseConfig
from worldmodel.evaluate.sections.charts import heat_map
from worldmodel.evaluate.sections.control import ControlConfig
from worldmodel.evaluate.sections.drift import DriftConfig
from worldmodel.evaluate.sections.horizon import HorizonConfig
from worldmodel.evaluate.sections.rollouts import RolloutsConfig
from worldmodel.evaluate.statistics.bootstrap import Resampler, identity
from worldmodel.evaluate.statistics.results import Curve, Interval, Section, exact

CONFIG = ReportConfig(
    clips=16,
    context=3,
    near=RolloutsConfig(4, 3, 2, (1, 3)),
    far=RolloutsConfig(3, 300, 1, (5, 300)),
    control=ControlConfig(4, (1,)),
    inverse=InverseConfig(2, 2, clips=4, horizon=4),
    drift=DriftConfig(3, 20, 8),
    trust=HorizonConfig(4, 6),
)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    store, world = brightening(folder, episodes=5), brightening_world(rewards=REWARDS)
    return EvaluationContext(world, store, brightening_tokens(world, store, folder), CONFIG)


@pytest.fixture(scope="module")
def sections(case):
    return measure(case, show=False)


def test_the_report_is_deterministic_and_every_number_is_finite(case, sections):
    again = to_json(measure(EvaluationContext(case.world, case.store, case.tokens, CONFIG), show=False))
    assert to_json(sections) == again
    assert all(np.isfinite([f["value"], f["low"], f["high"]]).all() for f in again["figures"].values())
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(to_json(sections)))


def test_every_figure_has_its_place_in_the_table_of_what_figures_are(sections):
    names = [name for section in sections.values() for name in (*section.metrics, *section.curves)]
    assert len(names) > 60 and not [name for name in names if metric_info(name) == MetricInfo("")]


def test_each_part_has_figures_and_what_is_absent_is_said(sections):
    values = to_json(sections)
    expected = {"tokenizer/psnr", "prior/bits_per_token/any_action", "outcome/end_rate", "rollout/psnr/dream@3"}
    assert expected | {"long_rollout/psnr_gained/shuffled_actions@5"} <= set(values["figures"])
    assert (
        "rollout/psnr/best_of_2" in values["curves"] and len(values["curves"]["long_rollout/psnr/dream"]["mean"]) == 10
    )
    for said in ("horizon: 10 frames of the 300", "lpips: absent", "fvd: absent"):
        assert any(note.startswith(said) for note in values["notes"]), said


def test_every_interval_says_what_it_draws_in_the_json_and_on_the_page(case, sections):
    metrics = {name: metric for section in sections.values() for name, metric in section.metrics.items()}
    wide = {name: metric for name, metric in metrics.items() if metric.finite and metric.low < metric.high}
    assert len(wide) > 60 and all(metric.resampled in RESAMPLED for metric in wide.values())
    figures, page = to_json(sections)["figures"], html_page("Title", case.summary(), sections)
    for name, metric in wide.items():
        assert figures[name]["resampled"] == metric.resampled
        assert f"{metric.count} {metric.resampled}" in page


def test_targets_are_reached_when_the_whole_interval_lies_beyond_them():
    least, most = MetricInfo("", least=1.0), MetricInfo("", most=1.0)
    for low, high, up, down in ((1.1, 2.0, True, False), (1.0, 1.0, False, False), (0.2, 0.9, False, True)):
        metric = Interval(1.0, low, high, 9)
        assert (least.reached(metric), most.reached(metric)) == (up, down)
    between = MetricInfo("", within=(0.9, 1.1))
    for low, high, kept in ((0.95, 1.05, True), (0.9, 1.1, True), (0.89, 1.0, False), (1.0, 1.11, False)):
        assert between.reached(Interval(1.0, low, high, 9)) is kept
    assert (between.target, least.target, most.target) == ("0.9 to 1.1", "> 1", "< 1")
    assert MetricInfo("").reached(exact(1)) is None


def test_no_dream_of_64_may_die_and_of_more_surely_fewer_than_one_in_64():
    for dead, dreams, kept in ((0, 64, True), (1, 64, False), (2, 512, True), (5, 512, False)):
        share = Resampler.by_row(dreams, "dreams").interval(identity, (np.arange(dreams) < dead).astype(float))
        assert metric_info("drift/collapsed").reached(share) is kept, (dead, dreams)


def test_what_was_promised_is_what_is_asked():
    asked = {
        "rollout/least_gain_over_copy": "> 0",
        "control/action_accuracy_ratio": "> 0.8",
        "drift/sharpness_1000_over_10": "0.9 to 1.1",
        "drift/token_divergence_1000_over_real": "< 1",
        "drift/frozen": "< 0.015625",
        "drift/collapsed": "< 0.015625",
        "long_rollout/least_gain_over_copy": "",
        "drift/token_divergence_1000_over_10": "",
        "drift/frozen_real": "",
    }
    assert {name: metric_info(name).target for name in asked} == asked


def test_json_says_unit_count_and_whether_a_target_is_reached():
    sections = {"Prior": prefixed("prior", Section({"bits_saved/copy_coder": Interval(0.5, -0.1, 1.0, 7, "episodes")}))}
    (metric,) = to_json(sections)["figures"].values()
    assert metric == {
        "value": 0.5,
        "low": -0.1,
        "high": 1.0,
        "count": 7,
        "unit": "bits",
        "resampled": "episodes",
        "target": "> 0",
        "reached": False,
    }


def test_two_sections_with_a_figure_of_one_name_are_an_error():
    with pytest.raises(AssertionError, match="same name"):
        to_json({"A": Section({"x": exact(1)}), "B": Section({"x": exact(2)})})


def test_the_page_needs_no_other_file_and_shows_all_figures_plots_images_and_clips(case, sections):
    text = html_page("A <world>", case.summary(), sections)
    assert "A &lt;world&gt;" in text and not re.findall(r'(?:src|href)="(?!data:)', text)
    assert all(name in text for section in sections.values() for name in section.metrics)
    images, clips = (sum(len(getattr(each, kind)) for each in sections.values()) for kind in ("images", "clips"))
    assert text.count("data:image/webp") == images >= 4 and text.count("data:video/mp4") == clips >= 4
    plots = [base64.b64decode(each) for each in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", text)]
    drawn = "".join("".join(ElementTree.fromstring(each).itertext()) for each in plots)
    names = [name for section in sections.values() for name in section.curves]
    groups = {name if name.count("/") == 1 else name.rpartition("/")[0] + "/" for name in names}
    assert len(plots) == len(groups) >= 12 and "best of 2" in drawn and "frames ahead" in drawn
    assert text == html_page("A <world>", case.summary(), sections)


def test_a_plot_draws_each_curve_and_the_same_bytes_for_the_same_numbers():
    curves = {name: Curve((1, 2), (1.0, level), (0.5, 0.5), (2.0, 3.0), 3) for name, level in (("a_b", 2), ("c", 1))}
    drawing = plot(curves, "frames", "dB")
    texts = list(ElementTree.fromstring(drawing).itertext())
    assert {"a b", "c", "frames", "dB"} <= {text.strip() for text in texts} and drawing == plot(curves, "frames", "dB")


def test_a_heat_map_is_brighter_where_values_are_greater():
    low_left, low_right = (heat_map(np.array([values]), "bits") for values in ((0.0, 1.0), (1.0, 0.0)))
    assert low_left.shape == low_right.shape and (low_left != low_right).any()
    middle = low_left.shape[0] // 2
    left, right = low_left[middle, low_left.shape[1] // 3], low_left[middle, low_left.shape[1] // 2]
    assert right.sum() > left.sum()


def test_tensorboard_has_figures_curves_images_and_clips_of_the_last_report_alone(sections, tmp_path):
    log_report({"Old": Section({"old/figure": exact(1)})}, tmp_path / "report")
    log_report(sections, tmp_path / "report")
    events = EventAccumulator(str(tmp_path / "report"), size_guidance={"scalars": 0, "images": 0}).Reload()
    tags = events.Tags()
    assert "tokenizer/psnr" in tags["scalars"] and "old/figure" not in tags["scalars"]
    curve = sections["Dreams"].curves["rollout/psnr/dream"]
    found = events.Scalars("rollout/psnr/dream")
    assert [each.step for each in found] == list(curve.steps)
    assert [each.value for each in found] == pytest.approx(curve.mean)
    assert {"Dreams/clip 1: real, dream, other actions", "Prior/bits of each token"} <= set(tags["images"])

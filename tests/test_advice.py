"""The advice of a report rule by rule, and its verdict, by made-up results."""

import dataclasses
import re
import typing

import pytest

from tests.helpers_scripts import schema
from worldmodel.envs import SCHEMAS
from worldmodel.evaluate.page.advice import ACTIONS, LIKELIHOOD, REWARDS, RULES, SHARP, TRUST, advice
from worldmodel.evaluate.page.findings import GAIN
from worldmodel.evaluate.page.results import Results, step_of
from worldmodel.evaluate.page.verdict import answers

OBJECTS = "rollout/small_objects/"


def results(curves=None, **values) -> Results:
    """Made-up results. A value is (value, reached), or (value, reached, low); `/` and `@` are `__` and `_at_`."""
    figures = {}
    for name, given in values.items():
        value, reached, *low = given if isinstance(given, tuple) else (given, None)
        figure = {"value": value, "low": low[0] if low else value, "high": value}
        figures[name.replace("__", "/").replace("_at_", "@")] = figure | ({} if reached is None else {
            "target": "> 0", "reached": reached})  # fmt: skip
    drawn = {name: {"steps": [1, 8, 16, 24], "mean": mean, "low": mean} for name, mean in (curves or {}).items()}
    return Results(figures, drawn)


KEPT, LOST = [1.0, 0.9, 0.9, 0.9], [0.9, 0.7, 0.4, 0.1]
CASES = {
    "decoded frames are soft": (results(tokenizer__psnr=19.24), results(tokenizer__psnr=31.0), "soft .* (19.2 dB)"),
    "tokens lose small objects": (
        results({OBJECTS + "decoded_truth": LOST, OBJECTS + "dream": LOST}),
        results({OBJECTS + "decoded_truth": KEPT, OBJECTS + "dream": LOST}),
        "lost by the tokenizer already",
    ),
    "small objects vanish": (
        results({OBJECTS + "decoded_truth": KEPT, OBJECTS + "dream": LOST}),
        results({OBJECTS + "decoded_truth": KEPT, OBJECTS + "dream": KEPT}),
        "vanish from step 16 on: train",
    ),
    "codes unused": (
        results(tokenizer__usage=(0.69, False)),
        results(tokenizer__usage=(0.99, True)),
        "Only 69% of the codes",
    ),
    "dreams fade": (
        results(drift__sharpness_495_over_10=(0.7, False)),
        results(drift__sharpness_495_over_10=(0.96, False)),
        "By step 495, dreams have lost 30% of their sharpness",
    ),
    "dreams grow noisy": (
        results(drift__sharpness_495_over_10=(1.3, False)),
        results(drift__sharpness_495_over_10=(0.7, False)),
        "30% more contrast",
    ),
    "dreams freeze": (
        results(**{"drift__frozen_at_495": (0.08, False)}),
        results(**{"drift__frozen_at_495": (0.0, True)}),
        "8.0% of the dreams stop",
    ),
    "dreams collapse": (
        results(drift__collapsed=(0.5, False)),
        results(drift__collapsed=(0.0, True)),
        "50.0% of the dreams show almost nothing",
    ),
    "actions change little": (
        results(control__delta_psnr_at_1=(0.1, False), control__delta_psnr_at_4=(0.0, False)),
        results(control__delta_psnr_at_1=(2.0, True), control__delta_psnr_at_4=(0.1, False)),
        "Seen 1 frame ahead, other actions give nearly the same dream",
    ),
    "other actions change little": (
        results(**{"rollout__psnr_gained__shuffled_actions_at_5": (0.0, False)}),
        results(**{"rollout__psnr_gained__shuffled_actions_at_5": (3.0, True)}),
        "Seen 5 frames ahead",
    ),
    "actions do not show": (
        results(control__action_accuracy_real=0.22, control__action_accuracy_commonest=0.2),
        results(control__action_accuracy_real=0.9, control__action_accuracy_commonest=0.2),
        "real frames either (22%; .* 20%)",
    ),
    "actions are lost": (
        results(
            control__action_accuracy_ratio=(0.5, False),
            control__action_accuracy_imagined=0.45,
            control__action_accuracy_real=0.9,
            control__action_accuracy_commonest=0.2,
        ),
        results(
            control__action_accuracy_ratio=(0.5, False),
            control__action_accuracy_imagined=0.1,
            control__action_accuracy_real=0.2,
            control__action_accuracy_commonest=0.2,
        ),
        "in 45% of imagined frames, but in 90% of real ones",
    ),
    "actions save nothing": (
        results(prior__bits_saved_per_frame__any_action=(-0.1, False)),
        results(prior__bits_saved_per_frame__any_action=(0.4, True)),
        "no likelier",
    ),
    "no rewards": (results(outcome__rare_reward_count=0.0), results(outcome__rare_reward_count=3.0), "No reward other"),
    "rewards unforeseen": (
        results(outcome__rare_reward_count=9.0, outcome__rare_reward_recall=0.25),
        results(outcome__rare_reward_count=9.0, outcome__rare_reward_recall=0.9),
        "75% of the rewards come unforeseen",
    ),
    "false rewards": (
        results(outcome__rare_reward_count=9.0, outcome__rare_reward_precision=0.5),
        results(outcome__rare_reward_count=0.0, outcome__rare_reward_precision=0.5),
        "50% of the foreseen rewards do not come",
    ),
    "rewards unexplained": (
        results(outcome__rare_reward_rate=0.9, outcome__reward_explained=0.4),
        results(outcome__rare_reward_rate=0.01, outcome__reward_explained=0.4),
        "Only 40% of what varies",
    ),
    "ends unforeseen": (
        results(outcome__end_count=9.0),  # without a recall none was foreseen
        results(outcome__end_count=9.0, outcome__end_recall=1.0),
        "100% of the ends come unforeseen",
    ),
    "false ends": (
        results(outcome__end_count=9.0, outcome__end_precision=0.1),
        results(outcome__end_count=9.0, outcome__end_precision=1.0),
        "90% of the foreseen ends do not come",
    ),
    "not one step": (
        results(horizon__steps=(4.0, None, 0.0)),
        results(horizon__steps=(9.0, None, 1.0)),
        "Not one step",
    ),
    "few steps": (results(horizon__steps=(9.0, None, 4.0)), results(horizon__steps=(40.0, None, 25.0)), "of 4 steps"),
    "behind a still picture": (
        results({GAIN: [2.0, 0.5, -0.1, -1.0]}, rollout__least_gain_over_copy=(-1.0, False)),
        results({GAIN: [2.0, 0.5, 0.3, 0.2]}, rollout__least_gain_over_copy=(0.2, True)),
        "From step 16 on",
    ),
    "views are forgotten": (
        results(memory__gain_at_2=(9.0, True), memory__gain_at_24=(0.0, False)),
        results(memory__gain_at_2=(9.0, True)),
        "for 24 steps and back",
    ),
    "no better than a simple code": (
        results(prior__bits_saved__copy_coder=(-0.3, False)),
        results(prior__bits_saved__copy_coder=(0.3, True)),
        "prior/bits_saved/copy_coder",
    ),
    "chances are off": (
        results(prior__calibration_error__top_code=(0.12, False)),
        results(prior__calibration_error__top_code=(0.01, True)),
        "off by 0.12 on average",
    ),
}


def test_every_rule_has_a_case():
    assert CASES.keys() == RULES.keys()


@pytest.mark.parametrize("name", RULES)
def test_a_rule_speaks_where_the_result_is_poor_and_is_silent_where_it_is_good_or_absent(name):
    poor, good, words = CASES[name]
    said = RULES[name].advice(poor)
    assert said is not None and re.search(words.replace("(", r"\(").replace(")", r"\)"), said), said
    assert RULES[name].advice(good) is None and RULES[name].advice(results()) is None
    assert said in advice(poor)[RULES[name].question] and "{" not in said


def settings_of(kind: type) -> set[str]:
    """The names of all settings of a config, those within it too."""
    found = set()
    for field in dataclasses.fields(kind):
        hint = typing.get_type_hints(kind)[field.name]
        inner = isinstance(hint, type) and dataclasses.is_dataclass(hint)
        found |= {field.name} | (settings_of(hint) if inner else set())
    return found


def test_advice_names_settings_that_exist():
    known = {name for command in ("collect", "train_tokenizer", "train_prior", "evaluate", "train_agent")
             for name in settings_of(schema(command))}  # fmt: skip
    known |= {name for each in SCHEMAS.values() for name in settings_of(each)} | {"env"} | {"horizon"}
    for rule in RULES.values():
        named = re.findall(r"([a-z_.]+)=", rule.sentence)
        assert named and not {part for name in named for part in name.split(".")} - known, rule.sentence


def test_steps_are_read_from_names():
    names = ("control/delta_psnr@10", "drift/sharpness_495_over_10", "drift/frozen", "drift/variety_1000")
    assert [step_of(name) for name in names] == [10, 495, 0, 1000]


# --- the verdict


def test_a_good_world_has_a_good_verdict_in_plain_words():
    curves = {"drift/sharpness": [1.0, 1.0, 0.98, 0.97], "horizon/psnr": [30.0] * 4}
    found = answers(results(
        curves, tokenizer__psnr=31.3, drift__sharpness_24_over_10=(0.97, True),
        control__action_accuracy_imagined=0.9, control__action_accuracy_real=0.95,
        control__action_accuracy_ratio=(0.95, True), outcome__end_count=4.0,
        outcome__end_recall=1.0, outcome__end_precision=1.0,
        outcome__rare_reward_count=0.0, horizon__steps=(60.0, None, 31.0), prior__bits_per_token=0.66,
        prior__bits_saved__copy_coder=(4.5, True), prior__calibration_error__top_code=(0.01, True),
    ))  # fmt: skip
    assert [found[question].good for question in (SHARP, ACTIONS, REWARDS, TRUST, LIKELIHOOD)] == [True] * 5
    assert "sharp: real ones come back from their tokens with 31.3 dB" in found[SHARP].sentence
    assert "90% of them in dreams, 95% in real frames" in found[ACTIONS].sentence
    assert "no reward happens" in found[REWARDS].sentence and "100% of the 4 ends" in found[REWARDS].sentence
    assert "It can be trusted for 31 steps" in found[TRUST].sentence
    assert "4.5 fewer than copying the last frame" in found[LIKELIHOOD].sentence


def test_a_poor_world_has_a_poor_verdict():
    found = answers(results(
        {"drift/sharpness": [0.9, 0.7, 0.5, 0.3]}, tokenizer__psnr=31.0, drift__sharpness_24_over_10=(0.4, False),
        drift__collapsed=(0.25, False), rollout__psnr_gained__shuffled_actions_at_1=(-0.2, False),
        outcome__end_count=4.0, outcome__end_recall=0.25, outcome__rare_reward_count=0.0,
        horizon__steps=(4.0, None, 0.0), prior__bits_per_token=6.0, prior__bits_saved__copy_coder=(-0.5, False),
    ))  # fmt: skip
    assert [found[question].good for question in (SHARP, ACTIONS, REWARDS, TRUST, LIKELIHOOD)] == [False] * 5
    assert "blurry" in found[SHARP].sentence and "25.0% of the dreams show almost nothing" in found[SHARP].sentence
    assert "0.5 more than copying" in found[LIKELIHOOD].sentence


def test_rewards_of_every_step_are_judged_by_what_varies_in_them():
    dense = {"outcome__rare_reward_rate": 0.98, "outcome__rare_reward_count": 500.0, "outcome__end_count": 0.0}
    for explained, good in ((0.93, True), (0.2, False)):
        found = results(**dense, outcome__rare_reward_recall=0.1, outcome__reward_explained=explained)
        answer = answers(found)[REWARDS]
        assert answer.good is good and f"{explained:.0%} of what varies in the rewards" in answer.sentence
        assert ("rewards come unforeseen" in str(advice(found))) is False


def test_actions_that_nobody_could_recognize_are_judged_by_what_they_change():
    seen = {"control__action_accuracy_imagined": 0.58, "control__action_accuracy_real": 0.58}
    changed = results(**seen, rollout__psnr_gained__shuffled_actions_at_1=(7.0, True))
    answer = answers(changed)[ACTIONS]
    assert answer.good and "1 frame ahead, the right ones bring the dream 7.0 dB nearer" in answer.sentence


def test_what_was_not_measured_is_neither_good_nor_poor():
    assert not any(each.measured or each.good for each in answers(results()).values())
    near = results({GAIN: [2.0, 0.5, -0.1, -1.0]}, rollout__least_gain_over_copy=(-1.0, False))
    answer = answers(near)[TRUST]
    assert "still picture for 15 of 24 steps" in answer.sentence and answer.good is None

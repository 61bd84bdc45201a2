"""What is poor in measured results: conditions for advice, each with the values that its sentence is filled with."""

from collections.abc import Callable, Mapping
from typing import Any

from worldmodel.evaluate.page.results import Results, step_of

SOFT = 25.0  # dB of decoded frames below which they look blurred
KEPT = 0.5  # share of small objects below which they count as vanished
FORESEEN = 0.8  # share of events that should be predicted, and of predictions that should come true
CHANGED = 0.1  # of the sharpness: less may be a wide interval alone
VISIBLE = 1.3  # times the accuracy of guessing that recognizes an action in real frames

GAIN = "rollout/psnr_gained/copy_last_frame"  # the curve of dreams against the last frame held still

Found = Mapping[str, Any] | None  # what a sentence is filled with; None where the rule does not hold


def below(name: str, limit: float) -> Callable[[Results], Found]:
    """The metric is below the limit."""

    def when(results: Results) -> Found:
        value = results.value(name)
        return {"value": value} if value is not None and value < limit else None

    return when


def missed(pattern: str, soonest: bool = False) -> Callable[[Results], Found]:
    """A metric that matches misses its target; with `soonest`, the first one that matches."""

    def when(results: Results) -> Found:
        name = results.missed(pattern)
        if name is None or (soonest and name != results.names(pattern)[0]):
            return None
        step = step_of(name)
        ahead = f"{step} frame{'s' * (step != 1)} ahead"
        return {"value": results.value(name), "step": step, "ahead": ahead, "name": name}

    return when


def no_events(name: str) -> Callable[[Results], Found]:
    """Of an event that the world predicts, none happens in the held-out clips."""
    return lambda results: {} if results.value(f"outcome/{name}_count") == 0 else None


def poorly_foreseen(name: str, what: str) -> Callable[[Results], Found]:
    """The precision or recall of an event is low, where there are events."""

    def when(results: Results) -> Found:
        if not results.value(f"outcome/{name}_count") or (name == "rare_reward" and are_dense(results)):
            return None
        value = results.value(f"outcome/{name}_{what}")
        value = 0.0 if value is None and what == "recall" else value
        return None if value is None or value >= FORESEEN else {"share": value, "rest": 1 - value}

    return when


def are_dense(results: Results) -> bool:
    """Whether most steps have a reward of their own, so that rewards are amounts and not events."""
    return (results.value("outcome/rare_reward_rate") or 0.0) > 0.5


def unexplained(results: Results) -> Found:
    """Dense rewards are predicted poorly."""
    explained = results.value("outcome/reward_explained")
    poor = explained is not None and explained < FORESEEN and are_dense(results)
    return {"share": max(0.0, explained or 0.0)} if poor else None


def objects_vanish(results: Results) -> Found:
    """Small objects are kept by the tokenizer, but not by the dream."""
    if results.first_below("rollout/small_objects/decoded_truth", KEPT) is not None:
        return None
    step = results.first_below("rollout/small_objects/dream", KEPT)
    return None if step is None else {"step": step}


def objects_not_coded(results: Results) -> Found:
    """The tokenizer itself loses small objects."""
    return None if results.first_below("rollout/small_objects/decoded_truth", KEPT) is None else {}


def sharpness(fades: bool) -> Callable[[Results], Found]:
    """Late dreams are less sharp than early ones, or noisier."""

    def when(results: Results) -> Found:
        name = results.missed("drift/sharpness_*_over_*")
        ratio = None if name is None else results.value(name)
        if name is None or ratio is None or abs(1 - ratio) < CHANGED or (ratio < 1) != fades:
            return None
        return {"change": abs(1 - ratio), "step": step_of(name)}

    return when


def actions_unseen(results: Results) -> Found:
    """Not even in real frames can actions be recognized."""
    real, guess = (results.value(f"control/action_accuracy_{name}") for name in ("real", "commonest"))
    return {"real": real, "guess": guess} if real is not None and guess and real < VISIBLE * guess else None


def actions_lost(results: Results) -> Found:
    """Actions show in real frames, but less in dreams."""
    if actions_unseen(results) is not None or results.missed("control/action_accuracy_ratio") is None:
        return None
    return {name: results.value(f"control/action_accuracy_{name}") for name in ("imagined", "real")}


def never_better(results: Results) -> Found:
    """Not one step is surely better than the baselines."""
    return {} if results.value("horizon/steps", "low") == 0 else None


def short_horizon(results: Results) -> Found:
    """Few steps can be trusted."""
    steps = results.value("horizon/steps", "low")
    return {"steps": int(steps)} if steps is not None and 0 < steps < 10 else None


def behind_still(results: Results) -> Found:
    """Within the near horizon, dreams fall behind the last frame held still."""
    step = results.first_below(GAIN, 0, "low")
    applicable = results.value("rollout/least_gain_over_copy") is not None
    return {"step": step} if applicable and step is not None else None

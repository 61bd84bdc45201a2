"""The verdict in plain words: one sentence for each question of a report, and whether it is a good one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from worldmodel.evaluate.page.advice import ACTIONS, LIKELIHOOD, REWARDS, SHARP, TRUST
from worldmodel.evaluate.page.findings import FORESEEN, GAIN, are_dense
from worldmodel.evaluate.page.results import Results, step_of

CLEAR, FAIR = 28.0, 24.0  # dB of decoded frames that look sharp, and a little soft
SHARP_SHARE, FAIR_SHARE = 0.85, 0.6  # of the sharpness of real frames
LONG, SHORT = 20, 5  # steps of trust that are many, and few


@dataclass(frozen=True)
class Answer:
    """A sentence, and whether it is good news; None where that is open. measured: whether there was anything to say."""

    sentence: str
    good: bool | None
    measured: bool = True


def unmeasured(sentence: str) -> Answer:
    """An answer that there is none."""
    return Answer(sentence, None, measured=False)


def answers(results: Results) -> dict[str, Answer]:
    """The answer to each question."""
    return {question: answer(results) for question, answer in QUESTIONS.items()}


def frames(results: Results) -> Answer:
    """Are the frames sharp?"""
    psnr = results.value("tokenizer/psnr")
    if psnr is None:
        return unmeasured("How sharp the frames are was not measured.")
    share, step = _sharpness(results)
    words = ("sharp", "a little soft", "blurry")
    level = (psnr < CLEAR) + (psnr < FAIR)
    if share is not None:
        level = max(level, (share < SHARP_SHARE) + (share < FAIR_SHARE))
    text = f"Frames are {words[level]}: real ones come back from their tokens with {psnr:.1f} dB (PSNR)"
    if share is not None:
        text += f", and dreams have {share:.0%} of the sharpness of real frames at step {step}"
    lost = results.missed("drift/collapsed*") or results.missed("drift/frozen*")
    if lost is not None:
        state = "stop moving" if "frozen" in lost else "show almost nothing"
        text += f", but {results.value(lost) or 0:.1%} of the dreams {state} in the end"
    return Answer(f"{text}.", level == 0 and lost is None)


def actions(results: Results) -> Answer:
    """Do actions do what they should?"""
    imagined, real, ratio = (results.value(f"control/action_accuracy_{name}") for name in ("imagined", "real", "ratio"))
    if imagined is not None and real is not None and ratio is not None:  # recognized better than by guessing
        good = results.reached("control/action_accuracy_ratio") is not False
        start = "Actions do what they should" if good else "Actions are followed only in part"
        seen = f"a network recognizes {imagined:.0%} of them in dreams, {real:.0%} in real frames"
        return Answer(f"{start}: {seen}.", good)
    names = results.names("rollout/psnr_gained/shuffled_actions@*")
    if not names:
        return unmeasured("Whether actions matter was not measured, or there are no different ones.")
    gain, step = results.value(names[0]) or 0.0, step_of(names[0])
    good = results.missed(names[0]) is None and gain > 0
    start = "Actions matter" if good else "Actions hardly matter"
    nearer = f"the right ones bring the dream {gain:.1f} dB nearer to the truth than wrong ones"
    return Answer(f"{start}: {step} frame{'s' * (step != 1)} ahead, {nearer}.", good)


def rewards(results: Results) -> Answer:
    """Are rewards and ends right?"""
    if results.value("outcome/end_count") is None:
        return unmeasured("This world predicts no rewards and ends.")
    found = [_amounts(results) if are_dense(results) else _events(results, "rare_reward", "reward")]
    found.append(_events(results, "end", "end"))
    good = [each for _, each in found if each is not None]
    parts = [words for words, _ in found]
    start = "are right" if all(good) else "are not right yet"
    start = start if good else "cannot be judged"
    return Answer(f"Rewards and ends {start}: {'; '.join(parts)}.", all(good) if good else None)


def trust(results: Results) -> Answer:
    """How long can it be trusted?"""
    low, mean = results.value("horizon/steps", "low"), results.value("horizon/steps")
    if low is None or mean is None:
        return _near(results)
    if low == 0:
        never = "not one step is surely nearer to the truth than a still picture"
        return Answer(f"It cannot be trusted yet: {never}.", False)
    measured = results.curves.get("horizon/psnr", {}).get("steps", ())
    if len(measured) == low:
        return Answer(f"It can be trusted for all {low:.0f} steps that were measured, and perhaps for more.", True)
    steps = f"{low:.0f} step{'s' * (low != 1)}"
    nearer = f"so long, dreams are surely nearer to the truth than a still picture (on average for {mean:.0f})"
    return Answer(f"It can be trusted for {steps}: {nearer}.", low >= LONG or (None if low >= SHORT else False))


def likelihood(results: Results) -> Answer:
    """Is the likelihood good?"""
    bits, saved = results.value("prior/bits_per_token"), results.value("prior/bits_saved/copy_coder")
    if bits is None or saved is None:
        return unmeasured("The likelihood was not measured.")
    calibrated = results.reached("prior/calibration_error/*")
    good = results.reached("prior/bits_saved/*") is not False and calibrated is not False
    words = {True: "its chances come true as often as it says", False: "its chances are off", None: ""}[calibrated]
    less = f"{abs(saved):.2g} {'fewer' if saved > 0 else 'more'} than copying the last frame"
    parts = "; ".join(filter(None, [f"{bits:.2g} bits a token, {less}", words]))
    return Answer(f"The likelihood is {'good' if good else 'poor'}: {parts}.", good)


QUESTIONS: Mapping[str, Callable[[Results], Answer]] = {
    SHARP: frames,
    ACTIONS: actions,
    REWARDS: rewards,
    TRUST: trust,
    LIKELIHOOD: likelihood,
}


def _events(results: Results, name: str, word: str) -> tuple[str, bool | None]:
    """How well an event is foreseen, in words, and whether that is good; None where it does not happen."""
    count = int(results.value(f"outcome/{name}_count") or 0)
    if not count:
        return f"no {word} happens in the held-out clips", None
    recall, precision = (results.value(f"outcome/{name}_{what}") or 0.0 for what in ("recall", "precision"))
    came = f", and {precision:.0%} of those foreseen come" if precision else ""
    words = f"{recall:.0%} of the {count} {word}{'s' * (count != 1)} are foreseen{came}"
    return words, recall >= FORESEEN and precision >= FORESEEN


def _amounts(results: Results) -> tuple[str, bool | None]:
    """How well rewards of nearly every step are predicted."""
    explained = max(0.0, results.value("outcome/reward_explained") or 0.0)
    return f"{explained:.0%} of what varies in the rewards is predicted", explained >= FORESEEN


def _sharpness(results: Results) -> tuple[float | None, int]:
    """The sharpness of dreams ÷ that of real frames, at the last step that real episodes reach, and that step."""
    curve, judged = results.curves.get("drift/sharpness"), results.names("drift/sharpness_*_over_*")
    if curve is None or not judged:
        return None, 0
    step = step_of(judged[0])
    pairs = dict(zip(curve["steps"], curve["mean"], strict=True))
    near = min(pairs, key=lambda each: abs(each - step))
    return pairs[near], near


def _near(results: Results) -> Answer:
    """The answer without a measured trust horizon, from dreams near the given frames."""
    if results.value("rollout/least_gain_over_copy") is None:
        return unmeasured("How long it can be trusted was not measured.")
    steps, behind = results.curves[GAIN]["steps"][-1], results.first_below(GAIN, 0, "low")
    if behind == 1:
        return Answer("Dreams are no nearer to the truth than a still picture, from the first step on.", False)
    far = f"all {steps} steps" if behind is None else f"{behind - 1} of {steps} steps"
    words = f"Dreams are nearer to the truth than a still picture for {far} that were looked at"
    return Answer(f"{words}.", behind is None or None)

"""What to change where a result is poor: a table of rules, each from measured results to one sentence."""

from collections.abc import Callable
from dataclasses import dataclass

from worldmodel.evaluate.page.findings import (
    SOFT,
    Found,
    actions_lost,
    actions_unseen,
    behind_still,
    below,
    missed,
    never_better,
    no_events,
    objects_not_coded,
    objects_vanish,
    poorly_foreseen,
    sharpness,
    short_horizon,
    unexplained,
)
from worldmodel.evaluate.page.results import Results

SHARP = "Are the frames sharp?"
ACTIONS = "Do actions do what they should?"
REWARDS = "Are rewards and ends right?"
TRUST = "How long can it be trusted?"
LIKELIHOOD = "Is the likelihood good?"


@dataclass(frozen=True)
class Rule:
    """question: the part of the report that it belongs to. when: finds what is poor. sentence: says so, and what to
    try, with the values found in braces."""

    question: str
    when: Callable[[Results], Found]
    sentence: str

    def advice(self, results: Results) -> str | None:
        """The sentence, if the rule holds."""
        found = self.when(results)
        return None if found is None else self.sentence.format(**found)


def advice(results: Results) -> dict[str, list[str]]:
    """The sentences of all rules that hold, by question."""
    found: dict[str, list[str]] = {}
    for rule in RULES.values():
        if (sentence := rule.advice(results)) is not None:
            found.setdefault(rule.question, []).append(sentence)
    return found


RULES = {
    "decoded frames are soft": Rule(
        SHARP,
        below("tokenizer/psnr", SOFT),
        "Even real frames come back soft from their tokens ({value:.1f} dB): train the tokenizer longer "
        "(train-tokenizer `fit.steps=`), or use smaller patches (`tokenizer.space_stride=4`).",
    ),
    "tokens lose small objects": Rule(
        SHARP,
        objects_not_coded,
        "Small objects are lost by the tokenizer already: try `tokenizer.space_stride=4`, more codes "
        "(`tokenizer.quantizer.codes=`), or a larger `tokenizer.focal_gamma=`.",
    ),
    "small objects vanish": Rule(
        SHARP,
        objects_vanish,
        "Small objects vanish from step {step} on: train the prior longer (train-prior `fit.steps=`) and on longer "
        "clips (`clip_latents=`), or keep more of the past (`prior.memory=32`).",
    ),
    "codes unused": Rule(
        SHARP,
        missed("tokenizer/usage"),
        "Only {value:.0%} of the codes occur. If frames look good, fewer are enough (`tokenizer.quantizer.codes=`); if "
        "not, try `tokenizer.bottleneck=fsq`, whose codes cannot collapse.",
    ),
    "dreams fade": Rule(
        SHARP,
        sharpness(fades=True),
        "By step {step}, dreams have lost {change:.0%} of their sharpness: train the prior longer (`fit.steps=`), with "
        "`prior.context_noise=0.1`, or end the low temperature earlier (`temperature_until=`).",
    ),
    "dreams grow noisy": Rule(
        SHARP,
        sharpness(fades=False),
        "By step {step}, dreams have {change:.0%} more contrast than at the start, which is noise: train the prior "
        "longer (`fit.steps=`), or sample at a lower temperature (train-prior `temperature=0.8`).",
    ),
    "dreams freeze": Rule(
        SHARP,
        missed("drift/frozen*"),
        "{value:.1%} of the dreams stop moving: train the prior longer (`fit.steps=`), and sample at temperature 1 "
        "(train-prior `temperature=1`).",
    ),
    "dreams collapse": Rule(
        SHARP,
        missed("drift/collapsed*"),
        "{value:.1%} of the dreams show almost nothing in the end: train the prior with noise on its context "
        "(`prior.context_noise=0.1`), or end dreams earlier (`horizon=`).",
    ),
    "actions change little": Rule(
        ACTIONS,
        missed("control/delta_psnr@*", soonest=True),
        "Seen {ahead}, other actions give nearly the same dream: collect more episodes (`episodes=`) in which "
        "actions are held (`policy=sticky hold=4`), and train the prior longer (`fit.steps=`).",
    ),
    "other actions change little": Rule(
        ACTIONS,
        missed("rollout/psnr_gained/shuffled_actions@*", soonest=True),
        "Seen {ahead}, dreams under the right actions are no nearer to the truth than under wrong ones: train the "
        "prior longer (`fit.steps=`), on more episodes (`episodes=`).",
    ),
    "actions do not show": Rule(
        ACTIONS,
        actions_unseen,
        "Actions can hardly be recognized in real frames either ({real:.0%}; always naming the commonest gives "
        "{guess:.0%}): perhaps they show only later, or not in this view; try another view or `env.frame_skip=`.",
    ),
    "actions are lost": Rule(
        ACTIONS,
        actions_lost,
        "Actions are recognized in {imagined:.0%} of imagined frames, but in {real:.0%} of real ones: train the prior "
        "longer (`fit.steps=`), on episodes in which every action occurs (`policy=random`).",
    ),
    "actions save nothing": Rule(
        ACTIONS,
        missed("prior/bits_saved_per_frame/any_action"),
        "Knowing the action makes the next frame no likelier: perhaps it shows only later (`env.frame_skip=`), or the "
        "policy could be guessed from the frames (`policy=random`).",
    ),
    "no rewards": Rule(
        REWARDS,
        no_events("rare_reward"),
        "No reward other than the usual one happens in the held-out clips, so none can be judged: collect with a "
        "policy that earns some (`policy=`), or more episodes (`episodes=`).",
    ),
    "rewards unforeseen": Rule(
        REWARDS,
        poorly_foreseen("rare_reward", "recall"),
        "{rest:.0%} of the rewards come unforeseen: collect more episodes with rewards (`episodes=`, `policy=`). What "
        "earns them has to show in the frames.",
    ),
    "false rewards": Rule(
        REWARDS,
        poorly_foreseen("rare_reward", "precision"),
        "{rest:.0%} of the foreseen rewards do not come, and an agent will seek them: train the prior on more episodes "
        "(`episodes=`), and keep an agent's dreams short (`dream.horizon=`).",
    ),
    "rewards unexplained": Rule(
        REWARDS,
        unexplained,
        "Only {share:.0%} of what varies in the rewards is predicted: collect more episodes (`episodes=`), train the "
        "prior longer (`fit.steps=`), and give its head more room (`prior.outcome_width=`).",
    ),
    "ends unforeseen": Rule(
        REWARDS,
        poorly_foreseen("end", "recall"),
        "{rest:.0%} of the ends come unforeseen, so dreams go on where episodes end: collect more episodes that end "
        "(`episodes=`). What ends them has to show in the frames.",
    ),
    "false ends": Rule(
        REWARDS,
        poorly_foreseen("end", "precision"),
        "{rest:.0%} of the foreseen ends do not come, so dreams end too early: train the prior on more episodes "
        "(`episodes=`).",
    ),
    "not one step": Rule(
        TRUST,
        never_better,
        "Not one step is surely better than a still picture. Train the prior longer (`fit.steps=`), and measure with "
        "more held-out clips (`report.trust.clips=`), so that the interval becomes narrower.",
    ),
    "few steps": Rule(
        TRUST,
        short_horizon,
        "Let agents learn in dreams of {steps} steps (train-agent `dream.horizon=trust`), and train the prior longer "
        "(`fit.steps=`) for more.",
    ),
    "behind a still picture": Rule(
        TRUST,
        behind_still,
        "From step {step} on, dreams are not surely nearer to the truth than the last frame held still: train longer "
        "(`fit.steps=`), or sample at a lower temperature (train-prior `temperature=0.5`).",
    ),
    "views are forgotten": Rule(
        TRUST,
        missed("memory/gain@*"),
        "After turning away for {step} steps and back, the view is forgotten: the prior sees only some frames back. "
        "Give it more `prior.layers=`, or `prior.memory=32`.",
    ),
    "no better than a simple code": Rule(
        LIKELIHOOD,
        missed("prior/bits_saved/*"),
        "The prior needs no fewer bits than a simple baseline ({name}): train it longer (`fit.steps=`).",
    ),
    "chances are off": Rule(
        LIKELIHOOD,
        missed("prior/calibration_error/*"),
        "Predicted chances are off by {value:.2f} on average: train on more episodes (`episodes=`) or with averaged "
        "weights (`fit.ema_decay=0.999`), and do not cut dreams by their surprise.",
    ),
}

"""What each figure of a report is: its unit, what it says, and what is asked of it."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from worldmodel.evaluate.statistics.results import Interval

NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class MetricInfo:
    """unit: of the value; a plain number has none. least, most: what the whole interval is asked to lie above or below;
    within: between which two numbers. steps: of a curve, what it runs over."""

    what: str
    unit: str = ""
    least: float | None = None
    most: float | None = None
    within: tuple[float, float] | None = None
    steps: str = "step"

    @property
    def target(self) -> str:
        """What is asked, with its sign; or nothing."""
        if self.within is not None:
            return "{:g} to {:g}".format(*self.within)
        if self.least is not None:
            return f"> {self.least:g}"
        return "" if self.most is None else f"< {self.most:g}"

    def reached(self, metric: Interval) -> bool | None:
        """Whether all of the figure's interval lies there, not merely beside; None where nothing is asked, or the
        figure is not applicable."""
        if metric.inapplicable:
            return None
        if self.within is not None:
            return self.within[0] <= metric.low and metric.high <= self.within[1]
        if self.least is not None:
            return metric.low > self.least
        return None if self.most is None else metric.high < self.most


def verdict(target: str, reached: bool | None, why: str = "") -> str:
    """A target and what came of it, in words; nothing where nothing is asked and nothing is wrong."""
    if why:
        return f"{target} {NOT_APPLICABLE}: {why}".strip()
    return f"{target} {'reached' if reached else 'NOT reached'}" if target else ""


LEAST_GAIN = (
    "dream − the last frame held still, paired, at the frame ahead where its interval reaches lowest: above 0 there, "
    "it is above 0 at every frame of the horizon"
)

# The first pattern that fits a name tells of it. Targets are asked of any world, so they have no scale of their own.
METRICS = {
    "tokenizer/psnr_by_frame": MetricInfo("", "dB", steps="frame of the clip"),
    "tokenizer/*_by_frame": MetricInfo("", steps="frame of the clip"),
    "tokenizer/psnr": MetricInfo("decoded against real frames", "dB"),
    "tokenizer/psnr_first_frame": MetricInfo("of the first frame of each clip, which has no past", "dB"),
    "tokenizer/ssim": MetricInfo("structural similarity of decoded to real frames; 1: equal"),
    "tokenizer/ssim_first_frame": MetricInfo("of the first frame of each clip"),
    "tokenizer/lpips*": MetricInfo("perceptual distance of decoded to real frames; 0: equal"),
    "tokenizer/perplexity": MetricInfo("codes in effective use", "codes"),
    "tokenizer/usage": MetricInfo("share of all codes that occur", least=0.9),
    "tokenizer/raw_bits_per_frame": MetricInfo("8 for each colour of each pixel", "bits"),
    "tokenizer/token_bits_per_frame": MetricInfo("log₂ K for each token", "bits"),
    "tokenizer/compression": MetricInfo("raw bits ÷ bits of the tokens at log₂ K each", "×"),
    "prior/bits_by_latent/*": MetricInfo("", "bits", steps="latent of the clip"),
    "prior/reliability/*": MetricInfo("", "% of times it came", steps="chance told, %"),
    "prior/bits_per_token": MetricInfo("−log₂ p of a token under the true actions", "bits"),
    "prior/bits_per_token/*": MetricInfo("the same by a rival", "bits"),
    "prior/bits_saved/any_action": MetricInfo("bits per token that knowing the action saves", "bits"),
    "prior/bits_saved/*": MetricInfo("bits per token that the prior saves against a rival", "bits", least=0),
    "prior/action_entropy": MetricInfo(
        "bits of the actions into a latent: the most that knowing them can save", "bits"
    ),
    "prior/bits_saved_per_frame/any_action": MetricInfo(
        "bits per frame that knowing the action saves", "bits", least=0
    ),
    "prior/bits_per_frame": MetricInfo("−log₂ p of all tokens of a frame", "bits"),
    "prior/compression": MetricInfo("raw bits ÷ bits per frame under the prior", "×"),
    "prior/bits_per_dim_bound": MetricInfo(
        "tokens by the prior and the rest of the pixels by a fixed table of errors, losslessly: an upper bound on "
        "−log₂ p of a real frame, for each colour of each pixel",
        "bits",
    ),
    "prior/entropy_per_token": MetricInfo("bits that the prior expects; calibrated: as many as it takes", "bits"),
    "prior/calibration_error/top_code": MetricInfo("gap of chance and rate, of the likeliest code", most=0.05),
    "prior/calibration_error/every_code": MetricInfo("probability in the wrong bin, of all codes", most=0.1),
    "prior/tokens_unchanged": MetricInfo("share of tokens that equal the one at the same place a latent earlier"),
    "outcome/reward_rmse": MetricInfo("error of the expected reward, in its own unit"),
    "outcome/reward_explained": MetricInfo("share of the reward's variance"),
    "outcome/*_count": MetricInfo("times that it happened in these clips", "times"),
    "outcome/*_rate": MetricInfo("share of steps on which it happened"),
    "outcome/*_mean_chance": MetricInfo("mean probability told; calibrated: the rate"),
    "outcome/*_precision": MetricInfo("share that came true, of those foretold at one half"),
    "outcome/*_recall": MetricInfo("share that was foretold, of those that came"),
    "outcome/*_calibration_error": MetricInfo("mean gap of chance and rate over ten groups"),
    "*rollout/frames_above_copy": MetricInfo(
        "frames ahead, from the first on, at which dreams beat the last frame held still by all of their interval",
        "frames",
    ),
    "*rollout/share_above_copy": MetricInfo("the same, as a share of the horizon"),
    "rollout/least_gain_over_copy": MetricInfo(LEAST_GAIN, "dB", least=0),
    "*rollout/least_gain_over_copy": MetricInfo(LEAST_GAIN, "dB"),
    "rollout/psnr_gained/*": MetricInfo("dream − rival, paired", "dB", least=0, steps="frames ahead"),
    "*rollout/psnr_gained/*": MetricInfo("dream − rival, paired", "dB", steps="frames ahead"),
    "*rollout/ssim_gained/*": MetricInfo("dream − rival, paired", steps="frames ahead"),
    "*rollout/lpips_gained/*": MetricInfo("rival − dream, paired", steps="frames ahead"),
    "*rollout/psnr/*": MetricInfo("against the true frame", "dB", steps="frames ahead"),
    "*rollout/ssim/*": MetricInfo("against the true frame; 1: equal", steps="frames ahead"),
    "*rollout/lpips/*": MetricInfo("against the true frame; 0: equal", steps="frames ahead"),
    "*rollout/frechet_encoder/*": MetricInfo(
        "Fréchet distance to the truth by features of this world's own encoder, in deviations of real clips; no FVD"
    ),
    "*rollout/fvd/*": MetricInfo("Fréchet distance to the truth by features of I3D"),
    "horizon/steps": MetricInfo(
        "frames ahead up to which dreams beat all that they have to; the world keeps the low end", "frames"
    ),
    "horizon/gain_over_*": MetricInfo("", "dB", steps="frames ahead"),
    "horizon/psnr": MetricInfo("", "dB", steps="frames ahead"),
    "control/delta_psnr@*": MetricInfo(
        "PSNR under the true actions − under random ones (ΔtPSNR of Genie)", "dB", least=0
    ),
    "control/counterfactual_gain@*": MetricInfo(
        "what knowing the other action is worth, by the simulator", "dB", least=0
    ),
    "control/delta_psnr*": MetricInfo("", "dB", steps="frames ahead"),
    "control/counterfactual_*": MetricInfo("", "dB", steps="frames ahead"),
    "control/*accuracy_real": MetricInfo("of a network that names the action from real frames"),
    "control/*accuracy_imagined": MetricInfo("of the same network on imagined frames"),
    "control/*accuracy_ratio": MetricInfo("imagined ÷ real", least=0.8),
    "control/action_accuracy_commonest": MetricInfo("of always naming the commonest action"),
    "memory/full_turn_steps": MetricInfo("steps to come round", "steps"),
    "memory/gain@*": MetricInfo("above the views of other scenes, after turning away and back", "dB", least=0),
    "memory/full_turn_gain": MetricInfo("above the views of other scenes, after a full turn", "dB"),
    "memory/full_turn_real": MetricInfo("of the simulator's own view after a full turn against the first", "dB"),
    "memory/*": MetricInfo("of the returned view against the true one", "dB", steps="steps in between"),
    "drift/sharpness_real": MetricInfo("mean gradient of real frames", "grey levels a pixel"),
    "drift/sharpness_*_over_*": MetricInfo("late ÷ early gradient of dreams", within=(0.9, 1.1)),
    "drift/bits_*_over_*": MetricInfo("late ÷ early surprise of a step"),
    "drift/token_divergence_floor": MetricInfo("the same of as many real tokens", "bits"),
    "drift/token_divergence_*_over_real": MetricInfo(
        "late, in sets of 64 dreams, ÷ what 95 of 100 samples of as many real tokens do not exceed: below 1, dreamed "
        "codes are as near to those of the data as samples of real frames are",
        most=1,
    ),
    "drift/token_divergence_*_over_*": MetricInfo("late ÷ early; both are small, so its interval is wide"),
    "drift/token_divergence*": MetricInfo("Jensen–Shannon between dreamed codes and those of the data", "bits"),
    "drift/nearest_real_*_minus_*": MetricInfo("late − early", "dB"),
    "drift/nearest_real*": MetricInfo("PSNR of the most similar real frame", "dB"),
    "drift/frozen_real": MetricInfo("share of real windows that pass for frozen"),
    "drift/collapsed_real": MetricInfo("share of real windows that pass for collapsed"),
    "drift/frozen*": MetricInfo("share of dreams that no longer move: of 64, none", most=1 / 64),
    "drift/collapsed*": MetricInfo("share of dreams that show next to nothing: of 64, none", most=1 / 64),
    "drift/variety_*": MetricInfo("entropy over dreams ÷ over real frames", least=0.5),
    "drift/sharpness": MetricInfo("gradient of dreams ÷ of real frames"),
    "drift/bits": MetricInfo("surprise of a step under the world itself", "bits"),
}


def metric_info(name: str) -> MetricInfo:
    """What is known of the figure; of one that is not in the table, its name alone."""
    return next((found for pattern, found in METRICS.items() if fnmatchcase(name, pattern)), MetricInfo(""))

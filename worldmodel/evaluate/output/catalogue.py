"""What each metric of a report is: its unit, its meaning, its target, and what its interval draws
again."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from worldmodel.evaluate.statistics.results import Interval

NOT_APPLICABLE = "not applicable"
FEW_EPISODES = "drawn one by one, as there are fewer than 5 episodes: the interval may be too narrow"
RESAMPLED = {
    "episodes": "drawn whole, each with all its clips, latents, frames, or dreams that start in it",
    "clips": FEW_EPISODES,
    "dreams": FEW_EPISODES,
    "frames": FEW_EPISODES,
    "windows": FEW_EPISODES,
    "pairs of a dream and a real frame": FEW_EPISODES,
    "moments of the simulator": "each of an episode of its own",
    "scenes of the simulator": "each of an episode of its own",
}


@dataclass(frozen=True)
class MetricInfo:
    """What a metric is.

    unit: of the value; "" for a plain number. least, most: the whole interval should lie above or
    below. within: the whole interval should lie between these. steps: what the steps of a curve
    are.
    """

    what: str
    unit: str = ""
    least: float | None = None
    most: float | None = None
    within: tuple[float, float] | None = None
    steps: str = "step"

    @property
    def target(self) -> str:
        """The target with its sign; "" if there is none."""
        if self.within is not None:
            return "{:g} to {:g}".format(*self.within)
        if self.least is not None:
            return f"> {self.least:g}"
        return "" if self.most is None else f"< {self.most:g}"

    def reached(self, metric: Interval) -> bool | None:
        """Whether the whole interval reaches the target; None without a target, or if the metric is
        not applicable."""
        if metric.inapplicable:
            return None
        if self.within is not None:
            return self.within[0] <= metric.low and metric.high <= self.within[1]
        if self.least is not None:
            return metric.low > self.least
        return None if self.most is None else metric.high < self.most


def verdict(target: str, reached: bool | None, reason: str = "") -> str:
    """A target and whether it was reached, in words. reason: why it is not applicable; "" if it
    is."""
    if reason:
        return f"{target} {NOT_APPLICABLE}: {reason}".strip()
    return f"{target} {'reached' if reached else 'NOT reached'}" if target else ""


def resampling(metric: Interval) -> str:
    """What the interval of a metric draws again, with its number, such as "31 episodes"; "" without
    an interval."""
    return f"{metric.count} {metric.resampled}" if metric.resampled else ""


LEAST_GAIN = (
    "dream − the last frame held still, paired, at the frame ahead with the lowest end of the interval: above 0 there, "
    "it is above 0 at every frame of the horizon"
)

# The first pattern that matches a name counts. Targets hold for any world, so they do not depend on its scale.
METRICS = {
    "tokenizer/psnr_by_frame": MetricInfo("", "dB", steps="frame of the clip"),
    "tokenizer/*_by_frame": MetricInfo("", steps="frame of the clip"),
    "tokenizer/psnr": MetricInfo("PSNR of decoded against real frames", "dB"),
    "tokenizer/psnr_first_frame": MetricInfo("the same for the first frame of each clip, which has no past", "dB"),
    "tokenizer/ssim": MetricInfo("structural similarity of decoded to real frames; 1: equal"),
    "tokenizer/ssim_first_frame": MetricInfo("the same for the first frame of each clip"),
    "tokenizer/lpips*": MetricInfo("perceptual distance of decoded to real frames; 0: equal"),
    "tokenizer/perplexity": MetricInfo("effective number of codes", "codes"),
    "tokenizer/usage": MetricInfo("share of all codes that occur", least=0.9),
    "tokenizer/raw_bits_per_frame": MetricInfo("8 per color of each pixel", "bits"),
    "tokenizer/token_bits_per_frame": MetricInfo("log₂ K per token", "bits"),
    "tokenizer/compression": MetricInfo("raw bits ÷ bits of the tokens at log₂ K each", "×"),
    "prior/bits_by_latent/*": MetricInfo("", "bits", steps="latent of the clip"),
    "prior/reliability/*": MetricInfo("", "% that came true", steps="predicted chance, %"),
    "prior/bits_per_token": MetricInfo("−log₂ p of a token under the true actions", "bits"),
    "prior/bits_per_token/*": MetricInfo("the same by a baseline", "bits"),
    "prior/bits_saved/any_action": MetricInfo("bits per token that knowing the action saves", "bits"),
    "prior/bits_saved/*": MetricInfo("bits per token that the prior saves against a baseline", "bits", least=0),
    "prior/action_entropy": MetricInfo("entropy of the actions into a latent: knowing them can save no more", "bits"),
    "prior/bits_saved_per_frame/any_action": MetricInfo(
        "bits per frame that knowing the action saves", "bits", least=0
    ),
    "prior/bits_per_frame": MetricInfo("−log₂ p of all tokens of a frame", "bits"),
    "prior/compression": MetricInfo("raw bits ÷ bits per frame under the prior", "×"),
    "prior/bits_per_dim_bound": MetricInfo(
        "the prior codes the tokens, a fixed table the errors of the pixels: a lossless code, an upper bound on "
        "−log₂ p of a real frame, per color of each pixel",
        "bits",
    ),
    "prior/entropy_per_token": MetricInfo(
        "bits that the prior expects; if calibrated, equal to bits_per_token", "bits"
    ),
    "prior/calibration_error/top_code": MetricInfo("mean gap between chance and rate of the likeliest code", most=0.05),
    "prior/calibration_error/every_code": MetricInfo("probability in the wrong bin, of all codes", most=0.1),
    "prior/tokens_unchanged": MetricInfo("share of tokens that equal the token at the same place one latent earlier"),
    "outcome/reward_rmse": MetricInfo("root mean squared error of the expected reward, in units of the reward"),
    "outcome/reward_explained": MetricInfo("share of the reward's variance that is explained"),
    "outcome/*_count": MetricInfo("number of events in these clips", "times"),
    "outcome/*_rate": MetricInfo("share of steps with an event"),
    "outcome/*_mean_chance": MetricInfo("mean predicted probability; if calibrated, equal to the rate"),
    "outcome/*_precision": MetricInfo("share of the predicted events (chance above one half) that came true"),
    "outcome/*_recall": MetricInfo("share of the events that were predicted (chance above one half)"),
    "outcome/*_calibration_error": MetricInfo("mean gap between chance and rate, over ten groups by chance"),
    "*rollout/frames_above_copy": MetricInfo(
        "frames ahead, without a gap from the first, at which the whole interval of the gain over the last frame "
        "held still is above 0",
        "frames",
    ),
    "*rollout/share_above_copy": MetricInfo("the same, as a share of the horizon"),
    "rollout/least_gain_over_copy": MetricInfo(LEAST_GAIN, "dB", least=0),
    "*rollout/least_gain_over_copy": MetricInfo(LEAST_GAIN, "dB"),
    "rollout/psnr_gained/*": MetricInfo("dream − baseline, paired", "dB", least=0, steps="frames ahead"),
    "*rollout/psnr_gained/*": MetricInfo("dream − baseline, paired", "dB", steps="frames ahead"),
    "*rollout/ssim_gained/*": MetricInfo("dream − baseline, paired", steps="frames ahead"),
    "*rollout/lpips_gained/*": MetricInfo("baseline − dream, paired", steps="frames ahead"),
    "*rollout/psnr/*": MetricInfo("against the true frame", "dB", steps="frames ahead"),
    "*rollout/ssim/*": MetricInfo("against the true frame; 1: equal", steps="frames ahead"),
    "*rollout/lpips/*": MetricInfo("against the true frame; 0: equal", steps="frames ahead"),
    "*rollout/small_objects/*": MetricInfo(
        "area of what stands out from the background ÷ its true area, counted up to 1", steps="frames ahead"
    ),
    "*rollout/frechet_encoder/*": MetricInfo(
        "Fréchet distance to the truth by features of this world's own encoder, in deviations of real clips; no FVD"
    ),
    "*rollout/fvd/*": MetricInfo("Fréchet distance to the truth by features of I3D"),
    "horizon/steps": MetricInfo(
        "frames ahead up to which dreams beat all baselines; the world keeps the low end as its trust horizon", "frames"
    ),
    "horizon/gain_over_*": MetricInfo("", "dB", steps="frames ahead"),
    "horizon/psnr": MetricInfo("", "dB", steps="frames ahead"),
    "control/delta_psnr@*": MetricInfo(
        "PSNR under the true actions − under random ones (ΔtPSNR of Genie)", "dB", least=0
    ),
    "control/counterfactual_gain@*": MetricInfo(
        "gain of the dream under the other action over that under the original one, against the simulator",
        "dB",
        least=0,
    ),
    "control/delta_psnr*": MetricInfo("", "dB", steps="frames ahead"),
    "control/counterfactual_*": MetricInfo("", "dB", steps="frames ahead"),
    "control/*accuracy_real": MetricInfo("of a network that recognizes the action in real frames"),
    "control/*accuracy_imagined": MetricInfo("of the same network in imagined frames"),
    "control/*accuracy_ratio": MetricInfo("imagined ÷ real", least=0.8),
    "control/action_accuracy_commonest": MetricInfo("of always naming the most frequent action"),
    "memory/full_turn_steps": MetricInfo("steps of a full turn", "steps"),
    "memory/gain@*": MetricInfo(
        "PSNR against the true view − against other scenes, after turning away and back", "dB", least=0
    ),
    "memory/full_turn_gain": MetricInfo("the same after a full turn", "dB"),
    "memory/full_turn_real": MetricInfo(
        "PSNR of the simulator's own view after a full turn against the first view", "dB"
    ),
    "memory/*": MetricInfo("PSNR of the returned view against the true one", "dB", steps="steps in between"),
    "drift/sharpness_real": MetricInfo("mean gradient of real frames", "grey levels a pixel"),
    "drift/sharpness_*_over_*": MetricInfo("late ÷ early gradient of dreams", within=(0.9, 1.1)),
    "drift/bits_*_over_*": MetricInfo("late ÷ early surprise of a step"),
    "drift/token_divergence_floor": MetricInfo("the same for as many real tokens", "bits"),
    "drift/token_divergence_*_over_real": MetricInfo(
        "mean divergence of late dreams in sets of 64 ÷ the 95th percentile of as large samples of real tokens (no "
        "interval): below 1, dreamed codes are as near to those of the data as real samples",
        most=1,
    ),
    "drift/token_divergence_*_over_*": MetricInfo("late ÷ early; both are small, so the interval is wide"),
    "drift/token_divergence*": MetricInfo(
        "Jensen–Shannon divergence between dreamed codes and those of the data", "bits"
    ),
    "drift/nearest_real_*_minus_*": MetricInfo("late − early", "dB"),
    "drift/nearest_real*": MetricInfo("PSNR of the most similar real frame", "dB"),
    "drift/frozen_real": MetricInfo("share of real windows that count as frozen"),
    "drift/collapsed_real": MetricInfo("share of real windows that count as collapsed"),
    "drift/frozen*": MetricInfo("share of dreams that no longer move", most=1 / 64),
    "drift/collapsed*": MetricInfo("share of dreams that show almost nothing", most=1 / 64),
    "drift/variety_*": MetricInfo("entropy of a token over dreams ÷ over real frames", least=0.5),
    "drift/sharpness": MetricInfo("gradient of dreams ÷ of real frames"),
    "drift/bits": MetricInfo("surprise of a step under the world itself", "bits"),
}


def metric_info(name: str) -> MetricInfo:
    """The entry of a metric; an empty one if it is not in the table."""
    return next((found for pattern, found in METRICS.items() if fnmatchcase(name, pattern)), MetricInfo(""))

"""How well a prior predicts real tokens: bits, their place in the frame, and the calibration of its
probabilities."""

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodel.evaluate.baselines.coders import CopyCoder, ResidualCoder
from worldmodel.evaluate.baselines.marginal_action import ActionMarginal
from worldmodel.evaluate.measures.calibration import binned, calibration_error, reliability
from worldmodel.evaluate.sections.charts import heat_map
from worldmodel.evaluate.statistics.bootstrap import Resampler, identity, share
from worldmodel.evaluate.statistics.results import Curve, Section, exact
from worldmodel.evaluate.testbed.held_out import BATCH, HeldOut, decode, same_actions
from worldmodel.interfaces import Prior
from worldmodel.world import WorldModel

NATS = math.log(2)  # per bit
LEAST = 1e-3  # bits of a frame; fewer count as none


@dataclass(frozen=True)
class Baselines:
    """What the prior is compared with, learned from the training episodes."""

    copy: CopyCoder
    residual: ResidualCoder
    action_marginal: ActionMarginal | None


@dataclass(frozen=True)
class TokenPredictions:
    """The prior's predictions for all latents of n clips but the first, which has no past.

    bits: −log2 p of each token; entropy: the bits that the prior expected. top, every:
    probabilities of the likeliest code and of all codes, and what came true (see `binned`).
    """

    bits: Float[np.ndarray, "n s y x"]
    entropy: Float[np.ndarray, "n s y x"]
    top: Float[np.ndarray, "n 3 bins"]
    every: Float[np.ndarray, "n 3 bins"]


def token_likelihood(world: WorldModel, clips: HeldOut, baselines: Baselines) -> Section:
    """Bits per token, per frame and per pixel, beside simpler coders, wrong actions and no
    actions."""
    predictions = predict(world.prior, clips.tokens, clips.action_inputs)
    by_latent = _by_latent(world.prior, clips, predictions, baselines)
    section = _compared(clips.resampler, by_latent)
    name = "bits_saved/shuffled_actions"
    section.metrics[name] = section.metrics[name].unless(same_actions(clips))
    section.metrics |= _sizes(world, clips, predictions, baselines)
    _add_actions(section, clips.resampler, by_latent, world.prior, baselines.action_marginal)
    unchanged = clips.tokens[:, 1:] == clips.tokens[:, :-1]
    means = clips.unit_means(unchanged.double().mean((1, 2, 3)).numpy())
    section.metrics["tokens_unchanged"] = clips.resampler.interval(identity, means)
    _add_calibration(section, clips, predictions)
    section.images["bits of each token"] = heat_map(predictions.bits.mean((0, 1)), "bits, mean over clips and frames")
    return section


@torch.no_grad()
def predict(prior: Prior, tokens: Int[Tensor, "n s y x"], action_inputs: Float[Tensor, "n s a"]) -> TokenPredictions:
    """The prior's predictions of these tokens under these actions."""
    device = prior.device
    parts = []
    for part, actions in zip(tokens.split(BATCH), action_inputs.split(BATCH), strict=True):
        scores = prior.logits(part.to(device), actions.to(device))[:, 1:].float().log_softmax(-1).cpu()
        parts.append(_predict_part(scores, part[:, 1:]))
    columns = ([getattr(part, each.name) for part in parts] for each in fields(TokenPredictions))
    return TokenPredictions(*(np.concatenate(column) for column in columns))


def _predict_part(scores: Float[Tensor, "b s y x k"], tokens: Int[Tensor, "b s y x"]) -> TokenPredictions:
    chance = scores.exp()
    true = scores.gather(-1, tokens[..., None])[..., 0]
    entropy = -(chance * scores).sum(-1)
    likeliest, code = chance.max(-1)
    came = torch.zeros_like(chance, dtype=torch.bool).scatter_(-1, tokens[..., None], True)
    top = binned(likeliest.numpy(), (code == tokens).numpy())
    bits, expected = ((x / NATS).double().numpy() for x in (-true, entropy))
    return TokenPredictions(bits, expected, top, binned(chance.numpy(), came.numpy()))


def _by_latent(
    prior: Prior, clips: HeldOut, predictions: TokenPredictions, baselines: Baselines
) -> dict[str, Float[np.ndarray, "m s"]]:
    """Bits per token of each coder, by unit and latent."""
    tokens = clips.tokens.numpy()
    coders = {
        "prior": predictions.bits,
        "shuffled_actions": predict(prior, clips.tokens, clips.action_inputs[clips.others()]).bits,
        "copy_coder": baselines.copy.bits(tokens),
        "marginal_coder": baselines.copy.marginal().bits(tokens),
    }
    found = {name: clips.unit_means(bits.mean((2, 3))) for name, bits in coders.items()}
    if baselines.action_marginal is not None:
        blind = without_actions(prior, clips, baselines.action_marginal)
        found["any_action"] = clips.unit_means(blind / math.prod(prior.grid))
    return found


def _compared(resampler: Resampler, by_latent: dict[str, Float[np.ndarray, "m s"]]) -> Section:
    """Bits per token of each coder, by latent and over all, and what the prior saves against
    each."""
    section, mine = Section(), by_latent["prior"]
    steps = range(2, 2 + mine.shape[1])
    for name, bits in by_latent.items():
        section.curves[f"bits_by_latent/{name}"] = resampler.curve(steps, identity, bits)
        key = "bits_per_token" if name == "prior" else f"bits_per_token/{name}"
        section.metrics[key] = resampler.interval(identity, bits.mean(1))
        if name != "prior":
            section.metrics[f"bits_saved/{name}"] = resampler.interval(identity, (bits - mine).mean(1))
    return section


def _sizes(world: WorldModel, clips: HeldOut, predictions: TokenPredictions, baselines: Baselines) -> dict:
    """Bits of a frame's tokens, and of all its pixels in bits per dimension.

    The prior codes the tokens, then `ResidualCoder` codes the error of decoding. This code is
    lossless, so its length is an upper bound on −log2 p of the real frames under the world.
    """
    raw = 8 * math.prod(world.info.frame_shape)
    frames = clips.frames.shape[1] - 1
    tokens = predictions.bits.sum((1, 2, 3)) / frames
    rest = baselines.residual.bits(clips.frames.numpy(), decode(world.tokenizer, clips).numpy())[:, 1:].mean(1)
    per_frame, whole = clips.unit_means(tokens), clips.unit_means(tokens + rest)
    interval = clips.resampler.interval
    return {
        "bits_per_frame": interval(identity, per_frame),
        "compression": interval(lambda bits: share(raw, np.where(bits > LEAST, bits, 0)), per_frame),
        "bits_per_dim_bound": interval(identity, whole * 8 / raw),
    }


def _add_actions(
    section: Section,
    resampler: Resampler,
    by_latent: dict[str, Float[np.ndarray, "m s"]],
    prior: Prior,
    action_marginal: ActionMarginal | None,
) -> None:
    """The bits that knowing the action saves, beside the most that it can save."""
    if action_marginal is not None and len(action_marginal.share) < 2:
        section.notes.append("any_action: left out, as there is only one action, so knowing it saves nothing")
        del section.metrics["bits_saved/any_action"]
        return
    if action_marginal is None:
        section.notes.append("any_action: left out, as the actions into a latent are not discrete, or too many to sum")
        return
    saved = math.prod(prior.grid) * (by_latent["any_action"] - by_latent["prior"]).mean(1)
    section.metrics["bits_saved_per_frame/any_action"] = resampler.interval(identity, saved)
    section.metrics["action_entropy"] = exact(action_marginal.entropy())


def _add_calibration(section: Section, clips: HeldOut, predictions: TokenPredictions) -> None:
    events = math.prod(predictions.bits.shape[1:])
    resampler, entropy = clips.resampler, clips.unit_means(predictions.entropy.mean((1, 2, 3)))
    section.metrics["entropy_per_token"] = resampler.interval(identity, entropy)
    for name, sums in {
        "top_code": clips.unit_means(predictions.top),
        "every_code": clips.unit_means(predictions.every),
    }.items():
        section.metrics[f"calibration_error/{name}"] = calibration_error(resampler, sums, events)
        section.curves[f"reliability/{name}"] = reliability(resampler, sums)
    whole = tuple(range(0, 101, 10))
    values = tuple(float(x) for x in whole)
    ideal = Curve(whole, values, values, values, len(clips))
    section.curves["reliability/perfectly_calibrated"] = ideal


def without_actions(prior: Prior, clips: HeldOut, action_marginal: ActionMarginal) -> Float[np.ndarray, "n s"]:
    """−log2 p of each latent but the first, under no action: marginalized over the action into
    it."""
    device = prior.device
    pairs = zip(clips.tokens.split(BATCH), clips.action_inputs.split(BATCH), strict=True)
    return np.concatenate([action_marginal.bits(prior, z.to(device), a.to(device)).cpu().numpy() for z, a in pairs])

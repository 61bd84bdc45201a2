"""How well rewards and terminations of real tokens are predicted: the reward as a number, and both
as events."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from worldmodel.data.clips.token_batches import TokenBatches
from worldmodel.evaluate.statistics.bootstrap import Resampler, identity, share
from worldmodel.evaluate.statistics.results import Interval, Section, exact
from worldmodel.interfaces import Prior

GROUPS = 10  # of equal size by chance, for the calibration error
THRESHOLD = 0.5  # an event counts as predicted if its chance is above this


@dataclass(frozen=True)
class OutcomePredictions:
    """Of n latents: the joint table of termination and reward that was predicted, and what truly
    came.

    resampler: draws episodes with all their latents.
    """

    table: Float[np.ndarray, "n 2 values"]
    rewards: Float[np.ndarray, "n"]
    ends: Bool[np.ndarray, "n"]
    resampler: Resampler


def reward_termination(prior: Prior, batches: TokenBatches, count: int) -> Section:
    """How well `count` batches' rewards and terminations are predicted.

    A reward counts as an event if it is not the most frequent one. `rmse` is in units of the
    reward; `explained` is a share of its variance. For a prior without this head there is only a
    note.
    """
    if not prior.rewards:
        return Section(notes=["rewards and ends: left out, as this world predicts none (prior.outcome_width is 0)"])
    found, values = predict_outcomes(prior, batches, count), np.array(prior.rewards)
    if not len(found.rewards):
        return Section(notes=["rewards and ends: left out, as no clip has a second latent"])
    nearest = np.abs(found.rewards[:, None] - values).argmin(1)
    common = np.bincount(nearest).argmax()
    section = Section(reward_metrics(found.resampler, found.table.sum(1) @ values, found.rewards))
    chances = {"end": found.table[:, 1].sum(-1), "rare_reward": 1 - found.table[:, :, common].sum(1)}
    happened = {"end": found.ends, "rare_reward": nearest != common}
    for name, chance in chances.items():
        metrics = event_metrics(found.resampler, chance, happened[name])
        section.metrics |= {f"{name}_{what}": metric for what, metric in metrics.items()}
    return section


@torch.no_grad()
def predict_outcomes(prior: Prior, batches: TokenBatches, count: int) -> OutcomePredictions:
    """The head's predictions for all latents of `count` batches but the first latent of each
    clip."""
    tables, rewards, ends, episodes, latents = [], [], [], [], []
    for step in range(count):
        clip, places = batches[step].to(prior.device), batches.windows.sample(step, batches.batch_size)
        mask = clip.mask[:, 1:]
        tables.append(prior.outcome_probabilities(clip)[:, 1:][mask])
        rewards.append(clip.rewards[:, 1:][mask])
        ends.append(clip.terminated[:, 1:][mask])
        episodes += [index for index, _ in places]
        latents += mask.sum(1).tolist()
    table, reward, end = (torch.cat(column).cpu().numpy() for column in (tables, rewards, ends))
    clips = Resampler.by_episode(episodes)
    resampler = Resampler.by_label(np.repeat(clips.unit, latents), clips.name)
    return OutcomePredictions(table.astype(np.float64), reward.astype(np.float64), end, resampler)


def reward_metrics(
    resampler: Resampler, expected: Float[np.ndarray, "n"], rewards: Float[np.ndarray, "n"]
) -> dict[str, Interval]:
    """Error of the expected reward, and the share of the variance that it explains (if there is
    any)."""
    error = np.square(expected - rewards)
    metrics = {"reward_rmse": resampler.interval(np.sqrt, error)}
    if (variance := rewards.var()) > 0:
        metrics["reward_explained"] = resampler.interval(lambda mean: 1 - mean / variance, error)
    return metrics


def event_metrics(
    resampler: Resampler, chance: Float[np.ndarray, "n"], happened: Bool[np.ndarray, "n"]
) -> dict[str, Interval]:
    """How well probabilities predict an event.

    precision, recall: at a threshold of one half, if defined. mean_chance: to compare with the
    rate. calibration_error: expected calibration error, the mean gap between chance and rate over
    ten equal groups by chance.
    """
    predicted, true = (chance > THRESHOLD).astype(float), happened.astype(float)
    metrics = {
        "count": exact(float(happened.sum())),
        "rate": resampler.interval(identity, true),
        "mean_chance": resampler.interval(identity, chance),
    }
    if predicted.any():
        metrics["precision"] = resampler.interval(share, predicted * true, predicted)
    if happened.any():
        metrics["recall"] = resampler.interval(share, predicted * true, true)
    gaps = np.zeros((len(chance), GROUPS))
    for i, members in enumerate(np.array_split(np.argsort(chance, kind="stable"), GROUPS)):
        gaps[members, i] = (chance - true)[members]
    return metrics | {"calibration_error": resampler.interval(lambda mean: np.abs(mean).sum(-1), gaps)}

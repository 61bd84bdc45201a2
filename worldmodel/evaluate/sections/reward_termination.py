"""How well rewards and ends are told of real tokens: as a number, and as events."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from worldmodel.data.clips.token_batches import TokenBatches
from worldmodel.evaluate.statistics.bootstrap import interval, ratio, share
from worldmodel.evaluate.statistics.results import Interval, Section, exact
from worldmodel.evaluate.testbed.held_out import draws
from worldmodel.interfaces import Prior

GROUPS = 10  # of equal size by chance, over which calibration is told
THRESHOLD = 0.5  # chance above which an event counts as foretold


@dataclass(frozen=True)
class OutcomePredictions:
    """Of n latents: the joint table of ends and rewards that was told, what truly came, and the sample of each."""

    table: Float[np.ndarray, "n 2 values"]
    rewards: Float[np.ndarray, "n"]
    ends: Bool[np.ndarray, "n"]
    row: Int[np.ndarray, "n"]


def reward_termination(prior: Prior, batches: TokenBatches, count: int) -> Section:
    """How well rewards and ends are told: the reward as a number, and both as events.

    A reward counts as an event where it is not the commonest one. `rmse` has the reward's own unit; `explained` is
    the share of its variance. Without the head: a note alone.
    """
    if not prior.rewards:
        return Section(notes=["rewards and ends: left out, as this world tells none (prior.outcome_width is 0)"])
    found, values = predict_outcomes(prior, batches, count), np.array(prior.rewards)
    if not len(found.rewards):
        return Section(notes=["rewards and ends: left out, as no clip has a second latent"])
    nearest = np.abs(found.rewards[:, None] - values).argmin(1)
    common = np.bincount(nearest).argmax()
    section = Section(reward_metrics(found.table.sum(1) @ values, found.rewards, found.row))
    chances = {"end": found.table[:, 1].sum(-1), "rare_reward": 1 - found.table[:, :, common].sum(1)}
    happened = {"end": found.ends, "rare_reward": nearest != common}
    for name, chance in chances.items():
        metrics = event_metrics(chance, happened[name], found.row)
        section.metrics |= {f"{name}_{what}": metric for what, metric in metrics.items()}
    return section


@torch.no_grad()
def predict_outcomes(prior: Prior, batches: TokenBatches, count: int) -> OutcomePredictions:
    """What the head says of the latents of so many batches, but the first latent of each clip."""
    tables, rewards, ends, episodes = [], [], [], []
    for step in range(count):
        clip, places = batches[step].to(prior.device), batches.windows.draw(step, batches.batch_size)
        mask = clip.mask[:, 1:]
        tables.append(prior.outcome_probabilities(clip)[:, 1:][mask])
        rewards.append(clip.rewards[:, 1:][mask])
        ends.append(clip.terminated[:, 1:][mask])
        episodes += np.repeat([index for index, _ in places], mask.sum(1).cpu()).tolist()
    table, reward, end = (torch.cat(column).cpu().numpy() for column in (tables, rewards, ends))
    return OutcomePredictions(table.astype(np.float64), reward.astype(np.float64), end, draws(episodes))


def reward_metrics(
    expected: Float[np.ndarray, "n"], rewards: Float[np.ndarray, "n"], row: Int[np.ndarray, "n"]
) -> dict[str, Interval]:
    """Error of the expected reward, and the share of the variance that it explains (where there is any)."""
    n, wrong = _sums(np.ones(len(rewards)), row), _sums(np.square(expected - rewards), row)
    metrics = {"reward_rmse": interval(lambda n, wrong: np.sqrt(wrong / n), n, wrong)}
    if (variance := rewards.var()) > 0:
        metrics["reward_explained"] = interval(lambda n, wrong: 1 - wrong / n / variance, n, wrong)
    return metrics


def event_metrics(
    chance: Float[np.ndarray, "n"], happened: Bool[np.ndarray, "n"], row: Int[np.ndarray, "n"]
) -> dict[str, Interval]:
    """How well probabilities foretell an event: precision and recall at one half (where they are defined), and their
    calibration: the mean chance beside the rate, and the mean gap between the two over ten equal groups by chance
    (expected calibration error)."""
    said = chance > THRESHOLD
    n, true, expected = (_sums(x, row) for x in (np.ones(len(chance)), happened, chance))
    hits, claims = _sums(said & happened, row), _sums(said, row)
    metrics = {
        "count": exact(float(happened.sum())),
        "rate": interval(ratio, true, n),
        "mean_chance": interval(ratio, expected, n),
    }
    if said.any():
        metrics["precision"] = interval(share, hits, claims)
    if happened.any():
        metrics["recall"] = interval(share, hits, true)
    group = np.empty(len(chance), np.int64)
    for i, members in enumerate(np.array_split(np.argsort(chance, kind="stable"), GROUPS)):
        group[members] = i
    gaps = [_sums((chance - happened) * (group == i), row) for i in range(GROUPS)]
    return metrics | {"calibration_error": interval(_mean_gap, np.stack([*gaps, n], axis=1))}


def _mean_gap(sums: Float[np.ndarray, "r groups1"]) -> Float[np.ndarray, "r"]:
    """From the gaps of all groups, and how many latents there are."""
    return np.abs(sums[:, :-1]).sum(1) / sums[:, -1]


def _sums(values: np.ndarray, row: Int[np.ndarray, "n"]) -> Float[np.ndarray, "m"]:
    """Of each sample, the sum over its latents."""
    return np.bincount(row, weights=values)

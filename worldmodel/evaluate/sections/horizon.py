"""The trust horizon: the step up to which dreams can be trusted, measured on held-out clips, kept
with the weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.evaluate.statistics.bootstrap import Resampler, bounds, leading_true
from worldmodel.evaluate.statistics.results import Interval, Section
from worldmodel.evaluate.testbed.dream_clips import DreamSettings, WorldProtocol, clips_of, decibels, errors, gain
from worldmodel.io.config import LARGEST, check_range
from worldmodel.io.json_files import read_checked_json, write_checked_json
from worldmodel.io.model_folder import CONFIG, check_kind
from worldmodel.world import WorldModel

SMOOTHING_REACH = 2  # steps on either side that are averaged with a step, so one noisy step does not end the horizon


@dataclass
class HorizonConfig:
    """How much is dreamed to measure the trust horizon."""

    clips: int = 64
    """Held-out clips."""
    horizon: int = 100
    """Frames dreamed of each clip; fewer if episodes are shorter."""

    def __post_init__(self) -> None:
        check_range(self, 2, LARGEST, "clips")  # two exchange their actions
        check_range(self, 1, LARGEST, "horizon")


def trust_horizon(
    world: WorldProtocol,
    store: EpisodeStore,
    episodes: Sequence[int],
    config: HorizonConfig | None = None,
    dreams: DreamSettings | None = None,
) -> Section:
    """The last step up to which the dream under the true actions is nearer to the truth than the
    baselines.

    Baselines are the last real frame held still, decoded by the world (if not decoded, mere blur
    would end the horizon of a world that moves slowly), and the dream under the actions of another
    clip; only the still frame in a world without actions. Nearer at step h: the mean squared error,
    averaged over the steps h − 2 … h + 2, is lower at 95 % confidence. The bootstrap draws episodes
    with all their clips, paired.

    `horizon/steps` has this step as `low`. `mean` is where the means alone stop to be lower, `high`
    where even the upper bounds do. Curves are the gains in dB.

    Raises: ValueError if the episodes are too short for the context.
    """
    config, dreams = config or HorizonConfig(), dreams or DreamSettings()
    clips = clips_of(
        world,
        store,
        episodes,
        context=dreams.context,
        horizon=config.horizon,
        clips=config.clips,
        seed=dreams.seed,
    )
    still = world.start(clips.given, clips.given_actions, dreams.seed).frame.cpu()[:, None].expand_as(clips.truth)
    videos = {"still": still}
    if world.info.action_space is not None:
        videos["shuffled"] = clips.dream(world, np.roll(clips.actions, 1, axis=0), dreams.sampler, dreams.seed)
    dream = errors(clips.dream(world, clips.actions, dreams.sampler, dreams.seed), clips.truth)
    baselines = {name: errors(video, clips.truth) for name, video in videos.items()}
    return horizon_of(clips.resampler, dream, baselines)


def horizon_of(
    resampler: Resampler, dream: Float[np.ndarray, "n t"], baselines: dict[str, Float[np.ndarray, "n t"]]
) -> Section:
    """The trust horizon from the squared errors of the dream and of each baseline, by clip and
    step."""
    steps, sides = range(1, dream.shape[1] + 1), []
    section = Section()
    for name, error in baselines.items():
        won = smooth(error - dream)
        sides.append(np.stack([won.mean(0), *bounds(resampler.means(won))]))
        section.curves[f"horizon/gain_over_{name}"] = resampler.curve(steps, gain, smooth(error), smooth(dream))
    mean, low, high = (leading_true(np.min(side, axis=0) > 0) for side in zip(*sides, strict=True))
    section.metrics["horizon/steps"] = Interval(float(mean), float(low), float(high), len(resampler), resampler.name)
    section.curves["horizon/psnr"] = resampler.curve(steps, decibels, dream)
    if low == len(steps):
        section.notes.append(f"horizon: dreams held for all {low} steps that were measured, and may hold for more")
    return section


def smooth(values: Float[np.ndarray, "n t"]) -> Float[np.ndarray, "n t"]:
    """Each step's mean with up to SMOOTHING_REACH neighbors on either side; fewer at the ends."""
    t = values.shape[1]
    near = np.abs(np.arange(t)[:, None] - np.arange(t)) <= SMOOTHING_REACH
    return values @ (near / near.sum(0))


def trusted(section: Section) -> int:
    """The trust horizon, in steps of the environment, that `trust_horizon` found."""
    return round(section.metrics["horizon/steps"].low)


def keep_horizon(folder: str | Path, steps: int) -> None:
    """Write the trust horizon into the config of the world in `folder`; dreams of `horizon="trust"`
    end there.

    Raises: ValueError for a folder without a world, or fewer than 0 steps.
    """
    path = Path(folder) / CONFIG
    description = read_checked_json(path)
    check_kind(folder, description.get("config", {}), "world")
    if steps < 0:
        raise ValueError(f"trust horizon: expected 0 steps or more, got {steps}")
    description["config"]["info"]["trust_horizon"] = steps
    write_checked_json(path, description)


def kept_horizon(folder: str | Path, world: WorldModel) -> int | None:
    """The trust horizon kept in `folder`, if it was measured of these weights at this temperature;
    None if not."""
    try:
        kept = WorldModel.load(folder)
    except ValueError:  # no world yet, or it is damaged
        return None
    mine, theirs = world.state_dict(), kept.state_dict()
    same = mine.keys() == theirs.keys() and all(torch.equal(x.cpu(), theirs[name]) for name, x in mine.items())
    drawn = [(each.info.temperature, each.info.temperature_until) for each in (kept, world)]
    return kept.info.trust_horizon if same and drawn[0] == drawn[1] else None

"""Whether actions can be told from imagined frames as from real ones, by a network that learned it from real ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from gymnasium.spaces import Discrete
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.data.clips.clips import ClipBatches
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.evaluate.output.plots import confusion_table
from worldmodel.evaluate.statistics.bootstrap import Statistic, interval, share
from worldmodel.evaluate.statistics.results import Section
from worldmodel.evaluate.testbed.dream_clips import WorldProtocol, clips_of
from worldmodel.prior import SamplerConfig

NOT_RECOGNIZED = "actions are told from real frames no better than by always naming the commonest one"
PAIRS_PER_CLIP = 8  # pairs of neighbouring frames in a clip that the network learns from: one read gives them all


@dataclass
class InverseConfig:
    """steps, batch_size (clips of 9 frames), learning_rate, width: of the network's training. clips, horizon: held-out
    clips, and frames of them that are dreamed after `context` real ones."""

    steps: int = 600
    batch_size: int = 8
    learning_rate: float = 1e-3
    width: int = 32
    clips: int = 64
    context: int = 6
    horizon: int = 16
    seed: int = 0
    sampler: SamplerConfig = field(default_factory=SamplerConfig)


class InverseDynamics(nn.Module):
    """Two neighbouring frames → scores of the actions that may lie between them."""

    def __init__(self, frame_shape: tuple[int, int, int], actions: int, width: int):
        super().__init__()
        height, width_pixels, colours = frame_shape
        self.body = nn.Sequential(
            nn.Conv2d(3 * colours, width, 8, stride=4, padding=2),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
        )
        features = self.body(torch.zeros(1, 3 * colours, height, width_pixels)).shape[1]
        self.scores = nn.Linear(features, actions)

    def forward(self, frames: UInt8[Tensor, "b t h w c"]) -> Float[Tensor, "b t1 a"]:
        pixels = frames.float().div(127.5).sub(1).movedim(-1, 2)
        before, after = pixels[:, :-1], pixels[:, 1:]
        pairs = torch.cat([before, after, after - before], dim=2)
        return self.scores(self.body(pairs.flatten(0, 1))).unflatten(0, pairs.shape[:2])

    @torch.no_grad()
    def name(self, frames: UInt8[Tensor, "b t h w c"]) -> Int[np.ndarray, "b t1"]:
        """The likeliest action between each two frames, counted from 0."""
        return np.concatenate([self(clip[None]).argmax(-1).numpy() for clip in frames])


def train_inverse_dynamics(store: EpisodeStore, episodes: Sequence[int], config: InverseConfig) -> InverseDynamics:
    """The network after `steps` batches of real clips: a function of the seed, and no other chance is touched.

    Raises: ValueError when no episode has two frames.
    """
    length = min(1 + PAIRS_PER_CLIP, max(store.length(index) for index in episodes))
    batches = ClipBatches(store, episodes, length=length, batch_size=config.batch_size, seed=config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = InverseDynamics(store.info.frame_shape, batches.encoder.width, config.width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    for step in range(config.steps):
        clip = batches[step]
        optimizer.zero_grad()
        F.cross_entropy(model(clip.frames).flatten(0, 1), clip.actions.argmax(-1).flatten()).backward()
        optimizer.step()
        schedule.step()
    return model


def action_recovery(
    world: WorldProtocol,
    store: EpisodeStore,
    train: Sequence[int],
    held_out: Sequence[int],
    config: InverseConfig | None = None,
) -> Section:
    """How often the network names the action between two frames: of held-out real clips, and of dreams of the same
    clips under the same actions. What can be told of real frames is the ceiling; the ratio is what dreams keep of it.

    Accuracy counts all pairs alike, balanced accuracy all actions alike; `commonest` is the accuracy of who always
    says the commonest action. Only pairs of imagined frames count: the step out of the real ones changes the look as
    well. Blur costs as disobedience does, for the network has seen sharp frames alone. Intervals are paired over clips.
    Raises: ValueError when the episodes are too short for the context.
    """
    config = config or InverseConfig()
    space = world.info.action_space
    if not isinstance(space, Discrete):
        return Section(notes=[f"action recovery: left out, as it names discrete actions; these are {space}"])
    clips = clips_of(
        world,
        store,
        held_out,
        context=config.context,
        horizon=config.horizon,
        clips=config.clips,
        seed=config.seed,
    )
    model = train_inverse_dynamics(store, train, config)
    dreamed = clips.dream(world, clips.actions, config.sampler, config.seed)
    truth = clips.actions[:, 1:] - int(space.start)
    counts = {"real": clips.truth, "imagined": dreamed}
    tables = {name: _confusions(truth, model.name(video.cpu()), int(space.n)) for name, video in counts.items()}
    section = Section(metrics=_accuracy_metrics(tables["real"], tables["imagined"]))
    names = world.info.action_names or tuple(map(str, range(int(space.n))))
    for which, table in tables.items():
        section.pictures[f"control/confusion_{which}"] = confusion_table(table.sum(0), names, which)
    return section


def _confusions(truth: Int[np.ndarray, "b t"], named: Int[np.ndarray, "b t"], actions: int) -> np.ndarray:
    """How often each action of a clip was named as which: `b action action`."""
    table = np.zeros((len(truth), actions, actions))
    np.add.at(table, (np.arange(len(truth))[:, None], truth, named), 1)
    return table


def _accuracy_metrics(real: Float[np.ndarray, "b k k"], imagined: Float[np.ndarray, "b k k"]) -> dict:
    """Accuracies of both, their ratio, and what the commonest action alone would reach."""
    hits = [np.diagonal(table, axis1=1, axis2=2) for table in (real, imagined)]
    taken = real.sum(2)
    commonest = np.eye(taken.shape[1])[taken.sum(0).argmax()] * taken
    metrics = {}
    for name, statistic in (("action", accuracy), ("balanced_action", balanced_accuracy)):
        metrics[f"control/{name}_accuracy_real"] = interval(statistic, hits[0], taken)
        metrics[f"control/{name}_accuracy_imagined"] = interval(statistic, hits[1], taken)
        kept = interval(partial(_kept, statistic), hits[1], hits[0], taken)
        above = interval(partial(_above, statistic), hits[0], commonest, taken)
        metrics[f"control/{name}_accuracy_ratio"] = kept.unless("" if above.low > 0 else NOT_RECOGNIZED)
    return metrics | {"control/action_accuracy_commonest": interval(accuracy, commonest, taken)}


def _above(statistic: Statistic, hits: np.ndarray, commonest: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """By how much an accuracy is above that of always naming the commonest action."""
    return statistic(hits, taken) - statistic(commonest, taken)


def _kept(statistic: Statistic, imagined: np.ndarray, real: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """What dreams keep of an accuracy."""
    return share(statistic(imagined, taken), statistic(real, taken))


def accuracy(hits: Float[np.ndarray, "*r k"], taken: Float[np.ndarray, "*r k"]) -> Float[np.ndarray, "*r"]:
    """Share of all pairs that are named rightly."""
    return hits.sum(-1) / taken.sum(-1)


def balanced_accuracy(hits: Float[np.ndarray, "*r k"], taken: Float[np.ndarray, "*r k"]) -> Float[np.ndarray, "*r"]:
    """The mean over the actions that occur of the share that is named rightly."""
    share = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
    return share.sum(-1) / (taken > 0).sum(-1)

"""Whether a network that learned to recognize actions in real frames recognizes them in imagined
ones too."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from gymnasium.spaces import Discrete
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel.data.clips.clips import ClipBatches
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.evaluate.sections.charts import confusion_table
from worldmodel.evaluate.statistics.bootstrap import Resampler, Statistic, share
from worldmodel.evaluate.statistics.results import Section
from worldmodel.evaluate.testbed.dream_clips import DreamSettings, WorldProtocol, clips_of
from worldmodel.io.config import FINITE, LARGEST, POSITIVE, check_range

NOT_RECOGNIZED = "actions are recognized in real frames no better than by always naming the most frequent one"
PAIRS_PER_CLIP = 8  # pairs of neighboring frames in a training clip


@dataclass
class InverseConfig:
    """The network that recognizes actions, and the clips it is tested on."""

    steps: int = 600
    """Training steps of the network."""
    batch_size: int = 8
    """Clips of 9 frames in a training step."""
    learning_rate: float = 1e-3
    """Learning rate at the start; it falls to 0 as a cosine."""
    width: int = 32
    """Channels of the first layer of the network."""
    clips: int = 64
    """Held-out clips."""
    horizon: int = 16
    """Frames dreamed of each clip."""

    def __post_init__(self) -> None:
        check_range(self, 1, LARGEST, "steps", "batch_size", "width", "clips", "horizon")
        check_range(self, POSITIVE, FINITE, "learning_rate")


class InverseDynamics(nn.Module):
    """Two neighboring frames → logits of the action between them."""

    def __init__(self, frame_shape: tuple[int, int, int], actions: int, width: int):
        super().__init__()
        height, width_pixels, colors = frame_shape
        self.body = nn.Sequential(
            nn.Conv2d(3 * colors, width, 8, stride=4, padding=2),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
        )
        features = self.body(torch.zeros(1, 3 * colors, height, width_pixels)).shape[1]
        self.logits = nn.Linear(features, actions)

    def forward(self, frames: UInt8[Tensor, "b t h w c"]) -> Float[Tensor, "b t1 a"]:
        pixels = frames.float().div(127.5).sub(1).movedim(-1, 2)
        before, after = pixels[:, :-1], pixels[:, 1:]
        pairs = torch.cat([before, after, after - before], dim=2)
        return self.logits(self.body(pairs.flatten(0, 1))).unflatten(0, pairs.shape[:2])

    @torch.no_grad()
    def recognize(self, frames: UInt8[Tensor, "b t h w c"]) -> Int[np.ndarray, "b t1"]:
        """The likeliest action between neighboring frames, counted from 0."""
        return np.concatenate([self(clip[None]).argmax(-1).numpy() for clip in frames])


def train_inverse_dynamics(
    store: EpisodeStore, episodes: Sequence[int], config: InverseConfig, seed: int
) -> InverseDynamics:
    """The network after `steps` batches of real clips: a function of the seed; global random states
    stay as they are.

    Raises: ValueError if no episode has two frames.
    """
    length = min(1 + PAIRS_PER_CLIP, max(store.length(index) for index in episodes))
    batches = ClipBatches(store, episodes, length=length, batch_size=config.batch_size, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
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
    dreams: DreamSettings | None = None,
) -> Section:
    """How often the network recognizes the action between two frames: in held-out real clips, and
    in dreams of the same clips under the same actions. The accuracy in real frames is the ceiling;
    the ratio is what dreams keep of it.

    Accuracy gives all pairs equal weight, balanced accuracy all actions; `commonest` is the
    accuracy of always naming the most frequent action. Only pairs of imagined frames count: the
    first imagined frame also differs from the last real one in style. Blur lowers the accuracy as
    wrong actions do, as the network has seen only sharp frames. Intervals draw episodes with all
    their clips, paired.

    Raises: ValueError if the episodes are too short for the context.
    """
    config, dreams = config or InverseConfig(), dreams or DreamSettings()
    space = world.info.action_space
    if not isinstance(space, Discrete):
        return Section(notes=[f"action recovery: left out, as it needs discrete actions; these are {space}"])
    clips = clips_of(
        world,
        store,
        held_out,
        context=dreams.context,
        horizon=config.horizon,
        clips=config.clips,
        seed=dreams.seed,
    )
    model = train_inverse_dynamics(store, train, config, dreams.seed)
    dreamed = clips.dream(world, clips.actions, dreams.sampler, dreams.seed)
    truth = clips.actions[:, 1:] - int(space.start)
    videos = {"real": clips.truth, "imagined": dreamed}
    tables = {name: _confusions(truth, model.recognize(video.cpu()), int(space.n)) for name, video in videos.items()}
    section = Section(metrics=_accuracy_metrics(clips.resampler, tables["real"], tables["imagined"]))
    names = world.info.action_names or tuple(map(str, range(int(space.n))))
    for which, table in tables.items():
        section.images[f"control/confusion_{which}"] = confusion_table(table.sum(0), names, which)
    return section


def _confusions(truth: Int[np.ndarray, "b t"], recognized: Int[np.ndarray, "b t"], actions: int) -> np.ndarray:
    """How often each action of a clip was recognized as each action: `b true recognized`."""
    table = np.zeros((len(truth), actions, actions))
    np.add.at(table, (np.arange(len(truth))[:, None], truth, recognized), 1)
    return table


def _accuracy_metrics(
    resampler: Resampler, real: Float[np.ndarray, "b k k"], imagined: Float[np.ndarray, "b k k"]
) -> dict:
    """Accuracies of both, their ratio, and the accuracy of the most frequent action alone."""
    hits = [np.diagonal(table, axis1=1, axis2=2) for table in (real, imagined)]
    taken = real.sum(2)
    commonest = np.eye(taken.shape[1])[taken.sum(0).argmax()] * taken
    metrics = {}
    for name, statistic in (("action", accuracy), ("balanced_action", balanced_accuracy)):
        metrics[f"control/{name}_accuracy_real"] = resampler.interval(statistic, hits[0], taken)
        metrics[f"control/{name}_accuracy_imagined"] = resampler.interval(statistic, hits[1], taken)
        kept = resampler.interval(partial(_kept, statistic), hits[1], hits[0], taken)
        above = resampler.interval(partial(_above, statistic), hits[0], commonest, taken)
        metrics[f"control/{name}_accuracy_ratio"] = kept.unless("" if above.low > 0 else NOT_RECOGNIZED)
    return metrics | {"control/action_accuracy_commonest": resampler.interval(accuracy, commonest, taken)}


def _above(statistic: Statistic, hits: np.ndarray, commonest: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """How much higher an accuracy is than that of always naming the most frequent action."""
    return statistic(hits, taken) - statistic(commonest, taken)


def _kept(statistic: Statistic, imagined: np.ndarray, real: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """The ratio of the accuracy in dreams to that in real frames."""
    return share(statistic(imagined, taken), statistic(real, taken))


def accuracy(hits: Float[np.ndarray, "*r k"], taken: Float[np.ndarray, "*r k"]) -> Float[np.ndarray, "*r"]:
    """Share of all pairs whose action is recognized."""
    return hits.sum(-1) / taken.sum(-1)


def balanced_accuracy(hits: Float[np.ndarray, "*r k"], taken: Float[np.ndarray, "*r k"]) -> Float[np.ndarray, "*r"]:
    """Share of the pairs of an action that are recognized, mean over the actions that occur."""
    share = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
    return share.sum(-1) / (taken > 0).sum(-1)

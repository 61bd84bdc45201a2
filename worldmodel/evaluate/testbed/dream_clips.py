"""What the measurements of dreams share: what they need from a world, and the clips and actions
they use."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium import Space
from jaxtyping import Float, UInt8
from torch import Tensor

from worldmodel.data.clips.clips import ClipSampler
from worldmodel.data.collect.policies import make_policy
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.evaluate.measures.images import psnr, squared_error
from worldmodel.evaluate.statistics.bootstrap import Resampler
from worldmodel.io.config import LARGEST, check_range
from worldmodel.prior import SamplerConfig
from worldmodel.world import WorldInfo


@dataclass
class DreamSettings:
    """How dreams are made in every section of a report."""

    context: int = 6
    """Real frames given to each dream."""
    seed: int = 0
    """Clips, dreams, networks and intervals are functions of the seed."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """How dreams are sampled."""

    def __post_init__(self) -> None:
        check_range(self, 1, LARGEST, "context")
        check_range(self, 0, LARGEST, "seed")


@runtime_checkable
class WorldProtocol(Protocol):
    """What the measurements need from a world: `WorldModel` has it, and so may anything that takes
    its place.

    A state has the newest `frame`, `b h w c`; a step has `frames`, `b t h w c`, `tokens`, `b y x`,
    and `bits`, `b`.
    """

    @property
    def info(self) -> WorldInfo: ...

    @property
    def frames_per_step(self) -> int: ...

    def whole_latents(self, frames: int) -> int: ...

    def start(self, frames: Tensor, actions: np.ndarray, seed: int = 0) -> Any: ...

    def step(self, state: Any, actions: np.ndarray, sampler: SamplerConfig | None = None) -> tuple[Any, Any]: ...

    def imagine(
        self,
        frames: Tensor,
        actions: np.ndarray,
        horizon: int,
        sampler: SamplerConfig | None = None,
        seed: int = 0,
    ) -> Tensor: ...


@dataclass(frozen=True)
class DreamClips:
    """Real clips to dream after: the frames given, the frames that truly followed, and the actions
    of both."""

    episodes: tuple[int, ...]
    given: UInt8[Tensor, "b k h w c"]
    truth: UInt8[Tensor, "b t h w c"]
    given_actions: np.ndarray  # between the given frames, `b k-1 *space`
    actions: np.ndarray  # into the true frames, `b t *space`

    @property
    def resampler(self) -> Resampler:
        """Draws episodes with all their clips."""
        return Resampler.by_episode(self.episodes)

    def dream(self, world: WorldProtocol, actions: np.ndarray, sampler: SamplerConfig, seed: int) -> Tensor:
        """What the world imagines after the given frames under these actions (`b t *space`): uint8
        `b t h w c`."""
        both = np.concatenate([self.given_actions, actions], axis=1)
        return world.imagine(self.given, both, actions.shape[1], sampler, seed)


def clips_of(
    world: WorldProtocol,
    store: EpisodeStore,
    episodes: Sequence[int],
    *,
    context: int,
    horizon: int,
    clips: int,
    seed: int,
) -> DreamClips:
    """Up to `clips` different clips of the episodes: `context` frames given and `horizon` to
    follow, in whole latents.

    The horizon is shorter if half of the episodes are shorter: a few long episodes are no fair
    sample.

    Raises: ValueError if the episodes are too short for any clip.
    """
    given = world.whole_latents(context)
    lengths = sorted(store.length(index) for index in episodes)
    follow = world.whole_latents(1 + max(0, min(horizon, lengths[len(lengths) // 2] - given))) - 1
    if follow < 1:
        raise ValueError(
            f"half of the episodes have fewer than {given} + {horizon} frames, too few to dream after; "
            "lower report.context, or collect longer episodes"
        )
    sampler = ClipSampler(store, episodes, length=given + follow, seed=seed, setting="context")
    real = sampler.sample_distinct(clips)
    frames, actions = real.frames, real.actions
    return DreamClips(
        real.episodes, frames[:, :given], frames[:, given:], actions[:, : given - 1], actions[:, given - 1 :]
    )


def random_actions(space: Space | None, count: int, steps: int, seed: int, hold: float = 1.0) -> np.ndarray:
    """Uniform random actions, `count steps *space`, each held for a geometric number of steps,
    `hold` on average."""
    if space is None:
        return np.zeros((count, steps))
    rng = np.random.default_rng(seed)
    policies = [make_policy("sticky", space, rng, hold) for _ in range(count)]
    return np.stack([np.stack([policy(None) for _ in range(steps)]) for policy in policies])


def errors(video: UInt8[Tensor, "b t h w c"], truth: UInt8[Tensor, "b t h w c"]) -> Float[np.ndarray, "b t"]:
    """Mean squared error of each frame, in squared grey levels; clip by clip, as float64 copies are
    large."""
    return np.concatenate([squared_error(a[None], b[None]) for a, b in zip(video, truth, strict=True)])


def decibels(error: np.ndarray) -> np.ndarray:
    """PSNR of mean squared errors, in dB: a statistic for intervals."""
    return np.asarray(psnr(error))


def gain(worse: np.ndarray, better: np.ndarray) -> np.ndarray:
    """How many dB the PSNR of the second mean squared error is above that of the first: a statistic
    for intervals."""
    return decibels(better) - decibels(worse)


def rgb_array(frames: UInt8[Tensor, "t h w c"]) -> UInt8[np.ndarray, "t h w 3"]:
    """Frames to look at: grey ones get three channels."""
    array = frames.cpu().numpy()
    return np.repeat(array, 3, axis=3) if array.shape[3] == 1 else array

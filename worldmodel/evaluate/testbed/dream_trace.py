"""Free-running dreams of many steps, and what is kept of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor

from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.evaluate.measures.frames import sharpness
from worldmodel.evaluate.statistics.bootstrap import Resampler
from worldmodel.evaluate.testbed.dream_clips import DreamClips, WorldProtocol, clips_of, random_actions
from worldmodel.prior import SamplerConfig

VIDEO_DREAMS, VIDEO_FRAMES = 4, 200  # dreams in the video, and about how many frames of each


@dataclass(frozen=True)
class DreamTrace:
    """What is kept of b dreams: some numbers of each of n steps, and the frames of m moments.

    episodes: the episode of each dream's context.
    """

    episodes: tuple[int, ...]
    tokens: Int32[np.ndarray, "b n y x"]
    sharpness: Float[np.ndarray, "b n"]  # grey levels per pixel
    bits: Float[np.ndarray, "b n"]
    frames: UInt8[Tensor, "m b h w c"]  # the newest of each moment
    video: UInt8[Tensor, "t few h w c"]  # of the first few dreams, not all steps

    @property
    def resampler(self) -> Resampler:
        """Draws the episodes of the contexts, each with all dreams that start in it."""
        return Resampler.by_episode(self.episodes, "dreams")


def trace_dreams(
    world: WorldProtocol,
    store: EpisodeStore,
    episodes: Sequence[int],
    *,
    dreams: int,
    context: int,
    moments: Sequence[int],
    sampler: SamplerConfig,
    seed: int,
) -> DreamTrace:
    """Dream up to the last moment, after `context` real frames of the episodes; dreams do not end
    before it.

    Actions are random, held as long as those of the data. The memory does not grow with frames,
    only with moments.
    """
    clips = context_clips(world, store, episodes, dreams=dreams, context=context, seed=seed)
    actions = held_actions(world, store, len(clips.given), moments[-1], seed)
    state, sampler = world.start(clips.given, clips.given_actions, seed), replace(sampler, allow_termination=False)
    numbers, kept, video = [], [], []
    for n in range(moments[-1]):
        state, step = world.step(state, actions[n], sampler)
        frame = step.frames[:, -1]
        numbers.append((step.tokens.cpu().numpy().astype(np.int32), sharpness(frame), step.bits.cpu().numpy()))
        if n + 1 in moments:
            kept.append(frame.cpu())
        if n % max(1, moments[-1] // VIDEO_FRAMES) == 0:
            video.append(frame[:VIDEO_DREAMS].cpu().clone())  # a view would keep all dreams of the step
    tokens, sharp, bits = (np.stack(column, axis=1) for column in zip(*numbers, strict=True))
    return DreamTrace(clips.episodes, tokens, sharp, bits, torch.stack(kept), torch.stack(video))


def context_clips(
    world: WorldProtocol, store: EpisodeStore, episodes: Sequence[int], *, dreams: int, context: int, seed: int
) -> DreamClips:
    """The clips whose first frames are the contexts of the dreams."""
    step = world.frames_per_step
    return clips_of(world, store, episodes, context=context, horizon=step, clips=dreams, seed=seed)


def held_actions(world: WorldProtocol, store: EpisodeStore, dreams: int, steps: int, seed: int) -> list[np.ndarray]:
    """Random actions of each step, `dreams frames_per_step *space`, held as long as those of the
    data."""
    hold = store.info.hold if store.info.policy == "sticky" else 1.0
    actions = random_actions(world.info.reachable, dreams, steps * world.frames_per_step, seed, hold)
    return np.split(actions, steps, axis=1)

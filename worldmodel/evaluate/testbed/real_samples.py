"""Random frames and windows of tokens of real episodes, to compare dreams with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Integer, UInt8
from torch import Tensor

from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.clips.windows import WindowSampler
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.evaluate.statistics.bootstrap import Resampler


@dataclass(frozen=True)
class RealFrames:
    """n real frames, and the episode of each."""

    episodes: tuple[int, ...]
    frames: UInt8[Tensor, "n h w c"]

    @property
    def resampler(self) -> Resampler:
        """Draws episodes with all their frames."""
        return Resampler.by_episode(self.episodes, "frames")


@dataclass(frozen=True)
class RealWindows:
    """The tokens of n windows of t latents, and the episode of each."""

    episodes: tuple[int, ...]
    tokens: Integer[np.ndarray, "n t y x"]

    @property
    def resampler(self) -> Resampler:
        """Draws episodes with all their windows."""
        return Resampler.by_episode(self.episodes, "windows")


def real_frames(store: EpisodeStore, episodes: Sequence[int], count: int, seed: int) -> RealFrames:
    """`count` frames at random places of the episodes."""
    lengths = {index: store.length(index) for index in episodes}
    places = WindowSampler(lengths, 1, seed, item="frames", setting="the clip length").sample(0, count)
    frames = np.concatenate([store.frames(index, start, start + 1) for index, start in places])
    return RealFrames(tuple(index for index, _ in places), torch.from_numpy(frames))


def real_windows(tokens: TokenStore, episodes: Sequence[int], length: int, count: int, seed: int) -> RealWindows:
    """`count` windows of `length` latents at random places of the episodes.

    Raises: ValueError if no episode is that long.
    """
    lengths = {index: len(tokens.tokens(index)) for index in episodes}
    places = WindowSampler(lengths, length, seed, item="latents", setting="the window").sample(0, count)
    stacked = np.stack([tokens.tokens(index)[start : start + length] for index, start in places])
    return RealWindows(tuple(index for index, _ in places), stacked)

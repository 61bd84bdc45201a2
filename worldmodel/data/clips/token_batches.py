"""Batches of tokens for training the prior, with the actions and outcomes that lead into each latent."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor
from torch.utils.data import Dataset

from worldmodel.data.clips.clips import Batch
from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.clips.windows import WindowSampler
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.nn.actions import ActionEncoder


def latent_actions(encoded: Float32[np.ndarray, "T a"], time_stride: int, latents: int) -> np.ndarray:
    """The encoded actions that lead into each latent at the start of an episode: `s time_stride*a`.

    No action leads into the first latent; its row is zero. Row j holds the actions from time_stride * (j - 1) up to
    time_stride * j, side by side.

    Raises:
        ValueError: fewer actions than this number of latents needs.
    """
    steps = time_stride * (latents - 1)
    if latents < 1 or len(encoded) < steps:
        raise ValueError(f"{latents} latents of {time_stride} frames need {steps} actions, got {len(encoded)}")
    rows = encoded[:steps].reshape(latents - 1, time_stride * encoded.shape[1])
    return np.concatenate([np.zeros((1, rows.shape[1]), np.float32), rows])


@dataclass(frozen=True, eq=False)
class TokenClip(Batch):
    """s latents; row j of `actions`, `rewards` and `terminated` describes the steps that lead into latent j.

    The row of an episode's first latent is zero. With a time stride above 1, a row holds the encoded actions of all
    its steps side by side, the sum of their rewards, and whether any of them terminated the episode. `mask` is false
    for padding, in clips that are longer than their episode; padding is zero in all other fields.
    """

    tokens: Int64[Tensor, "b s y x"]
    actions: Float32[Tensor, "b s a"]
    rewards: Float32[Tensor, "b s"]
    terminated: Bool[Tensor, "b s"]
    mask: Bool[Tensor, "b s"]


class TokenBatches(Dataset):
    """Batches of clips of `length` latents, by training step, as `ClipBatches` are of frames.

    Episodes shorter than `length` are included, with padding.

    Raises:
        ValueError: tokens that do not match their episode.
    """

    def __init__(
        self,
        tokens: TokenStore,
        store: EpisodeStore,
        episodes: Sequence[int],
        *,
        length: int,
        batch_size: int,
        seed: int,
        encoder: ActionEncoder | None = None,
    ):
        self.tokens, self.store, self.length, self.batch_size = tokens, store, length, batch_size
        self.stride = tokens.info.time_stride
        lengths = {index: self._latents(index) for index in episodes}
        setting = "the clip length (clip_latents)"
        self.windows = WindowSampler(lengths, length, seed, item="latents", setting=setting, cover_ends=True)
        self.encoder = encoder or ActionEncoder(store.info.action_space)
        self.episodes = tuple(episodes)

    def _latents(self, index: int) -> int:
        found, frames = len(self.tokens.tokens(index)), self.store.length(index)
        if found != (expected := 1 + (frames - 1) // self.stride):
            raise ValueError(f"{self.tokens.path(index)}: expected {expected} latents for {frames} frames, got {found}")
        return found

    def __getitem__(self, step: int) -> TokenClip:
        places = self.windows.sample(step, self.batch_size)
        columns = zip(*(self._clip(index, start) for index, start in places), strict=True)
        return TokenClip(*(torch.from_numpy(np.stack(column)) for column in columns))

    def all_outcomes(self) -> tuple[Float32[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        """Rewards and terminations of all latents of all episodes, except each episode's first latent."""
        rewards, terminated = zip(*(self.outcomes(index) for index in self.episodes), strict=True)
        return np.concatenate([each[1:] for each in rewards]), np.concatenate([each[1:] for each in terminated])

    def outcomes(self, index: int) -> tuple[Float32[np.ndarray, "s"], Bool[np.ndarray, "s"]]:
        """Rewards and terminations of all latents of an episode."""
        latents = self._latents(index)
        steps = self.stride * (latents - 1)
        rewards = self.store.rewards(index)[:steps].reshape(latents - 1, self.stride).sum(1)
        terminated = np.zeros(latents, bool)
        if latents > 1 and steps == self.store.length(index) - 1:
            terminated[-1] = self.store.header(index).terminated
        return np.concatenate([np.zeros(1, np.float32), rewards]).astype(np.float32), terminated

    def _clip(self, index: int, start: int) -> tuple[np.ndarray, ...]:
        """The fields of a `TokenClip` for `length` latents from latent `start` on."""
        rewards, terminated = self.outcomes(index)
        stop = min(start + self.length, len(terminated))
        first = max(start, 1)  # no action leads into latent 0
        steps = slice(self.stride * (first - 1), self.stride * (stop - 1))
        actions = self.encoder.encode(self.store.actions(index)[steps])
        actions = actions.reshape(stop - first, self.stride * self.encoder.width)
        tokens = self.tokens.tokens(index)[start:stop].astype(np.int64)
        mask = np.ones(stop - start, bool)
        return (
            _pad(tokens, 0, self.length),
            _pad(actions, first - start, self.length),
            _pad(rewards[start:stop], 0, self.length),
            _pad(terminated[start:stop], 0, self.length),
            _pad(mask, 0, self.length),
        )


def _pad(rows: np.ndarray, before: int, length: int) -> np.ndarray:
    """`length` rows: `before` rows of zeros, the given rows, and zeros for the rest."""
    padded = np.zeros((length, *rows.shape[1:]), rows.dtype)
    padded[before : before + len(rows)] = rows
    return padded

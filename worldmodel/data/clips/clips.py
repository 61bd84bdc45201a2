"""Clips of real frames: drawn from episodes as they are, or as batches of tensors for training."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from worldmodel.data.clips.windows import WindowSampler
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.nn.actions import ActionEncoder

B = TypeVar("B", bound="Batch")  # beartype supports typing.Self only in classes that it decorates itself


@dataclass(frozen=True, eq=False)
class RealClips:
    """n clips of t frames, with the t - 1 steps between the frames.

    episodes, starts: the episode of each clip and its first frame there. actions: raw, as the environment
    takes them; `actions[:, i]` leads from frame i to frame i + 1. terminated: whether the episode terminated with
    that step; a truncated episode did not.
    """

    episodes: tuple[int, ...]
    starts: tuple[int, ...]
    frames: UInt8[Tensor, "n t h w c"]
    actions: np.ndarray  # `n t-1 *space`
    rewards: Float32[np.ndarray, "n t-1"]
    terminated: Bool[np.ndarray, "n t-1"]


class ClipSampler:
    """Draws clips of real frames from episodes, at places that `WindowSampler` chooses.

    Args:
        store: the dataset.
        episodes: the episodes to draw from; those that are too short are skipped.
        length: frames of a clip or, with `time_stride`, latents.
        seed: draws are functions of the seed.
        setting: the key to lower if no episode is long enough; "" if there is none.
        time_stride: frames per latent. Clips then start and end where latents do: s latents have
            1 + time_stride * (s - 1) frames.

    Raises:
        ValueError: no episode is long enough.
        EpisodeError: an episode is damaged (here, or when a clip reads its damaged frames).
    """

    def __init__(
        self,
        store: EpisodeStore,
        episodes: Sequence[int],
        *,
        length: int,
        seed: int,
        setting: str,
        time_stride: int | None = None,
    ):
        self.store, self.stride = store, time_stride or 1
        self.frames = 1 + self.stride * (length - 1)
        lengths = {index: 1 + (store.length(index) - 1) // self.stride for index in episodes}
        item = "frames" if time_stride is None else "latents"
        self.windows = WindowSampler(lengths, length, seed, item=item, setting=setting)

    def sample(self, step: int, count: int) -> RealClips:
        """`count` clips, with repetition: a function of (seed, step)."""
        return self.read(self.windows.sample(step, count))

    def sample_distinct(self, count: int) -> RealClips:
        """`count` different clips in random order, or all clips if there are fewer."""
        return self.read(self.windows.sample_distinct(count))

    def read(self, places: Iterable[tuple[int, int]]) -> RealClips:
        """The clips at these places, pairs (episode, start) as `windows` draws them. Only their frames are read."""
        places = [(index, self.stride * start) for index, start in places]
        columns = zip(*(self._clip(index, start) for index, start in places), strict=True)
        frames, actions, rewards, terminated = (np.stack(column) for column in columns)
        episodes, starts = zip(*places, strict=True)
        return RealClips(episodes, starts, torch.from_numpy(frames), actions, rewards, terminated)

    def _clip(self, index: int, start: int) -> tuple[np.ndarray, ...]:
        """Frames, actions, rewards and terminations of one clip."""
        store, steps = self.store, slice(start, start + self.frames - 1)
        terminated = np.zeros(self.frames - 1, bool)
        if self.frames > 1 and steps.stop == store.length(index) - 1:
            terminated[-1] = store.header(index).terminated
        frames = store.frames(index, start, start + self.frames)
        return frames, store.actions(index)[steps], store.rewards(index)[steps], terminated


@dataclass(frozen=True, eq=False)
class Batch:
    """A dataclass of tensors that moves as one."""

    def to(self: B, device: torch.device | str) -> B:
        """The same batch on a device; from pinned memory the copy runs beside the computation."""
        moved = {each.name: getattr(self, each.name).to(device, non_blocking=True) for each in fields(self)}
        return type(self)(**moved)

    def pin_memory(self: B) -> B:
        """The same batch in memory that a GPU copies from directly; `DataLoader` calls this."""
        return type(self)(**{each.name: getattr(self, each.name).pin_memory() for each in fields(self)})


@dataclass(frozen=True, eq=False)
class Clip(Batch):
    """t frames and the t - 1 steps between them; `actions[:, i]` leads from frame i to frame i + 1.

    Actions are encoded by `ActionEncoder`. `terminated[:, i]` is true if the episode terminated with step i;
    a truncated episode did not.
    """

    frames: UInt8[Tensor, "b t h w c"]
    actions: Float32[Tensor, "b t-1 a"]
    rewards: Float32[Tensor, "b t-1"]
    terminated: Bool[Tensor, "b t-1"]


class ClipBatches(Dataset):
    """Batches of clips of `length` frames, by training step: `batches[step]` is always the same batch.

    A training that was stopped goes on with the next step. With n devices, device r reads
    `batches[n * step + r]`. Only the frames of the clips are read, never whole episodes.

    Raises:
        ValueError: no episode has `length` frames.
        EpisodeError: an episode is damaged (here, or when a batch reads its damaged frames).
    """

    def __init__(self, store: EpisodeStore, episodes: Sequence[int], *, length: int, batch_size: int, seed: int):
        setting = "the clip length (clip_latents)"
        self.clips = ClipSampler(store, episodes, length=length, seed=seed, setting=setting)
        self.batch_size = batch_size
        self.encoder = ActionEncoder(store.info.action_space)

    def __getitem__(self, step: int) -> Clip:
        clips = self.clips.sample(step, self.batch_size)
        actions = torch.from_numpy(np.stack([self.encoder.encode(each) for each in clips.actions]))
        return Clip(clips.frames, actions, torch.from_numpy(clips.rewards), torch.from_numpy(clips.terminated))

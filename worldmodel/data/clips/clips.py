"""Clips: short windows of episodes, drawn at random into batches that depend on (seed, step) alone."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.nn.actions import ActionEncoder

B = TypeVar("B", bound="Batch")  # beartype has no typing.Self outside classes that it decorates itself


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
    """t frames and the t - 1 transitions between them; `actions[:, i]` leads from frame i to frame i + 1.

    Actions are encoded (see `ActionEncoder`). `terminated[:, i]` is true iff the episode terminated with
    transition i; one that was merely cut off (truncated) does not end.
    """

    frames: UInt8[Tensor, "b t h w c"]
    actions: Float32[Tensor, "b t-1 a"]
    rewards: Float32[Tensor, "b t-1"]
    terminated: Bool[Tensor, "b t-1"]


class WindowSampler:
    """Windows of `length` items, uniform over all places where one fits inside an episode.

    `lengths` has the number of items of each episode; those that are too short are passed over. With `cover_ends`,
    windows may hang over both ends by all but one item, and are then pushed back inside: so the last item of an
    episode, where it ends, is drawn as often as one in the middle (an inner place alone: one window in `length` has
    it), and an episode that is too short is drawn from its beginning on.

    Raises:
        ValueError: none is long enough; `item` names the items and `setting` the key to lower, if there is one.
    """

    def __init__(
        self, lengths: Mapping[int, int], length: int, seed: int, *, item: str, setting: str, cover_ends: bool = False
    ):
        if length < 1 or seed < 0:
            raise ValueError(f"expected {setting or 'a length'} >= 1 and seed >= 0, got {length} and {seed}")
        self.over = length - 1 if cover_ends else 0  # items by which a window may hang over
        fitting = {
            index: places for index, count in lengths.items() if (places := count - length + 1 + 2 * self.over) > 0
        }
        if not fitting:
            longest = f"the longest of {len(lengths)} has {max(lengths.values())}" if lengths else "there are none"
            lower = f"lower {setting}, or " if setting else ""
            raise ValueError(f"no episode has {length} {item} ({longest}): {lower}collect longer episodes")
        self.seed = seed
        self._last = np.array([max(lengths[index] - length, 0) for index in fitting], np.int64)  # start of the last
        self._episodes = np.array(list(fitting), np.int64)
        self._after = np.cumsum(list(fitting.values()))  # places in all episodes up to and with this one

    def __len__(self) -> int:
        """How many different windows there are."""
        return int(self._after[-1])

    def draw(self, step: int, count: int) -> list[tuple[int, int]]:
        """`count` pairs (episode, start): a function of (seed, step), with no state from step to step."""
        rng = np.random.Generator(np.random.Philox(key=np.array([self.seed, step], np.uint64)))
        places = rng.integers(len(self), size=count)
        which = np.searchsorted(self._after, places, side="right")
        starts = places - np.concatenate([[0], self._after])[which] - self.over
        starts = np.clip(starts, 0, self._last[which])
        return list(zip(self._episodes[which].tolist(), starts.tolist(), strict=True))


class ClipBatches(Dataset):
    """Batches of clips of `length` frames, by training step: `batches[step]` is always the same batch.

    Training goes on after a stop by asking for the next step. With several devices, device r of n asks for
    `batches[n * step + r]`. Only the frames of the clips are read, never whole episodes.

    Raises:
        ValueError: no episode has `length` frames.
        EpisodeError: an episode is damaged (here, or when a batch touches its damaged frames).
    """

    def __init__(self, store: EpisodeStore, episodes: Sequence[int], *, length: int, batch_size: int, seed: int):
        self.store, self.length, self.batch_size = store, length, batch_size
        lengths = {index: store.length(index) for index in episodes}
        self.windows = WindowSampler(lengths, length, seed, item="frames", setting="the clip length (clip_latents)")
        self.encoder = ActionEncoder(store.info.action_space)

    def __getitem__(self, step: int) -> Clip:
        places = self.windows.draw(step, self.batch_size)
        columns = zip(*(self._clip(index, start) for index, start in places), strict=True)
        return Clip(*(torch.from_numpy(np.stack(column)) for column in columns))

    def _clip(self, index: int, start: int) -> tuple[np.ndarray, ...]:
        """Frames, actions, rewards and ends of one clip."""
        steps = slice(start, start + self.length - 1)
        ends = np.zeros(self.length - 1, bool)
        if self.length > 1 and steps.stop == self.store.length(index) - 1:
            ends[-1] = self.store.header(index).terminated
        actions = self.encoder.encode(self.store.actions(index)[steps])
        frames = self.store.frames(index, start, start + self.length)
        return frames, actions, self.store.rewards(index)[steps], ends


def train_validation_split(store: EpisodeStore, validation: float = 0.1) -> tuple[list[int], list[int]]:
    """Episodes for training and for validation, by a hash of the index: more episodes move none across.

    Episode 0 always trains and episode 1 always validates, so that neither side is empty with two episodes.

    Raises:
        ValueError: a fraction outside [0, 1).
    """
    if not 0 <= validation < 1:
        raise ValueError(f"validation: expected a fraction in [0, 1), got {validation}")
    indices = store.indices
    chosen = [index for index in indices if _validates(index, validation)]
    if not chosen and validation > 0 and len(indices) > 1:  # episode 1 was removed
        chosen = [indices[-1]]
    if len(chosen) == len(indices):  # episode 0 was removed
        chosen = chosen[1:]
    return [index for index in indices if index not in set(chosen)], chosen


def split_for_training(store: EpisodeStore) -> tuple[list[int], list[int]]:
    """As `train_validation_split`, neither side empty.

    Raises:
        ValueError: a single episode; says where more come from.
    """
    train, held_out = train_validation_split(store)
    if not (train and held_out):
        more = "collect more: scripts/collect.py episodes=2"
        if store.info.policy == "imported":
            more = "cut the clip in two, each part with its rows in the table, and import both: scripts/data.py import"
        raise ValueError(f"episodes: {store.folder} holds {len(store.indices)}, and one must be held out; {more}")
    return train, held_out


def _validates(index: int, fraction: float) -> bool:
    if index < 2:
        return index == 1 and fraction > 0
    return int.from_bytes(hashlib.sha256(str(index).encode()).digest()[:8]) < fraction * 2**64

"""Episodes from other software: the settings that they share, and their conversion.

Frames get three channels: grey is repeated, alpha is dropped. Channels may come first, as PyTorch has them. Missing
rewards and seeds become 0, and infos are left out. `Notes` records what was missing and what was left out.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from worldmodel.data.convert.action_space import ActionSpec, check_finite, convert_actions, infer_action_space
from worldmodel.data.convert.formats import EpisodeSource, ImportedEpisode
from worldmodel.data.convert.resize import FrameConverter, channels_last
from worldmodel.data.episodes.dataset_info import IMPORTED, DatasetInfo
from worldmodel.data.episodes.episode import Episode
from worldmodel.io.untrusted import check_frame, errors_name

Size = tuple[int, int] | None  # from the user: height and width


class Notes:
    """Counts of what was missing in the imported episodes and of what was left out, for one line of text."""

    def __init__(self) -> None:
        self.episodes = 0
        self.missing: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()

    def add(self, episode: ImportedEpisode, channels: int) -> None:
        self.episodes += 1
        self.missing.update(episode.missing)
        self.left_out.update(episode.left_out)
        self.left_out.update(["alpha channel"] if channels in (2, 4) else [])

    def line(self) -> str:
        """Empty if nothing was missing or left out."""
        labels = {"rewards": "rewards (all 0)", "reward": "rewards (all 0)"}
        missing = [self._share(labels.get(name, f"{name} (never)"), n) for name, n in self.missing.items()]
        left_out = [self._share(name, n) for name, n in self.left_out.items()]
        parts = {"missing": missing, "left out": left_out}
        return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names)

    def _share(self, label: str, count: int) -> str:
        return label if count == self.episodes else f"{label} in {count:,} of {self.episodes:,} episodes"


def infer_dataset_info(folder: Path, source: EpisodeSource, size: Size, actions: ActionSpec) -> DatasetInfo:
    """The settings that the episodes of `folder` share; `size` is the (height, width) of the converted frames.

    Raises:
        ValueError: no episode with a frame, or actions that no model supports.
    """
    first = next(source.episodes(), None)
    image = None if first is None else next(iter(first.images()), None)
    if first is None:
        raise ValueError(f"{folder} holds no episode with a frame")
    if image is None:
        raise ValueError(f"{first.name}: expected an episode with a frame, got none")
    if size is not None and min(size) < 1:
        raise ValueError(f"size: expected a height and width of 1 or more, got {list(size)}")
    with errors_name(f"{first.name}, frame 0"):
        height, width = size or channels_last(image).shape[:2]
    check_frame("size", (height, width, 3))
    with errors_name(folder):
        space, names = infer_action_space(source, actions)
    return DatasetInfo(space, (height, width, 3), seed=0, policy=IMPORTED, action_names=names)


def convert_episodes(source: EpisodeSource, info: DatasetInfo, size: Size, notes: Notes) -> Iterator[Episode]:
    """The episodes, numbered in order; `notes` records what was missing or left out.

    Raises:
        ValueError: frames and actions of different lengths, frames of several sizes if `size` is None, numbers
            that are not finite, or actions outside the space; names the episode.
    """
    first = None
    for index, episode in enumerate(source.episodes()):
        first = first or episode.name
        converter = FrameConverter(info.frame_shape, first, resize=size is not None)
        frames = episode.frames(converter)
        notes.add(episode, converter.channels)
        if len(frames) != len(episode.actions) + 1:
            raise ValueError(
                f"{episode.name}: {len(frames)} frames need {len(frames) - 1} actions, each leading from one frame "
                f"to the next; got {len(episode.actions)}"
            )
        with errors_name(episode.name):
            actions, rewards = convert_actions(episode, info), _convert_rewards(episode)
            end = episode.terminated, episode.truncated
            yield Episode(frames, actions, rewards, *end, episode.seed, index)


def _convert_rewards(episode: ImportedEpisode) -> np.ndarray:
    rewards = np.zeros(len(episode.actions), np.float32) if episode.rewards is None else episode.rewards
    if rewards.dtype.kind not in "biuf":
        raise ValueError(f"rewards: expected numbers, got {rewards.dtype}")
    if rewards.shape != (len(episode.actions),):
        raise ValueError(f"rewards: expected one for each of {len(episode.actions)} steps, got {rewards.shape}")
    check_finite(episode.name, "rewards", rewards)
    return rewards.astype(np.float32)

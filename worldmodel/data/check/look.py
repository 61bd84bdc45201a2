"""Plays a few short episodes, the same ones that a collection with these settings begins with, or reads stored ones."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import UInt8

from worldmodel.data.check.observer import Observer, Seen, Shot
from worldmodel.data.collect.engine import EngineError, engine_errors, report_close_errors
from worldmodel.data.collect.run_episode import dataset_info_of, play_episode
from worldmodel.data.collect.worker_pool import Attempt
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.episode import Episode
from worldmodel.data.episodes.hdf5 import to_bytes
from worldmodel.data.episodes.store import EpisodeStore

STORED = 5  # episodes that are read of a dataset, evenly spread
MOMENTS = 4  # of each


@dataclass(frozen=True)
class Played:
    """What one episode shows as a whole.

    end: "terminated", "truncated" (by the environment), "cut" (by max_steps), or "stopped" (by the check, so that it
    might have gone on). still: whether all its frames are alike. size: of its file, in bytes.
    """

    end: str
    rewards: np.ndarray
    first: UInt8[np.ndarray, "h w _"]
    still: bool
    brightest: int
    size: int

    @property
    def steps(self) -> int:
        return len(self.rewards)


@dataclass(frozen=True)
class Look:
    """The settings of all episodes, and what a few of them show.

    seconds: of playing them, the engine's start aside. problem: the fault of the environment that ended the look.
    stored: whether the episodes were read and not played.
    """

    info: DatasetInfo
    seen: Seen = field(default_factory=Seen)
    played: tuple[Played, ...] = ()
    seconds: float = 0.0
    problem: str = ""
    stored: bool = False


class Looker:
    """Makes an environment and looks at it; runs in a worker process, or in the only one.

    episodes, steps, seconds: limits of the look; after the seconds, the episode at hand is the last one.
    """

    env: gymnasium.Env | None = None

    def __init__(self, make_env: Callable[[], gymnasium.Env], config: Mapping[str, Any], settings: Mapping[str, Any]):
        self.make_env, self.config, self.settings = make_env, config, settings
        self.episodes, self.steps, self.seconds = 1, 1, 1.0

    def __call__(self, task: int) -> Attempt:
        """A `Look` as the result."""
        with engine_errors("make", passing=(ValueError, TypeError, ImportError, OSError)):
            self.env = self.make_env()
        info = dataset_info_of(self.env, self.config, **self.settings)
        longest = math.inf if info.max_steps is None else info.max_steps
        start = time.monotonic()
        observer = Observer(self.env, self.steps if self.steps < longest else math.inf, start + self.seconds)
        played, problem = list[Played](), ""
        try:
            while len(played) < self.episodes and time.monotonic() < observer.deadline:
                played.append(_play(observer, info, len(played)))
        except EngineError as error:
            problem = f"episode {len(played)} failed: {error}"
        return Attempt(task, Look(info, observer.seen, tuple(played), time.monotonic() - start, problem))

    def close(self) -> None:
        """Close the environment, after the result was returned, as closing may hang."""
        if self.env is not None:
            with report_close_errors(), engine_errors("close"):
                self.env.close()


def look_at_episodes(store: EpisodeStore) -> Look:
    """Look at a few stored episodes.

    Raises:
        EpisodeError: an episode is damaged.
    """
    indices, seen = store.indices, Seen("the episodes")
    chosen = [indices[i] for i in np.unique(np.linspace(0, len(indices) - 1, STORED).round().astype(int))]
    played = []
    for episode in map(store.read, chosen):
        for step in np.unique(np.linspace(0, len(episode.frames) - 1, MOMENTS).round().astype(int)).tolist():
            frame, before = episode.frames[step], step - 1
            led = (episode.actions[before], float(episode.rewards[before])) if step else (None, None)
            seen.add(Shot(episode.index, step, frame, frame, *led))
        end = "terminated" if episode.terminated else "truncated" if episode.truncated else "stopped"
        played.append(_summary(episode, end, store.path(episode.index).stat().st_size))
    return Look(store.info, seen, tuple(played), stored=True)


def _play(observer: Observer, info: DatasetInfo, index: int) -> Played:
    episode, cut = play_episode(observer, info, index)
    cut |= observer.stopped and len(episode.actions) == info.max_steps
    end = "cut" if cut else "stopped" if observer.stopped else "terminated" if episode.terminated else "truncated"
    return _summary(episode, end, len(to_bytes(episode)))


def _summary(episode: Episode, end: str, size: int) -> Played:
    frames = episode.frames
    still = bool((frames == frames[:1]).all())
    return Played(end, episode.rewards, frames[0].copy(), still, int(frames.max()), size)

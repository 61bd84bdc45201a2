"""Small datasets whose episodes have something special each, for tests of what becomes of datasets."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.episode import Episode
from worldmodel.data.episodes.store import EpisodeStore

SPACES = {
    "choices": Discrete(5, start=2),
    "several": MultiDiscrete([3, 2]),
    "numbers": Box(-2.0, 2.0, (2, 2), np.float32),
    "bytes": Box(0, 255, (), np.uint8),
}


def header_bytes(file: h5py.File) -> bytes:
    """The header of an episode file, as JSON."""
    header: Any = file.attrs["header"]
    return bytes(header)


def array_in(file: h5py.File, name: str) -> h5py.Dataset:
    found = file[name]
    assert isinstance(found, h5py.Dataset)
    return found


def odd_store(folder: Path, space: Space, channels: int = 3) -> EpisodeStore:
    """Numbers with gaps, an episode of one step, all outcomes, infos of several shapes and types."""
    names = tuple("abcde") if isinstance(space, Discrete) else ()
    info = DatasetInfo(
        space,
        (6, 5, channels),
        seed=3,
        policy="sticky",
        env={"name": "odd", "crop": [0.0, 0.5]},
        action_names=names,
        info_keys=("pose", "score"),
    )
    store = EpisodeStore.create(folder, info)
    for index, steps in ((0, 7), (3, 1), (11, 4)):
        store.write(odd_episode(index, steps, space, channels))
    return store


def odd_episode(index: int, steps: int, space: Space, channels: int = 3) -> Episode:
    rng = np.random.default_rng(index)
    space.seed(index)
    infos = {"pose": rng.normal(size=(steps + 1, 2)), "score": np.arange(steps + 1, dtype=np.int16)}
    infos["pose"][0] = np.nan, np.inf
    rewards = rng.normal(size=steps).astype(np.float32)
    rewards[-1] = np.finfo(np.float32).tiny
    return Episode(
        rng.integers(0, 256, (steps + 1, 6, 5, channels), dtype=np.uint8),
        np.stack([np.asarray(space.sample()) for _ in range(steps)]),
        rewards,
        terminated=index != 11,
        truncated=index == 3,
        seed=2**62 + index,
        index=index,
        infos=infos,
    )

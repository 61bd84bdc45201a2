"""Reads what `tests.torture.files` damaged, in a process that may die.

python -m tests.torture.readers KIND FOLDER FIRST LAST
"""

import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import torch

from tests.helpers_env import counter_info
from tests.helpers_models import small_world
from tests.test_episode_store import assert_same, make_episode
from tests.torture.files import attempts, try_all
from tests.torture.foreign import foreign
from tests.torture.hostile import CASES
from worldmodel.data.info import DatasetInfo
from worldmodel.data.store import EpisodeStore
from worldmodel.data.tokens import TokenStore
from worldmodel.training.checkpoint import latest
from worldmodel.world import WorldModel


def info() -> DatasetInfo:
    return counter_info(seed=5)


def episodes(folder: Path, numbers: range) -> None:
    store, right = EpisodeStore.open(folder), make_episode(0, 90)
    with h5py.File(store.path(0)) as file:
        chunks = [file["frames"].id.get_chunk_info(i) for i in range(5)]
    pieces = [(chunk.byte_offset, chunk.size) for chunk in chunks]

    def read() -> str:
        fresh = EpisodeStore.open(folder)
        for start in range(0, 90, 7):
            stop = min(start + 9, 91)
            np.testing.assert_array_equal(fresh.frames(0, start, stop), right.frames[start:stop])
        np.testing.assert_array_equal(fresh.actions(0), right.actions)
        assert fresh.header(0).terminated is True
        assert_same(fresh.read(0), right)
        return "same"

    try_all(attempts([store.path(0)], lambda _: store.path(1).read_bytes(), read, numbers, pieces))


def worlds(folder: Path, numbers: range) -> None:
    right = small_world()
    paths = [folder / "world" / name for name in ("config.json", "weights.safetensors")]

    def read() -> str:
        world = WorldModel.load(folder / "world")
        assert world.info == right.info and world.prior.config == right.prior.config
        for one, two in zip(world.state_dict().values(), right.state_dict().values(), strict=True):
            assert torch.equal(one, two)
        return "same"

    other = lambda path: (folder / "other" / path.name).read_bytes()  # noqa: E731
    try_all(attempts(paths, other, read, numbers, []))


def tokens(folder: Path, numbers: range) -> None:
    store = TokenStore.open(folder, "k")
    right = store.tokens(0).copy()

    def read() -> str:
        fresh = TokenStore.open(folder, "k")
        assert fresh.info == store.info
        np.testing.assert_array_equal(fresh.tokens(0), right)
        return "same"

    try_all(attempts([store.path(0), folder / "tokens.json"], lambda _: store.path(1).read_bytes(), read, numbers, []))


def checkpoints(folder: Path, numbers: range) -> None:
    warnings.simplefilter("ignore")
    newest = folder / "checkpoints" / "00000002"
    other = lambda path: (newest.with_name("00000001") / path.name).read_bytes()  # noqa: E731

    def read() -> str:
        found = latest(folder)
        assert found is not None and found.progress == {"fit": {"seed": 3}}
        assert all((group["x"] == found.step).all() and len(group) == 2 for group in found.tensors.values())
        assert sorted(found.tensors) == ["ema", "model"]
        return "same" if found.step == 2 else "refused"

    try_all(attempts(sorted(newest.iterdir()), other, read, numbers, []))


def hostile(folder: Path, numbers: range) -> None:
    cases = list(CASES.items())[numbers.start : numbers.stop]
    prepared = [(name, case, folder / name) for name, case in cases]
    for _, _, own in prepared:
        own.mkdir(exist_ok=True)
    try_all([lambda case=case, own=own: case(own) for _, case, own in prepared])


if __name__ == "__main__":
    name, place, first, last = sys.argv[1:]
    kinds = {each.__name__: each for each in (episodes, worlds, tokens, checkpoints, hostile, foreign)}
    kinds[name](Path(place), range(int(first), int(last)))

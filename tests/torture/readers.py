"""Reads what `tests.torture.files` damaged, in a process that may die.

python -m tests.torture.readers KIND FOLDER FIRST LAST
"""

import contextlib
import random
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from tests.helpers_env import counter_info
from tests.helpers_models import pixelcnn_of, small_world
from tests.test_episode_store import assert_same, make_episode
from tests.torture import doors
from tests.torture.bombs import CASES as BOMBS
from tests.torture.doors import prepared
from tests.torture.files import attempts, try_all
from tests.torture.foreign import foreign
from tests.torture.hostile import CASES
from tests.torture.structures import blocks, change_header, changed
from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.episode_file import EpisodeFile
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.json_files import read_checked_json
from worldmodel.training.run_state import latest
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
        assert world.info == right.info and pixelcnn_of(world).config == pixelcnn_of(right).config
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


def small_agent(seed: int) -> Any:
    from worldmodel.agents.sb3 import PolicyAgent, PolicyConfig, empty_policy

    torch.manual_seed(seed)
    config, world = PolicyConfig(channels=4, units=8), small_world()
    space = world.info.action_space
    assert space is not None
    return PolicyAgent(empty_policy(world.tokenizer, space, config), world.tokenizer, space, config)


def agents(folder: Path, numbers: range) -> None:
    from worldmodel.agents.sb3 import PolicyAgent

    right = PolicyAgent.load(folder / "agent")
    paths = [folder / "agent" / name for name in ("config.json", "weights.safetensors")]

    def read() -> str:
        agent = PolicyAgent.load(folder / "agent")
        assert agent.config == right.config and agent.space == right.space
        for part in ("policy", "tokenizer"):
            states = [getattr(each, part).state_dict().values() for each in (agent, right)]
            assert all(torch.equal(one, two) for one, two in zip(*states, strict=True))
        return "same"

    try_all(attempts(paths, lambda path: (folder / "other" / path.name).read_bytes(), read, numbers, []))


REPORT = {
    "made_with": {"world": "0" * 64, "settings": {"clips": 384, "seed": 3}},
    "figures": {f"rollout/psnr/{i}": {"value": 20.5 + i, "low": 19.25, "high": 21.0, "unit": "dB"} for i in range(9)},
    "notes": ["measured of 3 episodes"],
}


def descriptions(folder: Path, numbers: range) -> None:
    place = folder / "right"

    def read() -> str:
        assert DatasetInfo.load(place).to_json() | {"seed": 5} == info().to_json()
        # 6: the other one, whole
        assert read_checked_json(place / "report.json") | {"seed": 5} == {**REPORT, "seed": 5}
        return "same"

    other = lambda path: (folder / "other" / path.name).read_bytes()  # noqa: E731
    try_all(attempts(sorted(place.iterdir()), other, read, numbers, []))


def structures(folder: Path, numbers: range) -> None:
    paths = sorted(folder.glob("?.h5"))
    contents = [path.read_bytes() for path in paths]
    places = [blocks(content) for content in contents]
    right = [EpisodeFile(path).episode() for path in paths]

    def attempt(number: int) -> str:
        chance, path = random.Random(number), folder / f"{number} changed.h5"
        which, header = chance.randrange(len(paths)), chance.random() < 0.2
        path.write_bytes(contents[which] if header else changed(contents[which], places[which], chance))
        try:
            if header:
                change_header(path, chance)
            with contextlib.closing(EpisodeFile(path)) as file:
                found = file.episode()
                file.frames(0, 3)
            if not header:  # a maker of headers may well say something else
                assert_same(found, right[which])
            return "same"
        finally:
            path.unlink()

    try_all(partial(attempt, number) for number in numbers)


def special_files(folder: Path, numbers: range) -> None:
    whole = prepared(folder / f"whole {numbers.start}")
    try_all(doors.attempts(whole)[numbers.start : numbers.stop])


def bombs(folder: Path, numbers: range) -> None:
    cases = list(BOMBS.items())[numbers.start : numbers.stop]
    for name, _ in cases:
        (folder / name).mkdir(exist_ok=True)
    try_all([partial(case, folder / name) for name, case in cases])


if __name__ == "__main__":
    name, place, first, last = sys.argv[1:]
    ours = (episodes, worlds, tokens, checkpoints, agents, descriptions, structures, hostile, special_files, bombs)
    kinds = {each.__name__: each for each in (*ours, foreign)}
    kinds[name](Path(place), range(int(first), int(last)))

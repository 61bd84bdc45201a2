"""Small files that claim much, and large ones that hold nothing: refused before memory or minutes are spent."""

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.helpers_env import counter_info
from tests.helpers_models import small_world
from tests.test_episode_store import make_episode
from tests.test_hostile_episodes import bomb
from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.json_files import write_checked_json
from worldmodel.training.run_state import Checkpoint, latest, save
from worldmodel.world import WorldModel

CASES: dict[str, Callable[[Path], str]] = {}


def case(words: str) -> Callable[[Callable[[Path], object]], None]:
    """Add a case, which is to be refused in these words."""

    def add(function: Callable[[Path], object]) -> None:
        def refused(folder: Path) -> str:
            try:
                function(folder)
            except ValueError as error:
                return "refused" if words in str(error) else f"refused for another reason: {error}"
            return "read it"

        CASES[function.__name__] = refused

    return add


def sparse(path: Path, content: bytes, size: int) -> None:
    """A file that claims a size, and takes no room."""
    with path.open("wb") as file:
        file.write(content)
        file.truncate(size)


def safetensors(size: int) -> bytes:
    """The header of a file of one tensor."""
    entry = {"x": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    header = json.dumps(entry).encode()
    return struct.pack("<Q", len(header)) + header


def dataset(folder: Path, **values: Any) -> EpisodeStore:
    """A dataset whose description was changed by someone who knows the format."""
    store = EpisodeStore.create(folder, counter_info())
    store.write(make_episode())
    write_checked_json(folder / "dataset.json", {**counter_info().to_json(), **values})
    return EpisodeStore.open(folder)


@case("claim to hold")
def an_episode_that_unpacks_to_half_a_gigabyte(folder: Path) -> None:
    store = dataset(folder)
    bomb(store, 40_000)
    store.read(0)


@case("expected at most")
def an_episode_of_a_terabyte(folder: Path) -> None:
    store = dataset(folder)
    content = store.path(0).read_bytes()
    sparse(store.path(0), content, 10**12)
    store.read(0)


@case("choices; at most")
def a_dataset_of_a_billion_actions(folder: Path) -> None:
    dataset(folder, action_space={"kind": "discrete", "n": 10**9, "start": 0, "dtype": "int64"})


@case("choices; at most")
def a_dataset_of_many_actions_at_once(folder: Path) -> None:
    dataset(
        folder,
        action_space={"kind": "multi_discrete", "nvec": [2**62] * 8, "start": [0] * 8, "dtype": "int64"},
    )


@case("choices; at most")
def a_dataset_of_a_trillion_switches(folder: Path) -> None:
    dataset(folder, action_space={"kind": "multi_binary", "n": 10**12})


@case("a frame of")
def a_dataset_of_frames_of_a_terabyte(folder: Path) -> None:
    dataset(folder, frame_shape=[10**6, 10**6, 1])


@case("expected at most")
def a_description_of_a_terabyte(folder: Path) -> None:
    dataset(folder)
    sparse(folder / "dataset.json", b"{}", 10**12)
    EpisodeStore.open(folder)


@case("expected a JSON object")
def a_description_of_millions_of_lists(folder: Path) -> None:
    dataset(folder)
    (folder / "dataset.json").write_text("[" + "[]," * (2**20) + "[]]")
    EpisodeStore.open(folder)


@case("expected at most")
def weights_of_100_gigabytes(folder: Path) -> None:
    small_world().save(folder)
    sparse(folder / "weights.safetensors", safetensors(10**11), 10**11 + len(safetensors(10**11)))
    WorldModel.load(folder)


@case("by its header")
def weights_that_are_longer_than_they_claim(folder: Path) -> None:
    small_world().save(folder)
    content = (folder / "weights.safetensors").read_bytes()
    sparse(folder / "weights.safetensors", content, 2**32)
    WorldModel.load(folder)


@case("do not fit config.json")
def weights_that_are_larger_than_the_config_says(folder: Path) -> None:
    small_world().save(folder)
    header = safetensors(2**32)
    sparse(folder / "weights.safetensors", header, 2**32 + len(header))
    WorldModel.load(folder)


@case("expected at most")
def a_checkpoint_of_100_gigabytes(folder: Path) -> None:
    save(folder, Checkpoint(1, {"model": {"x": torch.ones(3)}}, {}))
    place = folder / "checkpoints" / "00000001" / "model.safetensors"
    sparse(place, safetensors(10**11), 10**11 + len(safetensors(10**11)))
    latest(folder)


@case("expected at most")
def tokens_of_100_gigabytes(folder: Path) -> None:
    store = TokenStore.create(folder, key="k", codes=19, grid=(2, 3), time_stride=1)
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        content, {"descr": "<i2", "fortran_order": False, "shape": (10**11 // 12, 2, 3)}
    )
    sparse(store.path(0), content.getvalue(), 10**11)
    store.tokens(0)

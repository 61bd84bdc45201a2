"""Files whose makers knew what they did: small ones that claim much, names that lead out of their folder, wrong kinds.

Each case makes its files in an empty folder and reads them; it has to end in a ValueError that says the words given.
"""

import hashlib
import io
import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import torch

from tests.helpers_data import array_in, header_bytes
from tests.helpers_env import counter_info
from tests.helpers_models import small_world
from tests.test_episode_store import make_episode
from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.episodes import hdf5
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.json_files import write_checked_json
from worldmodel.io.model_folder import load_weights
from worldmodel.io.tensors_file import write_tensors
from worldmodel.training.run_state import latest
from worldmodel.world import WorldModel

MUCH = 10**9  # rows of 90 bytes, where there are none
PACKED: dict[str, Any] = {"fletcher32": True, **hdf5plugin.Zstd(1)}
CASES: dict[str, Callable[[Path], str]] = {}


def case(words: str) -> Callable[[Callable[[Path], str]], None]:
    """Add a case, which is to be refused in these words."""

    def add(function: Callable[[Path], str]) -> None:
        def refused(folder: Path) -> str:
            try:
                return function(folder)
            except ValueError as error:
                return "refused" if words in str(error) else f"refused for another reason: {error}"

        CASES[function.__name__] = refused

    return add


def episode(folder: Path, frames: Callable[[h5py.File], Any], shape: list[int]) -> str:
    """Read an episode whose frames were put there by hand, under a header that agrees with them."""
    store = EpisodeStore.create(folder, counter_info())
    whole = make_episode(0, shape[0] - 1 if shape[0] < 1000 else 3)
    with h5py.File(io.BytesIO(hdf5.to_bytes(whole))) as file:
        header = json.loads(header_bytes(file))
        small = {name: array_in(file, name)[...] for name in ("actions", "rewards", "infos/now")}
    steps = shape[0] - 1
    with h5py.File(store.path(0), "w", libver=hdf5.HDF5_FORMAT) as file:
        frames(file)
        for name, values in small.items():
            size = (steps + name.startswith("infos"),)
            chunks = hdf5.chunk_shape(name, size, values.itemsize)
            made = file.create_dataset(name, size, values.dtype, chunks=chunks, **PACKED)
            header["arrays"][name]["shape"] = list(made.shape)
            if steps < 1000:
                made[...] = values
        del header["arrays"]["checks"]
        header["arrays"]["frames"]["shape"] = shape
        text = json.dumps(header).encode()
        file.attrs["header"] = np.bytes_(text)
        file.attrs["sha256"] = np.bytes_(hashlib.sha256(text).hexdigest())
    EpisodeStore.open(folder).read(0)
    return "read"


@case("chunks are missing")
def an_episode_of_a_few_bytes_that_claims_90_gb(folder: Path) -> str:
    shape = [MUCH, 6, 5, 3]
    return episode(
        folder, lambda file: file.create_dataset("frames", shape, "u1", chunks=(16, 6, 5, 3), **PACKED), shape
    )


@case("chunks are missing")
def an_episode_that_unpacks_to_60_gb(folder: Path) -> str:
    def bomb(file: h5py.File) -> None:
        shape = (MUCH // 16 * 16, 6, 5, 3)
        made = file.create_dataset("frames", shape, "u1", chunks=(MUCH // 64, 6, 5, 3), **PACKED)
        made.id.write_direct_chunk((0, 0, 0, 0), b"\x28\xb5\x2f\xfd")

    return episode(folder, bomb, [MUCH // 16 * 16, 6, 5, 3])


@case("expected an array in chunks, within this file")
def an_episode_whose_frames_are_another_file(folder: Path) -> str:
    secret = folder / "secret"
    secret.write_bytes(bytes(90 * 90))
    take = lambda file: file.create_dataset("frames", (90, 6, 5, 3), "u1", external=str(secret))  # noqa: E731
    return episode(folder, take, [90, 6, 5, 3])


@case("expected an array in chunks, within this file, got a link")
def an_episode_with_a_link_that_leads_out(folder: Path) -> str:
    with h5py.File(folder / "elsewhere.h5", "w") as file:
        file.create_dataset("frames", data=np.ones((90, 6, 5, 3), np.uint8), chunks=(16, 6, 5, 3))

    def link(file: h5py.File) -> None:
        file["frames"] = h5py.ExternalLink("elsewhere.h5", "frames")

    return episode(folder, link, [90, 6, 5, 3])


@case("chunks are missing")
def an_episode_of_objects(folder: Path) -> str:
    def objects(file: h5py.File) -> None:
        file.create_dataset("frames", (90, 6, 5, 3), h5py.string_dtype(), chunks=(16, 6, 5, 3))

    return episode(folder, objects, [90, 6, 5, 3])


def world(folder: Path, change: Callable[[dict[str, Any]], None]) -> str:
    """Load a world whose config was changed by someone who knows the format."""
    small_world().save(folder)
    description = json.loads((folder / "config.json").read_text())
    del description["sha256"]
    change(description["config"])
    write_checked_json(folder / "config.json", description)
    WorldModel.load(folder)
    return "loaded"


def changes(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        for name in path[:-1]:
            config = config[name]
        config[path[-1]] = value

    return change


BOX = {"kind": "box", "low": [0], "high": [1], "shape": [1], "dtype": "float32"}
SPACE = ("info", "action_space")
WRONG_CONFIGS: Mapping[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    "a_trillion_parameters": ("do not fit", lambda c: c["prior"].update(width=2**14, core_width=2**14, layers=256)),
    "a_billion_layers": ("layers: expected 1 to 256", changes("prior", "layers", value=10**9)),
    "a_trillion_codes": ("codes: expected 1 to", changes("tokenizer", "quantizer", "codes", value=10**12)),
    "more_codes_than_weights": ("do not fit", changes("tokenizer", "quantizer", "codes", value=2**20)),
    "a_width_of_400_digits": ("width: expected", changes("prior", "width", value=10**400)),
    "a_width_below_nothing": ("width: expected 1 to", changes("tokenizer", "width", value=-6)),
    "frames_of_a_billion_rows": ("do not fit", changes("info", "frame_shape", value=[8 * MUCH, 24, 3])),
    "frames_without_rows": ("numbers of 1 or more", changes("info", "frame_shape", value=[0, 24, 3])),
    "frames_of_text": ("frame_shape[0]: expected int", changes("info", "frame_shape", value=["16", 24, 3])),
    "a_trillion_actions": ("at most 65,536 are allowed", changes(*SPACE, "n", value=10**12)),
    "no_actions_at_all": ("have to be positive", changes(*SPACE, "n", value=0)),
    "a_type_of_8_gb": ("expected a dtype of", changes(*SPACE, value={**BOX, "dtype": "1000000000f8"})),
    "bounds_of_text": ("could not convert", changes(*SPACE, value={**BOX, "low": ["a"]})),
    "a_shape_of_more": ("cannot reshape", changes(*SPACE, value={**BOX, "shape": [MUCH, MUCH]})),
    "a_space_of_another_kind": ("got kind='pickle'", changes(*SPACE, value={"kind": "pickle"})),
    "rewards_of_text": ("expected numbers", changes("rewards", value=["a", "b", "c"])),
    "info_that_is_a_list": ("list", changes("info", value=[1, 2])),
    "an_unknown_key": ("prior.module: unknown key", changes("prior", "module", value="os:system")),
    "no_prior": ("prior", lambda config: config.pop("prior")),
}
for _name, (_words, _change) in WRONG_CONFIGS.items():

    def _wrong(folder: Path, change: Callable[[dict[str, Any]], None] = _change) -> str:
        return world(folder, change)

    _wrong.__name__ = f"a_world_of_{_name}"
    case(_words)(_wrong)


def weights(folder: Path, content: bytes) -> str:
    """Load a world over weights of these bytes."""
    small_world().save(folder)
    (folder / "weights.safetensors").write_bytes(content)
    description = json.loads((folder / "config.json").read_text())
    del description["sha256"]
    write_checked_json(folder / "config.json", {**description, "weights": hashlib.sha256(content).hexdigest()})
    WorldModel.load(folder)
    return "loaded"


def tensors_claiming(shape: list[int], end: int) -> bytes:
    header = json.dumps({"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


@case("its header has")
def weights_with_a_header_of_2_to_62_bytes(folder: Path) -> str:
    return weights(folder, struct.pack("<Q", 2**62) + b"{}")


@case("by its header")
def weights_that_claim_a_terabyte(folder: Path) -> str:
    return weights(folder, tensors_claiming([2**20, 2**18], 2**40))


@case("do not fit")
def weights_whose_size_wraps_round(folder: Path) -> str:
    return weights(folder, tensors_claiming([2**32, 2**32], 8))


@case("not a safetensors file")
def weights_that_are_a_pickle(folder: Path) -> str:
    small_world().save(folder)
    torch.save({"x": torch.ones(3)}, folder / "weights.safetensors")
    return weights(folder, (folder / "weights.safetensors").read_bytes())


@case("expected tokens in [0, 19)")
def starts_with_tokens_that_are_no_codes(folder: Path) -> str:
    small_world().save(folder)
    _, tensors = load_weights(folder)
    tensors["starts.tokens"] = tensors["starts.tokens"].int()
    tensors["starts.tokens"][0, 0, 0, 0] = 10**6
    write_tensors(folder / "more.safetensors", tensors)
    return weights(folder, (folder / "more.safetensors").read_bytes())


@case("NaN is no JSON number")
def a_config_with_a_number_that_is_none(folder: Path) -> str:
    small_world().save(folder)
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"decay": 0.99', '"decay": NaN'))
    WorldModel.load(folder)
    return "loaded"


@case("recursion")
def a_config_nested_without_end(folder: Path) -> str:
    small_world().save(folder)
    (folder / "config.json").write_text('{"format":' + "[" * 10**6 + "]" * 10**6 + "}")
    WorldModel.load(folder)
    return "loaded"


@case("expected at most")
def a_config_of_a_terabyte(folder: Path) -> str:
    small_world().save(folder)
    os.truncate(folder / "config.json", 10**12)
    WorldModel.load(folder)
    return "loaded"


@case("expected a config and the sha256")
def a_config_that_holds_nothing(folder: Path) -> str:
    small_world().save(folder)
    (folder / "config.json").write_text('{"format": 1}')
    WorldModel.load(folder)
    return "loaded"


@case("by its header")
def tokens_that_claim_a_terabyte(folder: Path) -> str:
    store = TokenStore.create(folder, key="k", codes=19, grid=(2, 3), time_stride=1)
    content = io.BytesIO()
    header = {"descr": "<i2", "fortran_order": False, "shape": (10**11, 2, 3)}
    np.lib.format.write_array_header_1_0(content, header)
    store.path(0).write_bytes(content.getvalue() + store._digest(0, content.getbuffer()))
    store.tokens(0)
    return "read"


@case("got object")
def tokens_that_are_a_pickle(folder: Path) -> str:
    store = TokenStore.create(folder, key="k", codes=19, grid=(2, 3), time_stride=1)
    content = io.BytesIO()
    np.save(content, np.array([{"x": 1}], object), allow_pickle=True)
    store.path(0).write_bytes(content.getvalue() + store._digest(0, content.getbuffer()))
    store.tokens(0)
    return "read"


@case("of tokens in [0, 19)")
def tokens_that_are_no_codes(folder: Path) -> str:
    store = TokenStore.create(folder, key="k", codes=19, grid=(2, 3), time_stride=1)
    wide = TokenStore.create(folder / "wide", key="k", codes=2**15, grid=(2, 3), time_stride=1)
    wide.write(0, np.full((3, 2, 3), 2**15 - 1))
    store.path(0).write_bytes(wide.path(0).read_bytes())
    store.tokens(0)
    return "read"


@case("expected plain names of files")
def a_checkpoint_of_files_elsewhere(folder: Path) -> str:
    digest = write_tensors(folder / "stolen.safetensors", {"x": torch.ones(3)})
    (folder / "checkpoints" / "00000001").mkdir(parents=True)
    progress = {"step": 1, "files": {"../../stolen": digest}, "progress": {}}
    write_checked_json(folder / "checkpoints" / "00000001" / "progress.json", progress)
    latest(folder)
    return "read"

"""Episode files from anyone: those that we write are read, all others are refused, and nothing crashes or floods."""

import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from tests.helpers_data import array_in, header_bytes
from tests.helpers_env import counter_info
from tests.test_episode_store import assert_same, make_episode
from tests.test_io_untrusted import special
from worldmodel.data.episodes import hdf5
from worldmodel.data.episodes.episode_file import EpisodeFile
from worldmodel.data.episodes.repair import find_damaged, quarantine
from worldmodel.data.episodes.store import EpisodeError, EpisodeStore
from worldmodel.io import untrusted
from worldmodel.io.hdf5.blocks import lookup3
from worldmodel.io.hdf5.chunks import unpack
from worldmodel.io.hdf5.index import read_arrays

ARRAYS = ("frames", "actions", "rewards", "infos/now", "checks")
OURS: dict[str, Any] = {"fletcher32": True, **hdf5plugin.Zstd(1)}


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    store = EpisodeStore.create(tmp_path / "episodes", counter_info())
    store.write(make_episode())
    return store


def refused(store: EpisodeStore, words: str = "damaged or unreadable") -> None:
    """Every door of a store refuses episode 0."""
    fresh = EpisodeStore.open(store.folder)
    for door in (fresh.read, fresh.verify, fresh.header, lambda index: fresh.frames(index, 0, 1)):
        with pytest.raises(EpisodeError, match=words) as caught:
            door(0)
        assert str(store.path(0)) in str(caught.value)
    assert list(find_damaged(fresh)) == [0]


def rewritten(
    store: EpisodeStore,
    options: dict[str, Any] = OURS,
    put: Callable[[h5py.File, str, np.ndarray], Any] | None = None,
    drop: str = "",
    **file_options: Any,
) -> None:
    """Write episode 0 anew through HDF5, by someone who knows the format: the header agrees with what is there."""
    right = hdf5.to_bytes(make_episode())
    with h5py.File(io.BytesIO(right)) as old:
        header = json.loads(header_bytes(old))
        chunks = {name: array_in(old, name).chunks for name in ARRAYS}
        arrays = {name: array_in(old, name)[...] for name in ARRAYS if name != drop}
    header["arrays"].pop(drop, None)
    text = json.dumps(header).encode()
    store.path(0).unlink()
    with h5py.File(store.path(0), "w", **{"libver": ("v110", "v110"), **file_options}) as file:
        for name, values in arrays.items():
            if put is None or put(file, name, values) is None:
                file.create_dataset(name, data=values, chunks=chunks[name], **options)
        file.attrs["header"] = np.bytes_(text)
        file.attrs["sha256"] = np.bytes_(hashlib.sha256(text).hexdigest())


def test_an_episode_that_was_rewritten_as_we_write_is_read(store: EpisodeStore) -> None:
    rewritten(store)
    assert_same(EpisodeStore.open(store.folder).read(0), make_episode())


def test_an_older_episode_without_checks_is_read(store: EpisodeStore) -> None:
    rewritten(store, drop="checks")
    fresh = EpisodeStore.open(store.folder)
    assert_same(fresh.read(0), make_episode())
    np.testing.assert_array_equal(fresh.frames(0, 10, 20), make_episode().frames[10:20])


@pytest.mark.parametrize(("steps", "infos"), [(1, 0), (40, 9), (40, 200), (20_000, 1)])
def test_large_groups_and_long_indices_are_read_as_hdf5_reads_them(steps: int, infos: int) -> None:
    names = {f"player {i}/health": np.arange(steps + 1) for i in range(infos)}
    episode = make_episode(steps=steps, frames=np.ones((steps + 1, 2, 3, 1), np.uint8), infos=names)
    content = bytes(hdf5.to_bytes(episode))
    assert_same(EpisodeFile(Path("x"), content=content).episode(), episode)
    found = read_arrays(lambda start, size: content[start : start + size])
    with h5py.File(io.BytesIO(content)) as file:
        for name, array in found.items():
            identity = file[name].id
            assert len(array.places) == identity.get_num_chunks()
            for number in range(0, len(array.places), 100):
                chunk = identity.get_chunk_info(number)
                assert array.places[number].tolist() == [chunk.byte_offset, chunk.size, chunk.filter_mask]


def test_the_checksum_is_the_hash_of_its_author() -> None:
    assert lookup3(b"") == 0xDEADBEEF and lookup3(b"Four score and seven years ago") == 0x17770551


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
def test_a_chunk_of_a_few_bytes_is_refused_and_crashes_nothing(store: EpisodeStore, name: str, size: int) -> None:
    with h5py.File(store.path(0), "r+") as file:
        identity = file[name].id
        identity.write_direct_chunk((0,) * len(identity.shape), bytes(size))
    fresh = EpisodeStore.open(store.folder)
    with pytest.raises(EpisodeError, match=f"{size} stored bytes are not a chunk of"):
        fresh.read(0)
    assert list(find_damaged(fresh)) == [0]


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("mask", [1, 2, 3, 2**31])
def test_a_chunk_that_left_filters_out_is_refused(store: EpisodeStore, name: str, mask: int) -> None:
    with h5py.File(store.path(0), "r+") as file:
        array = array_in(file, name)
        raw = bytes(chunk_bytes(array))
        array.id.write_direct_chunk((0,) * array.ndim, raw, filter_mask=mask)
    refused(store, "chunks without")


def chunk_bytes(array: Any) -> int:
    return int(np.prod(array.chunks)) * array.dtype.itemsize


@pytest.mark.parametrize("claim", ["less", "more", "unknown", "dictionary", "none"])
def test_a_chunk_that_unpacks_to_another_size_is_refused(claim: str) -> None:
    frame = bytes([0x20, 100]) if claim == "more" else bytes([0x20, 50])
    frame = {"unknown": bytes([0x00, 0x58]), "dictionary": bytes([0x21, 0, 64]), "none": b""}.get(claim, frame)
    with pytest.raises(ValueError, match="are not a chunk of 64"):
        unpack(b"\x28\xb5\x2f\xfd" + frame + bytes(20), np.zeros(64, np.uint8))


def foreign_filters() -> dict[str, dict[str, Any]]:
    """Whatever HDF5 and hdf5plugin can pack with, but for what we do."""
    names = ("Bitshuffle", "Blosc", "Blosc2", "BZip2", "FciDecomp", "LZ4", "Sperr", "SZ", "SZ3", "Zfp")
    packers = {name: dict(getattr(hdf5plugin, name)()) for name in names if hasattr(hdf5plugin, name)}
    plain = {"none": {}, "gzip": {"compression": "gzip"}, "lzf": {"compression": "lzf"}, "shuffle": {"shuffle": True}}
    ours = {"no checksum": dict(hdf5plugin.Zstd(1)), "shuffled": {"shuffle": True, **OURS}}
    return packers | plain | ours


@pytest.mark.parametrize("name", foreign_filters())
def test_an_episode_packed_by_others_is_refused(store: EpisodeStore, name: str) -> None:
    def put(file: h5py.File, array: str, values: np.ndarray) -> Any:
        if array != "checks":
            return None
        options: dict[str, Any] = {"dtype": values.dtype, "chunks": values.shape, **foreign_filters()[name]}
        made = file.create_dataset(array, values.shape, **options)
        if made.id.get_create_plist().get_nfilters():
            made.id.write_direct_chunk((0,), bytes(20))  # some of these filters crash over other types
        return made

    rewritten(store, put=put)
    refused(store, "checks: expected chunks")


def by_hand(kind: str, folder: Path) -> Callable[[h5py.File, str, np.ndarray], Any]:
    """Frames that lie elsewhere than in chunks of this file."""

    def put(file: h5py.File, name: str, values: np.ndarray) -> Any:
        if name != "frames":
            return None
        (folder / "secret").write_bytes(values.tobytes())
        with h5py.File(folder / "other.h5", "w") as other:
            other.create_dataset("frames", data=values)
        if kind == "external storage":
            return file.create_dataset(name, values.shape, "u1", external=str(folder / "secret"))
        if kind == "virtual":
            layout = h5py.VirtualLayout(values.shape, "u1")
            layout[...] = h5py.VirtualSource(folder / "other.h5", "frames", values.shape)
            return file.create_virtual_dataset(name, layout)
        if kind == "contiguous":
            return file.create_dataset(name, data=values)
        if kind == "growing":
            return file.create_dataset(name, data=values, maxshape=(None, 6, 5, 3), chunks=(16, 6, 5, 3), **OURS)
        if kind == "other chunks":
            return file.create_dataset(name, data=values, chunks=(41, 6, 5, 3), **OURS)
        if kind == "group":
            return file.create_group(name)
        if kind == "references":
            return file.create_dataset(name, values.shape, h5py.ref_dtype, chunks=(16, 6, 5, 3), **OURS)
        if kind == "other shape":
            return file.create_dataset(name, data=values[:-1], chunks=(16, 6, 5, 3), **OURS)
        file.create_dataset("elsewhere", data=values, chunks=(16, 6, 5, 3), **OURS)
        file[name] = h5py.SoftLink("/elsewhere") if kind == "soft link" else h5py.ExternalLink("other.h5", "frames")
        return file

    return put


KINDS = ["external storage", "virtual", "contiguous", "growing", "other chunks", "group", "references", "other shape"]


@pytest.mark.parametrize("kind", [*KINDS, "soft link", "external link"])
def test_arrays_that_lie_elsewhere_are_refused(store: EpisodeStore, tmp_path: Path, kind: str) -> None:
    rewritten(store, put=by_hand(kind, tmp_path))
    refused(store)


@pytest.mark.parametrize("options", [{"libver": "earliest"}, {"userblock_size": 512}])
def test_files_of_another_build_are_refused(store: EpisodeStore, options: dict[str, Any]) -> None:
    rewritten(store, **options)
    refused(store)


@pytest.mark.parametrize("kind", ["reference", "text of any length", "huge", "missing"])
def test_headers_that_are_no_plain_text_are_refused(store: EpisodeStore, kind: str) -> None:
    with h5py.File(store.path(0), "r+") as file:
        text = header_bytes(file)
        del file.attrs["header"]
        if kind == "reference":
            file.attrs["header"] = file["frames"].ref
        elif kind == "text of any length":
            file.attrs["header"] = text.decode()
        elif kind == "huge":
            file.attrs["header"] = np.bytes_(text + b" " * 10**6)
    refused(store)


def test_a_named_type_is_read_or_refused(store: EpisodeStore) -> None:
    def put(file: h5py.File, name: str, values: np.ndarray) -> Any:
        if name == "frames":
            file["type"] = np.dtype("u1")
            return file.create_dataset(name, values.shape, file["type"], values, chunks=(16, 6, 5, 3), **OURS)
        return None

    rewritten(store, put=put)
    try:
        assert_same(EpisodeStore.open(store.folder).read(0), make_episode())
    except EpisodeError:
        refused(store)


def bomb(store: EpisodeStore, frames: int) -> None:
    """Episode 0 becomes a file of a few KB whose chunks all claim to be there, and are all the same."""
    shape = (frames, 64, 64, 3)
    with h5py.File(io.BytesIO(hdf5.to_bytes(make_episode(steps=16)))) as file:
        header = json.loads(header_bytes(file))
    dtypes = {"frames": "|u1", "actions": "<i8", "rewards": "<f4", "checks": "<u4", "infos/now": "<i8"}
    sizes = {"frames": shape, "actions": (frames - 1,), "rewards": (frames - 1,), "checks": (-(-frames // 16),)}
    with h5py.File(store.path(0), "w", libver=("v110", "v110")) as file:
        for name, dtype in dtypes.items():
            size = sizes.get(name, (frames,))
            chunk = hdf5.chunk_shape(name, size, np.dtype(dtype).itemsize)
            array = file.create_dataset(name, size, dtype, chunks=chunk, **OURS)
            array[: chunk[0]] = 0
            file.flush()
            raw = array.id.read_direct_chunk((0,) * len(size))[1]
            for start in range(0, size[0], chunk[0]):
                array.id.write_direct_chunk((start,) + (0,) * (len(size) - 1), raw)
            header["arrays"][name] |= {"shape": list(size), "dtype": dtype}
        text = json.dumps(header).encode()
        file.attrs["header"] = np.bytes_(text)
        file.attrs["sha256"] = np.bytes_(hashlib.sha256(text).hexdigest())


def test_a_small_file_that_claims_much_is_refused_with_both_sizes(tmp_path: Path) -> None:
    store = EpisodeStore.create(tmp_path, counter_info())
    store.write(make_episode())
    bomb(store, 40_000)
    assert store.path(0).stat().st_size < 400_000
    refused(store, rf"stored bytes claim to hold 49\d,.*at most {untrusted.MIN_UNPACKED_LIMIT:,} are allowed")


def test_an_episode_of_a_still_frame_is_read_however_well_it_packs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (hdf5, untrusted):
        monkeypatch.setattr(module, "MIN_UNPACKED_LIMIT", 1 << 12)
        monkeypatch.setattr(module, "MAX_EXPANSION", 4)
    store = EpisodeStore.create(tmp_path, counter_info())
    still = make_episode(steps=400, frames=np.zeros((401, 6, 5, 3), np.uint8))
    store.write(still)
    assert store.path(0).stat().st_size >= still.frames.nbytes // 4
    assert_same(EpisodeStore.open(tmp_path).read(0), still)
    os.truncate(store.path(0), store.path(0).stat().st_size - 3000)
    refused(store, "claim to hold")


def claims(frames: int, *shape: int) -> dict[str, dict[str, Any]]:
    return {
        "frames": {"shape": [frames, *shape], "dtype": "|u1"},
        "actions": {"shape": [frames - 1], "dtype": "<i8"},
        "rewards": {"shape": [frames - 1], "dtype": "<f4"},
    }


@pytest.mark.parametrize("claimed", [claims(27_001, 210, 160, 3), claims(108_001, 84, 84, 4), claims(5, 4096, 4096, 4)])
def test_half_an_hour_of_atari_is_within_the_ceilings(claimed: dict[str, dict[str, Any]]) -> None:
    hdf5.check_sizes("x", claimed)


@pytest.mark.parametrize(
    ("claimed", "words"),
    [
        (claims(2, 5000, 5000, 3), "a frame of"),
        (claims(50_000, 210, 210, 3), "are allowed for an episode"),
        (claims(9_000_000, 1, 1, 1), "chunks, expected at most"),
        (claims(100, 8, 8, 3) | {"infos/x": {"shape": [100, 10**8], "dtype": "<f4"}}, "are allowed for an episode"),
    ],
)
def test_beyond_the_ceilings_nothing_is_written_or_read(claimed: dict[str, dict[str, Any]], words: str) -> None:
    with pytest.raises(ValueError, match=f"x: .*{words}"):
        hdf5.check_sizes("x", claimed)


@pytest.mark.parametrize("infos", [[f"info {i:030}" for i in range(500)], ["a//b"], ["../x"], ["."], [""]])
def test_infos_that_could_not_be_read_are_not_written(infos: list[str]) -> None:
    with pytest.raises(ValueError, match=r"episode 0: .*(fewer info_keys|a name without empty parts)"):
        hdf5.to_bytes(make_episode(infos={name: np.arange(41) for name in infos}))


def test_truth_values_of_other_bytes_are_refused(store: EpisodeStore) -> None:
    flags = np.full(41, 7, np.uint8).view(bool)
    content = bytes(hdf5.to_bytes(make_episode(infos={"alive": flags})))
    with pytest.raises(EpisodeError, match="expected bytes of 0 and 1"):
        EpisodeFile(Path("x"), content=content).episode()


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_an_episode_that_is_no_regular_file_is_refused_and_repaired(tmp_path: Path, kind: str) -> None:
    store = EpisodeStore.create(tmp_path / "episodes", counter_info())
    special(tmp_path, kind).rename(store.path(0))
    refused(store, f"expected a regular file, got a {kind}")
    assert quarantine(store, 0).parent.name == "quarantine"


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_a_description_that_is_no_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    special(tmp_path, kind).rename(tmp_path / "dataset.json")
    for door in (EpisodeStore.open, lambda folder: EpisodeStore.create(folder, counter_info())):
        with pytest.raises(ValueError, match=rf"dataset\.json: .*got a {kind}"):
            door(tmp_path)


def test_frames_that_were_read_can_be_changed_without_changing_later_ones(store: EpisodeStore) -> None:
    store.frames(0, 0, 5)[...] = 0
    np.testing.assert_array_equal(store.frames(0, 0, 5), make_episode().frames[:5])


def test_chunks_that_changed_places_are_noticed_by_a_slice(store: EpisodeStore) -> None:
    def put(file: h5py.File, name: str, values: np.ndarray) -> Any:
        if name != "frames":
            return None
        swapped = np.concatenate([values[16:32], values[:16], values[32:]])
        return file.create_dataset(name, data=swapped, chunks=(16, 6, 5, 3), **OURS)

    rewritten(store, put=put)
    with pytest.raises(EpisodeError, match="crc32"):
        EpisodeStore.open(store.folder).frames(0, 0, 3)

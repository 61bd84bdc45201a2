"""Minari datasets of others: read in a process that may die, from this file alone, and only what Minari writes."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import hdf5plugin
import minari
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from minari.data_collector import EpisodeBuffer

from tests.helpers_data import SPACES, array_in, odd_store
from worldmodel.data.convert.convert import export_episodes, import_episodes
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.episode import Episode
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.untrusted import UntrustedFileError

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 16, 24, 3), np.uint8)
STEPS = {"actions": np.array([1, 0, 2]), "rewards": np.array([0.5, 0.0, 1.0])}
THREE = Discrete(3)


def dataset(folder: Path, observations, space, steps=STEPS, actions=THREE, infos=None, jpeg=False, ended=None):
    """A dataset of one episode as Minari writes it, at `folder`/set-v0."""
    ends = {"terminations": np.array(ended or [False] * 3), "truncations": np.array([False] * 3)}
    data: dict[str, Any] = {"observations": observations, **steps, **ends, "infos": infos or {}}
    buffer = EpisodeBuffer(**data)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the author
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        settings = {"observation_space": space, "action_space": actions, "jpeg_encoding": jpeg}
        minari.create_dataset_from_buffers("set-v0", [buffer], **settings)
    return folder / "set-v0"


def plain(folder: Path, **options) -> Path:
    return dataset(folder, FRAMES, Box(0, 255, FRAMES.shape[1:], np.uint8), **options)


def first_episode(file: h5py.File) -> h5py.Group:
    group = file["episode_0"]
    assert isinstance(group, h5py.Group)
    return group


def replaced(folder: Path, name: str, **options) -> Path:
    """The plain dataset, with one of its arrays made anew by `h5py` under these options."""
    path = plain(folder)
    with h5py.File(path / "data/main_data.hdf5", "a") as file:
        values = array_in(file, f"episode_0/{name}")[...]
        del file[f"episode_0/{name}"]
        first_episode(file).create_dataset(name, **{"data": values, **options})
    return path


@pytest.mark.parametrize(
    ("shape", "taken"), [((16, 24, 3), True), ((16, 24, 1), True), ((16, 24), True), ((3, 16, 24), True),
                         ((1, 16, 24), True), ((12, 16, 24), False), ((16, 24, 12), False), ((4, 16, 24), False)],
)  # fmt: skip
def test_frames_of_every_layout_are_right_or_refused_by_name(tmp_path, shape, taken):
    frames = np.random.default_rng(1).integers(0, 256, (4, *shape), np.uint8)
    path = dataset(tmp_path, frames, Box(0, 255, shape, np.uint8))
    if not taken:
        with pytest.raises(ValueError, match=r"set-v0, episode 0, frame 0: expected images of 1 to 4 channels"):
            import_episodes(path, tmp_path / "mine")
        return
    expected = frames[..., None] if len(shape) == 2 else frames.transpose(0, 2, 3, 1) if shape[0] < 4 else frames
    found = import_episodes(path, tmp_path / "mine").read(0).frames
    np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))


@pytest.mark.parametrize("flat", [True, False])
def test_images_that_minari_packed_as_jpeg_come_in_nearly_as_they_were(tmp_path, flat):
    frames = np.broadcast_to(np.array([40, 90, 200, 250], np.uint8)[:, None, None, None], (4, 48, 64, 3)).copy()
    if not flat:
        frames[1, :24] = 10  # JPEG files of several lengths
    path = dataset(tmp_path, frames, Box(0, 255, (48, 64, 3), np.uint8), jpeg=True)
    assert np.abs(import_episodes(path, tmp_path / "mine").read(0).frames.astype(int) - frames).max() < 40


SPACES_OF_ACTIONS = [
    (Discrete(3, start=-1), np.array([-1, 0, 1])),
    (MultiDiscrete([2, 3]), np.array([[0, 2], [1, 1], [0, 0]])),
    (MultiBinary(2), np.array([[0, 1], [1, 1], [0, 0]], np.int8)),
    (Box(-np.inf, np.inf, (2,), np.float32), np.ones((3, 2), np.float32)),
    (Box(-2, np.float64(3.5), (2, 1), np.float64), np.ones((3, 2, 1))),
]


@pytest.mark.parametrize(("space", "values"), SPACES_OF_ACTIONS)
def test_every_space_that_we_know_comes_in(tmp_path, space, values):
    store = import_episodes(plain(tmp_path, actions=space, steps={**STEPS, "actions": values}), tmp_path / "mine")
    assert store.info.action_space == space
    np.testing.assert_array_equal(store.actions(0), values)


def test_what_is_left_out_of_a_dataset_is_named(tmp_path):
    spaces = {"rgb": Box(0, 255, (16, 24, 3), np.uint8), "speed": Box(-1, 1, (2,)), "map": Box(0, 9, (4, 4), np.uint8)}
    parts = {"rgb": FRAMES, "speed": np.zeros((4, 2), np.float32), "map": np.zeros((4, 4, 4), np.uint8)}
    said = []
    path = dataset(tmp_path, parts, Dict(spaces), infos={"pose": {"x": np.zeros(4)}})
    store = import_episodes(path, tmp_path / "mine", say=said.append)
    np.testing.assert_array_equal(store.read(0).frames, FRAMES)
    assert said == ["left out: observation map, observation speed, infos/pose/x"]


def test_two_images_in_an_observation_are_refused_by_name(tmp_path):
    parts, space = {"left": FRAMES, "right": FRAMES}, Box(0, 255, (16, 24, 3), np.uint8)
    path = dataset(tmp_path, parts, Dict({"left": space, "right": space}))
    with pytest.raises(ValueError, match=r"expected one uint8 image .*'left'.*'right'"):
        import_episodes(path, tmp_path / "mine")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_rewards_that_are_no_numbers_are_refused_with_episode_and_step(tmp_path, value):
    with pytest.raises(ValueError, match=r"set-v0, episode 0, step 1: rewards: expected finite numbers"):
        import_episodes(
            plain(tmp_path, steps={**STEPS, "rewards": np.array([0, value, 1.0])}), tmp_path / "mine"
        )  # fmt: skip


def test_an_end_before_the_last_step_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"episode 0: terminations: true before the last step"):
        import_episodes(plain(tmp_path, ended=[True, False, False]), tmp_path / "mine")


OWN = [{"compression": "gzip", "shuffle": True, "fletcher32": True}, {"compression": "lzf"}, {"compression": "gzip"}]


@pytest.mark.parametrize("options", OWN)
def test_filters_that_h5py_brings_along_are_read(tmp_path, options):
    path = replaced(tmp_path, "observations", chunks=(2, 16, 24, 3), **options)
    np.testing.assert_array_equal(import_episodes(path, tmp_path / "mine").read(0).frames, FRAMES)


FILTERS = {
    name: make.filter_id
    for name, make in vars(hdf5plugin).items()
    if isinstance(make, type) and issubclass(make, h5py.filters.FilterRefBase) and make.filter_id
}
# Some of them crash when they are asked: they are only named here, in a process that doesn't have them.
NAMING = """
import sys, h5py
with h5py.File(sys.argv[1], "a") as file:
    group = file["episode_0"]
    del group["rewards"]
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((3,))
    settings.set_filter(int(sys.argv[2]), h5py.h5z.FLAG_OPTIONAL, (0,) * 8)
    space, kind = h5py.h5s.create_simple((3,)), h5py.h5t.NATIVE_DOUBLE
    made = h5py.Dataset(h5py.h5d.create(group.id, b"rewards", kind, space, settings))
    made.id.write_direct_chunk((0,), bytes(24))
"""


@pytest.mark.parametrize("name", [*sorted(FILTERS), "szip", "nbit", "scaleoffset", "unknown"])
def test_all_other_filters_are_refused_before_they_see_a_byte(tmp_path, name):
    path = plain(tmp_path)
    number = {"szip": 4, "nbit": 5, "scaleoffset": 6, "unknown": 300}.get(name) or FILTERS[name]
    arguments = [str(path / "data/main_data.hdf5"), str(number)]
    env = {**os.environ, "HDF5_PLUGIN_PRELOAD": "::"}
    subprocess.run([sys.executable, "-c", NAMING, *arguments], env=env, check=True)
    with pytest.raises(UntrustedFileError, match=r"expected gzip, lzf, shuffle or fletcher32, got the filter"):
        import_episodes(path, tmp_path / "mine")


def test_data_in_other_files_of_the_machine_is_refused(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(FRAMES.tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["frames"] = FRAMES

    def outside(file: h5py.File) -> None:
        first_episode(file).create_dataset(
            "observations", FRAMES.shape, "u1", external=[(str(secret), 0, FRAMES.nbytes)]
        )

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout(FRAMES.shape, "u1")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "frames", FRAMES.shape)
        first_episode(file).create_virtual_dataset("observations", layout)

    def link(file: h5py.File) -> None:
        file["episode_0/observations"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "frames")

    def soft(file: h5py.File) -> None:
        file["out"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/")
        file["episode_0/observations"] = h5py.SoftLink("/out/frames")

    for number, make in enumerate((outside, virtual, link, soft)):
        path = plain(tmp_path / f"{number}")
        with h5py.File(path / "data/main_data.hdf5", "a") as file:
            del file["episode_0/observations"]
            make(file)
        with pytest.raises(UntrustedFileError, match=r"expected data in this file, got"):
            import_episodes(path, tmp_path / "mine")


def test_infos_that_hold_each_other_without_end_are_refused(tmp_path):
    path = plain(tmp_path)
    with h5py.File(path / "data/main_data.hdf5", "a") as file:
        infos = first_episode(file).require_group("infos")
        for name in ("a", "b"):
            infos[name] = infos
    with pytest.raises(UntrustedFileError, match=r"infos: expected at most 1,000 entries"):
        import_episodes(path, tmp_path / "mine")


MUCH = 10**9


@pytest.mark.parametrize("packed", [{}, {"compression": "gzip"}])
def test_small_files_that_claim_much_are_refused(tmp_path, packed):
    options = {"data": None, "dtype": "u1", "chunks": (64, 16, 24, 3), **packed}
    path = replaced(tmp_path, "observations", shape=(MUCH, 16, 24, 3), **options)
    with pytest.raises(UntrustedFileError, match=r"0 stored bytes cannot hold"):
        import_episodes(path, tmp_path / "mine")
    path = replaced(tmp_path / "2", "rewards", data=None, shape=(MUCH,), dtype="f8", chunks=(1024,))
    with pytest.raises(UntrustedFileError, match=r"0 stored bytes cannot hold"):
        import_episodes(path, tmp_path / "mine")


def test_an_array_that_lacks_a_chunk_is_refused_rather_than_read_as_zeros(tmp_path):
    path = replaced(tmp_path, "observations", data=None, shape=FRAMES.shape, dtype="u1", chunks=(2, 16, 24, 3))
    with h5py.File(path / "data/main_data.hdf5", "a") as file:
        array_in(file, "episode_0/observations")[:2] = FRAMES[:2]
    with pytest.raises(UntrustedFileError, match=r"cannot hold|expected 2 chunks"):
        import_episodes(path, tmp_path / "mine")


def metadata(path: Path, **changes: object) -> None:
    file = path / "data/metadata.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"total_episodes": 10**9}, "total_episodes: expected 0 to"),
        ({"total_episodes": 2}, "expected 2 episodes, got 1; missing or unexpected: episode_1"),
        ({"total_episodes": "1"}, "total_episodes: expected 0 to"),
        ({"data_format": "arrow"}, "expected data_format hdf5, got arrow"),
        ({"observation_space": None}, "observation_space: expected the JSON of a space"),
        ({"action_space": '{"type": "Discrete", "n": 1000000000000, "start": 0}'}, "at most 65,536"),
        ({"action_space": '{"type": "Tuple", "subspaces": []}'}, "expected one of Box, Discrete"),
        ({"action_space": '{"type": "Box", "dtype": "9999999f8", "shape": [], "low": 0, "high": 1}'}, "dtype"),
        ({"action_space": "["}, r"metadata\.json"),
    ],
)
def test_metadata_that_says_something_else_is_refused(tmp_path, changes, error):
    path = plain(tmp_path)
    metadata(path, **changes)
    with pytest.raises(ValueError, match=error):
        import_episodes(path, tmp_path / "mine")


def test_the_environment_that_a_dataset_names_is_not_imported(tmp_path):
    path = plain(tmp_path)
    spec = {"id": "evil-v0", "entry_point": "this_module_is_not_there:Env"}
    metadata(path, env_spec=json.dumps(spec), action_space=None)
    with pytest.raises(ValueError, match="action_space: expected the JSON of a space"):
        import_episodes(path, tmp_path / "mine")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("name", ["metadata.json", "main_data.hdf5"])
def test_pipes_are_refused_at_once(tmp_path, name):
    path = plain(tmp_path)
    (path / "data" / name).unlink()
    os.mkfifo(path / "data" / name)
    with pytest.raises(UntrustedFileError, match=rf"{name}: expected a regular file, got a pipe"):
        import_episodes(path, tmp_path / "mine")


@pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")
def test_an_environment_that_gymnasium_knows_is_recovered_from_an_export(tmp_path):
    env = {"name": "gymnasium", "id": "CartPole-v1", "kwargs": {"sutton_barto_reward": True}}
    store = EpisodeStore.create(tmp_path / "there", DatasetInfo(Discrete(2), (6, 5, 3), seed=0, env=env))
    episode = Episode(np.zeros((3, 6, 5, 3), np.uint8), np.zeros(2, int), np.zeros(2, np.float32), False, False, 0, 0)
    store.write(episode)
    export_episodes(store, tmp_path / "out-v0", "minari")
    made = minari.MinariDataset(tmp_path / "out-v0/data").recover_environment()
    assert made.spec is not None and made.spec.id == "CartPole-v1" and made.spec.kwargs["sutton_barto_reward"] is True
    made.close()
    assert import_episodes(tmp_path / "out-v0", tmp_path / "back").fingerprint() == store.fingerprint()


def test_an_environment_that_gymnasium_does_not_know_is_not_written(tmp_path):
    assert "this_is_none-v0" not in gymnasium.registry
    store = odd_store(tmp_path / "there", SPACES["choices"])
    export_episodes(store, tmp_path / "out-v0", "minari")
    assert "env_spec" not in json.loads((tmp_path / "out-v0/data/metadata.json").read_text())

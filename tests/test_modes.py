"""Every file and folder that a run leaves has the mode of the umask: who shares a disk can read a world."""

import os

import numpy as np
import pytest

from tests.helpers_env import CounterEnv, counter_info
from tests.helpers_models import small_tokenizer, small_world
from tests.helpers_modes import umask, wrong_modes
from tests.test_agents import agent_of
from tests.test_fit import CONFIG, Batches, Net, fall
from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.collect.collect import collect
from worldmodel.data.convert.convert import export_episodes, import_episodes
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.envs.dmlab import LevelCache
from worldmodel.io.video import write_png, write_video
from worldmodel.tokenizer import save_tokenizer
from worldmodel.training import fit

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")


def models(folder):
    small_world().save(folder / "world")
    save_tokenizer(small_tokenizer(), folder / "tokenizer")
    agent_of().save(folder / "agent")


def training(folder):
    fit(Net(), Batches(), CONFIG, folder / "prior", evaluate=fall)


def episodes(folder):
    store = EpisodeStore.create(folder / "episodes", counter_info())
    collect(CounterEnv, store, 2, info_keys=("now",), progress=False)
    TokenStore.create(folder / "tokens", key="k", codes=2, grid=(1, 1), time_stride=1).write(
        0, np.zeros((2, 1, 1), int)
    )
    for format in ("frames", "npz", "minari"):
        export_episodes(store, folder / f"{format}-v0", format)
        import_episodes(folder / f"{format}-v0", folder / f"from_{format}")


def images(folder):
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    write_video(folder / "a.mp4", frames)
    write_png(folder / "a.png", frames[0])


def levels(folder):
    (folder / "level").write_bytes(b"compiled")
    LevelCache(folder / "cache").write("a", str(folder / "level"))


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002], ids=oct)
@pytest.mark.parametrize("leave", [models, training, episodes, images, levels], ids=lambda f: f.__name__)
def test_what_is_written_has_the_mode_of_the_umask(tmp_path, leave, mask):
    with umask(mask):
        leave(tmp_path)
    assert any(path.is_file() for path in tmp_path.rglob("*"))
    assert not wrong_modes(tmp_path, mask)

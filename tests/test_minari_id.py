"""Minari datasets by their id: found on this machine, downloaded where there is a network, refused in one line."""

import shutil
import sys

import pytest
from gymnasium.spaces import Box

from tests.helpers_scripts import run
from tests.test_foreign_minari import FRAMES, plain
from tests.test_hub import NOBODY
from worldmodel.data.convert.convert import import_episodes
from worldmodel.data.convert.minari_id import minari_folder
from worldmodel.data.episodes.store import EpisodeStore


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    """Minari's folder of datasets on this machine; it is empty."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.delenv("MINARI_REMOTE", raising=False)
    return tmp_path / "datasets"


def test_a_dataset_on_this_machine_is_imported_by_its_id(datasets, tmp_path):
    shutil.move(plain(tmp_path / "made"), datasets / "group/set-v0")
    run("data", "import", "from=minari:group/set-v0", folder=tmp_path / "run")
    store = EpisodeStore.open(tmp_path / "run/episodes")
    assert (store.read(0).frames == FRAMES).all() and not isinstance(store.info.action_space, Box)


def test_a_dataset_elsewhere_is_downloaded_by_minari_also_if_a_part_of_it_is_here(datasets, tmp_path, monkeypatch):
    made, asked = plain(tmp_path / "made"), []
    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", lambda self, repo, **how: asked.append(repo))
    monkeypatch.setattr("minari.download_dataset", lambda name, force_download: (asked.append(force_download), copy()))

    def copy():
        shutil.copytree(made, datasets / "group/set-v0", dirs_exist_ok=True)

    assert len(import_episodes("minari:group/set-v0", tmp_path / "one").indices) == 1
    assert asked == ["farama-minari/group", False]
    (datasets / "group/set-v0/data/main_data.hdf5").unlink()
    assert len(import_episodes("minari:group/set-v0", tmp_path / "two").indices) == 1 and asked[3] is True


def test_without_a_network_one_line_says_what_is_missing_and_nothing_is_left(datasets, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", NOBODY)
    printed = run("data", "import", "from=minari:group/set-v0", folder=tmp_path / "run", ok=False)
    assert f"minari:group/set-v0 is not in {datasets / 'group/set-v0'}, and cannot be downloaded: " in printed
    assert "connect to the network" in printed and len(printed.splitlines()) == 1
    assert not (tmp_path / "run").exists() and not datasets.exists()


@pytest.mark.parametrize("name", ["set", "../set-v0", "/etc/set-v0", "", "a//b-v0", "set-v"])
def test_what_is_no_id_is_refused_by_its_key(datasets, name):
    with pytest.raises(ValueError, match=r"^from: expected minari:ID"):
        minari_folder(f"minari:{name}")


def test_a_missing_package_and_a_missing_prefix_are_named(datasets, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="from=minari:group/set-v0 means a dataset of Minari's"):
        import_episodes("group/set-v0", tmp_path / "run")
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ImportError, match=r'pip install "worldmodel\[data,hub\]"'):
        minari_folder("minari:group/set-v0")

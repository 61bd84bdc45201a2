"""Compiled code on disk: a damaged file is compiled anew with one warning, and nothing changes in what is computed."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit

from worldmodel import kernels as compiled
from worldmodel.kernels import sealed_cache as kept
from worldmodel.kernels.sealed_cache import sealed

ROOT = Path(__file__).parents[1]
MODULE = """
from numba import njit
from worldmodel.kernels.sealed_cache import sealed
calls = []
@sealed
@njit(cache=True)
def double(x):
    return 2 * x + 1
"""


def fresh(folder: Path) -> Any:
    """The function of a module in this folder, as a new process would have it."""
    name = {"__name__": "kept_example", "__file__": str(folder / "kept_example.py")}
    exec(compile((folder / "kept_example.py").read_text(), str(folder / "kept_example.py"), "exec"), name)
    return name["double"]


@pytest.fixture
def example(tmp_path, monkeypatch):
    (tmp_path / "kept_example.py").write_text(MODULE)
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path / "cache"))
    kept._warn.cache_clear()
    assert fresh(tmp_path)(3.0) == 7 and [each.suffix for each in files(tmp_path)] == [".nbc", ".nbi"]
    return tmp_path


def files(folder: Path) -> list[Path]:
    return sorted((path for path in (folder / "cache").rglob("*") if path.is_file()), key=lambda path: path.suffix)


def test_whole_files_are_read_and_nothing_is_compiled(example):
    again = fresh(example)
    assert again(3.0) == 7 and dict(again.stats.cache_hits) and not dict(again.stats.cache_misses)


DAMAGES = {
    "emptied": lambda whole: b"",
    "one byte": lambda whole: whole[:1],
    "halved": lambda whole: whole[: len(whole) // 2],
    "without its end": lambda whole: whole[:-1],
    "a bit in the middle": lambda whole: (
        whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :]
    ),
    "a bit of the seal": lambda whole: whole[:-1] + bytes([whole[-1] ^ 128]),
    "more behind": lambda whole: whole + b"more",
    "no pickle": lambda whole: b"\x00" * 4000,
    "zeros in it": lambda whole: whole[:100] + bytes(50) + whole[150:],
}


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_forgotten_and_compiled_anew_with_one_warning(damage, suffix, example):
    for path in files(example):
        if path.suffix == suffix:
            path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.warns(UserWarning, match="damaged files of compiled code") as caught:
        assert fresh(example)(3.0) == 7
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = fresh(example)
        assert again(3.0) == 7 and dict(again.stats.cache_hits)


def test_a_folder_in_place_of_a_file_and_a_full_disk_cause_warnings(example, monkeypatch):
    for path in files(example):
        path.unlink()
        path.mkdir()
    with pytest.warns(UserWarning, match="cannot be"):
        assert fresh(example)(3.0) == 7
    shutil.rmtree(example / "cache")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.warns(UserWarning, match="cannot be kept .*No space left"):
        assert fresh(example)(3.0) == 7


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_in_place_of_a_file_causes_a_warning_and_nobody_waits_for_it(example):
    for path in files(example):
        path.unlink()
        os.mkfifo(path)
    with pytest.warns(UserWarning, match="cannot be read .*expected a regular file, got a pipe"):
        assert fresh(example)(3.0) == 7


def test_every_kernel_is_kept_under_a_seal():
    from worldmodel.kernels import compiled as kernels

    made = [each for each in vars(kernels).values() if hasattr(each, "_cache")]
    assert len(made) > 20 and all(isinstance(each._cache._cache_file, kept.SealedFile) for each in made)
    assert sealed(njit(cache=True)(files))._cache._cache_file._index_name.startswith("sealed.")


@pytest.mark.slow
def test_a_dream_survives_damaged_code_of_all_kernels(tmp_path):
    """Each file is truncated or has a flipped bit; results are the same, and there is one warning."""
    program = (
        "import sys, torch, warnings; sys.path.insert(0, '.'); warnings.simplefilter('always');"
        "from worldmodel.kernels import compiled as kernels; import numpy as np; out = np.zeros((2, 7));"
        "kernels.uniform(3, np.arange(2), np.arange(2), out); print(out.tolist())"
    )
    found = []
    for round_ in range(2):
        env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("UserWarning: ") == round_ and done.stderr.count("compiling the kernels, once") == 1
        found.append(done.stdout)
        for number, path in enumerate(sorted(path for path in tmp_path.rglob("*") if path.is_file())):
            whole, place = path.read_bytes(), np.random.default_rng(number).integers(path.stat().st_size)
            path.write_bytes(whole[:place] + (b"" if number % 2 else bytes([whole[place] ^ 4]) + whole[place + 1 :]))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "error", ["RuntimeError('cannot cache function: no locator available')", "PermissionError(13)"]
)
def test_where_no_folder_takes_what_is_compiled_the_setting_is_named(error, monkeypatch):
    class Nowhere:
        def find_spec(self, name, *_):
            if name == "worldmodel.kernels.compiled":
                raise eval(error)

    monkeypatch.delitem(sys.modules, "worldmodel.kernels.compiled")
    monkeypatch.delattr("worldmodel.kernels.compiled")
    monkeypatch.setattr(sys, "meta_path", [Nowhere(), *sys.meta_path])
    compiled.available.cache_clear()
    with pytest.warns(UserWarning, match=r"plain PyTorch.*set NUMBA_CACHE_DIR"):
        assert not compiled.available()
    compiled.available.cache_clear()

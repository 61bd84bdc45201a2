"""One `.npz` file per episode with `video` and `actions`, as TECO's DeepMind Lab episodes (arXiv 2210.02396).

There, `actions[t]` leads into `video[t]`: as many actions as frames, and the first action has no meaning. Exports
follow this, with a zero as the first action. `rewards`, `terminated`, `truncated` and `infos/<name>` are additions.
Files with one action less than frames are read as well: then `actions[t]` leads from `video[t]` to the next frame,
as everywhere in this package.

A file may come from anyone. Only the needed arrays are read: first the header, which is checked against the
ceilings, then the content, whose checksum is checked at its end. Frames are read one by one.
"""

import contextlib
import math
import zipfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.data.convert.formats.cells import CellError, numbers_or_words
from worldmodel.data.convert.formats.format import EpisodeSource, Format, ImportedEpisode, has_suffix, visible
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.episode import Episode
from worldmodel.io.untrusted import UntrustedFileError, check_episode, open_regular

NAMES = ("video", "actions", "rewards", "terminated", "truncated")
INFOS = "infos/"
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy writes
KINDS = "biufU"  # numbers, and text


def matches(folder: Path) -> bool:
    return bool(_files(folder))


def write(folder: Path, info: DatasetInfo, episodes: Iterable[Episode]) -> None:
    for episode in episodes:
        actions = np.concatenate([np.zeros_like(episode.actions[:1]), episode.actions])
        arrays = {"video": episode.frames, "actions": actions, "rewards": episode.rewards}
        arrays |= {"terminated": np.array(episode.terminated), "truncated": np.array(episode.truncated)}
        arrays |= {f"{INFOS}{name}": values for name, values in episode.infos.items()}
        np.savez_compressed(folder / f"episode_{episode.index:06d}.npz", allow_pickle=False, **arrays)


def read(folder: Path) -> EpisodeSource:
    paths = _files(folder)
    return EpisodeSource(len(paths), lambda: map(_episode, paths))


def _files(folder: Path) -> list[Path]:
    return visible((path for path in folder.rglob("*") if has_suffix(path, ".npz")), folder)


def _episode(path: Path) -> ImportedEpisode:
    with _opened(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if missing := [name for name in ("actions", "video") if name not in names]:
            raise ValueError(f"{path}: expected arrays video and actions, found no {' and no '.join(missing)}")
        if len(set(names)) < len(names):
            raise ValueError(f"{path}: expected each array once")
        frames = _shape(path, archive, "video")[0]
        small = {name: _array(path, archive, name) for name in NAMES[1:] if name in names}
    actions = small["actions"][1:] if small["actions"].shape[:1] == (frames,) else small["actions"]
    if actions.dtype.kind == "U":
        actions = _parsed(path, actions)
    infos = [name for name in names if name.startswith(INFOS)]
    return ImportedEpisode(
        str(path),
        partial(_images, path),
        actions,
        small.get("rewards"),
        *(_last(path, name, small) for name in ("terminated", "truncated")),
        infos=partial(_infos, path, infos),
        missing=tuple(name for name in NAMES[2:] if name not in names),
        left_out=tuple(name for name in names if name not in NAMES),
    )


def _parsed(path: Path, texts: np.ndarray) -> np.ndarray:
    """Words, or numbers written as text."""
    try:
        return numbers_or_words(texts.ravel().tolist()).reshape(texts.shape)
    except CellError as error:
        raise ValueError(f"{path}: actions, entry {error.place}: {error}") from error


def _last(path: Path, name: str, arrays: dict[str, np.ndarray]) -> bool:
    """One true/false value, or the last of one per step. Raises ValueError if an earlier one is true."""
    values = np.asarray(arrays.get(name, False))
    if values.dtype.kind not in "biu" or values.ndim > 1 or not values.size or values.max() > 1 or values.min() < 0:
        raise ValueError(f"{path}: {name}: expected 0 or 1, or one of them for each step, got {values}")
    if values.ravel()[:-1].any():
        raise ValueError(f"{path}: {name} is true before the last step; end the episode there")
    return bool(values.ravel()[-1])


def _images(path: Path) -> Iterator[np.ndarray]:
    with _opened(path) as archive, archive.open("video.npy") as file:
        shape, fortran, dtype = _header(path, "video", file)
        if fortran:
            yield from _array(path, archive, "video")
            return
        size = math.prod(shape[1:]) * dtype.itemsize
        for _ in range(shape[0]):
            yield np.frombuffer(_exactly(file, size), dtype).reshape(shape[1:])
        _end(file)


def _infos(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    with _opened(path) as archive:
        return {name.removeprefix(INFOS): _array(path, archive, name) for name in names}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            yield archive
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        raise UntrustedFileError(f"{path}: damaged, or not an .npz file of plain arrays: {error}") from error


def _array(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(_member(archive, name)) as file:
        shape, fortran, dtype = _header(path, name, file)
        content = _exactly(file, math.prod(shape) * dtype.itemsize)
        _end(file)
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _shape(path: Path, archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    with archive.open(_member(archive, name)) as file:
        return _header(path, name, file)[0]


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in COMPRESSIONS or member.flag_bits & 1:
        raise ValueError(f"{name}: expected a stored or deflated array, without a password")
    return member


def _header(path: Path, name: str, file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the order is Fortran's, and type of the array that follows."""
    version = np.lib.format.read_magic(file)
    reads = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in reads:
        raise ValueError(f"{name}: expected version 1 or 2 of the .npy format, got {version}")
    shape, fortran, dtype = reads[version](file)
    if dtype.kind not in KINDS or dtype.subdtype is not None:
        raise ValueError(f"{name}: expected plain numbers or text, got {dtype}")
    if name == "video" and not shape:
        raise ValueError("video: expected frames (t, h, w, c)")
    rows, *rest = shape or (1,)
    check_episode(f"{path}, {name}", rows, math.prod(rest) * dtype.itemsize)
    return shape, fortran, dtype


def _exactly(file: Any, size: int) -> bytes:
    content = file.read(size)
    if len(content) != size:
        raise ValueError("an array is cut short")
    return content


def _end(file: Any) -> None:
    """Read the end of an array, at which zipfile compares the checksum."""
    if file.read(1):
        raise ValueError("an array has more bytes than its header says")


NPZ = Format(matches, write, read, infos=True)

"""Files of others, damaged at random, for decoders of native code: PNG, videos, npz, tables, Minari under all filters.

No crash and no hang reaches this process. Nothing is silently wrong in formats with checksums: PNG, npz, and arrays of
HDF5 that have them. Videos, tables and other HDF5 have none: what went unnoticed in them is counted, and no failure.
"""

import io
import os
import random
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from tests.torture import Row
from tests.torture.files import mutated, outcomes_of, try_all
from worldmodel.data.convert.formats import detect
from worldmodel.data.convert.importing import Notes, convert_episodes, infer_dataset_info
from worldmodel.data.episodes.episode import Episode
from worldmodel.io import sandbox

SECONDS = 4.0  # for a decoder, before it is ended
SEALED = ("pictures", "npz", "minari_sealed")  # formats with checksums over the bytes that are damaged
UNNOTICED = "unnoticed in a format without checksums"
VIDEOS = {
    "x264.mp4": ("-c:v", "libx264"),
    "x264.mkv": ("-c:v", "libx264", "-pix_fmt", "yuv420p10le"),
    "hevc.mp4": ("-c:v", "libx265", "-x265-params", "log-level=none"),
    "prores.mov": ("-c:v", "prores_ks"),
    "mjpeg.avi": ("-c:v", "mjpeg"),
    "vp9.webm": ("-c:v", "libvpx-vp9"),
    "ffv1.mkv": ("-c:v", "ffv1"),
}
FILTERS = {
    name: make.filter_id
    for name, make in vars(hdf5plugin).items()
    if isinstance(make, type) and issubclass(make, h5py.filters.FilterRefBase) and make.filter_id
}
# Some filters crash while they write: each one does it in a process of its own, and those that cannot are passed over.
PACK = """
import sys, h5py, hdf5plugin
with h5py.File(sys.argv[1], "a") as file:
    group = file["episode_0"]
    values = group["observations"][...]
    del group["observations"]
    chunks = (2, *values.shape[1:])
    own = {"fletcher32": True, "compression": "gzip"}
    options = own if sys.argv[2] == "own" else getattr(hdf5plugin, sys.argv[2])()
    group.create_dataset("observations", data=values, chunks=chunks, **options)
    group.file.flush()
"""


def decoders(tried: int, folder: Path) -> Row:
    """Damaged files of others, over all formats, codecs and filters."""
    made = make_all(folder)
    outcomes = outcomes_of("foreign", tried, folder)
    counts = Counter(outcomes)
    good = ("refused", "same", UNNOTICED)
    wrong = [f"{i}: {outcome}" for i, outcome in enumerate(outcomes) if outcome not in good]
    counted = ", ".join(f"{counts[outcome]} {outcome}" for outcome in good)
    note = f"{made} data sets, {len(FILTERS)} filters of hdf5plugin; {counted}; {'; '.join(wrong[:3])}".rstrip("; ")
    return Row("files of others, damaged", tried, len(wrong), note)


def video() -> np.ndarray:
    """Six small frames of noise and shapes."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 60, (6, 32, 48, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[8:20, 4 * number : 4 * number + 12] = rng.integers(100, 256, 3)
    return frames


def make_all(folder: Path) -> int:
    """Data sets of one episode each, in folders named KIND.NAME; how many there are."""
    frames, rewards = video(), np.arange(5) / 4
    table = "episode,action,reward\n" + "".join(f"one,{i % 3},{rewards[i]}\n" for i in range(5))
    for kind in ("pictures", "table"):
        make_pictures(folder / f"{kind}.png", frames, table)
    (folder / "npz.npz").mkdir()
    np.savez_compressed(folder / "npz.npz/one.npz", video=frames, actions=np.arange(5) % 3, rewards=rewards)
    for name, options in VIDEOS.items():
        make_video(folder / f"video.{name}", frames, options, table)
    make_minari(folder, frames, rewards)
    return len(list(folder.iterdir()))


def make_pictures(folder: Path, frames: np.ndarray, table: str) -> None:
    from PIL import Image

    (folder / "one").mkdir(parents=True)
    (folder / "actions.csv").write_text(table)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"one/{number}.png")


def make_video(folder: Path, frames: np.ndarray, options: tuple[str, ...], table: str) -> None:
    from moviepy.config import FFMPEG_BINARY

    folder.mkdir()
    (folder / "actions.csv").write_text(table)
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "48x32", "-r", "10", "-i", "-"]
    command = [str(FFMPEG_BINARY), "-v", "error", *raw, *options, str(folder / f"one{folder.suffix}")]
    subprocess.run(command, input=frames.tobytes(), check=True)


def make_minari(folder: Path, frames: np.ndarray, rewards: np.ndarray) -> None:
    """One as Minari writes it, one with checksums, and one for each filter that can write."""
    from gymnasium.spaces import Box, Discrete
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    plain = folder / "minari.plain"
    plain.mkdir()
    space = Box(0, 255, frames.shape[1:], np.uint8)
    storage = MinariStorage.new(plain / "data", space, Discrete(3), jpeg_encoding=False)
    data: dict[str, Any] = {"observations": frames, "actions": np.arange(5) % 3, "rewards": rewards}
    data |= {"terminations": np.zeros(5, bool), "truncations": np.zeros(5, bool)}
    storage.update_episodes([EpisodeBuffer(**data)])
    for name in ("own", *FILTERS):
        kind = "minari_sealed" if name == "own" else "minari_filter"
        copy = Path(shutil.copytree(plain, folder / f"{kind}.{name}"))
        command = [sys.executable, "-c", PACK, str(copy / "data/main_data.hdf5"), name]
        if subprocess.run(command, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode:
            shutil.rmtree(copy)


def taken_in(folder: Path) -> Episode:
    """The one episode of a folder, as an import would have it."""
    source = detect(folder).read(folder)
    with closing(source):
        (episode,) = convert_episodes(source, infer_dataset_info(folder, source, None, None), None, Notes())
    return episode


def foreign(folder: Path, numbers: range) -> None:
    """Runs in the reader: attempt i damages a file of one of the data sets, reads, and puts the file right again."""
    warnings.simplefilter("ignore")
    sandbox.SECONDS = SECONDS
    folders = sorted(folder.iterdir())
    by_kind: dict[str, list[Path]] = {}
    for each in folders:
        by_kind.setdefault(each.name.split(".")[0], []).append(each)
    right: dict[Path, Episode | None] = {}
    try_all(partial(attempt, random.Random(number), by_kind, right) for number in numbers)


def attempt(chance: random.Random, by_kind: dict[str, list[Path]], right: dict[Path, Episode | None]) -> str:
    # Videos and HDF5 start a process for each file: fewer of them fit into the time.
    kind = chance.choices(list(by_kind), [4 if kind in ("pictures", "npz", "table") else 1 for kind in by_kind])[0]
    folder = chance.choice(by_kind[kind])
    path, damage = damaged(kind, folder, chance)
    if folder not in right:
        right[folder] = None if kind == "minari_filter" else taken_in(folder)
    content = path.read_bytes()
    try:
        path.write_bytes(damage(content))
        return judge(kind, taken_in(folder), right[folder])
    finally:
        path.write_bytes(content)


def damaged(kind: str, folder: Path, chance: random.Random) -> tuple[Path, Callable[[bytes], bytes]]:
    """Which file, and what is done to its bytes."""
    names = {"pictures": "one/*.png", "table": "*.csv", "npz": "*.npz", "video": "one.*"}
    path = chance.choice(sorted(folder.glob(names.get(kind, "data/*.hdf5"))))
    if kind == "minari_sealed":
        return path, partial(chunk_damaged, chance=chance)
    return path, lambda content: mutated(content, content[::-1], [], chance)


def chunk_damaged(content: bytes, chance: random.Random) -> bytes:
    """Damage within what a checksum covers: the stored chunks of the frames."""
    with h5py.File(io.BytesIO(content)) as file:
        frames = file["episode_0/observations"].id
        chunk = frames.get_chunk_info(chance.randrange(frames.get_num_chunks()))
    start, stop = chunk.byte_offset, chunk.byte_offset + chunk.size
    inside = bytearray(content[start:stop])
    for _ in range(chance.randint(1, 8)):
        inside[chance.randrange(len(inside))] ^= 1 << chance.randrange(8)
    return content[:start] + bytes(inside) + content[stop:]


def judge(kind: str, found: Episode, right: Episode | None) -> str:
    if right is None:
        return UNNOTICED  # only where the damage took the filter out of the header
    pairs = ((getattr(found, name), getattr(right, name)) for name in ("frames", "actions", "rewards"))
    if all(np.array_equal(one, two) for one, two in pairs) and found.terminated == right.terminated:
        return "same"
    return f"silently wrong: {kind}" if kind in SEALED else UNNOTICED

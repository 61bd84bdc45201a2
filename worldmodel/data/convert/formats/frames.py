"""One video (`NAME.mp4`) or one folder of PNG images (`NAME/`) per episode, with a table of the steps.

Each row of the table is a step, in order. The columns are `episode` (NAME), `action` (a number or a word; `action_0`,
`action_1`, ... for several numbers) and optionally `reward`, `terminated` and `truncated`. Row i of an episode leads
from its image i to the next one, so an episode has one row less than images. Images are sorted by the numbers in
their names. The table is `actions.csv`, or `NAME.csv` for each episode; there the column `episode` is optional.
File names may be in upper or lower case; hidden files and folders are skipped.

Exports are PNG images, without loss. Infos are not stored.
"""

import csv
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from worldmodel.data.convert.formats.format import EpisodeSource, Format, ImportedEpisode, has_suffix, visible
from worldmodel.data.convert.formats.png import read_png
from worldmodel.data.convert.formats.table import OUTCOMES, Steps, normalized, read_table
from worldmodel.data.convert.formats.video import SUFFIXES, read_video
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.episode import Episode

TABLE = "actions.csv"
CHANNELS = (1, 2, 3, 4)  # of a PNG: grey, grey and alpha, RGB, RGBA


def matches(folder: Path) -> bool:
    return bool(_tables(folder, _clips(folder)))


def write(folder: Path, info: DatasetInfo, episodes: Iterable[Episode]) -> None:
    """Raises ValueError for frames with more than four channels, the limit of PNG."""
    if (channels := info.frame_shape[2]) not in CHANNELS:
        raise ValueError(f"frames: a PNG holds 1 to 4 channels, these frames have {channels}: export to npz or minari")
    count = int(np.prod(info.action_space.shape or ()))
    columns = [f"action_{i}" for i in range(count)] if info.action_space.shape else ["action"]
    with open(folder / TABLE, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["episode", *columns, *OUTCOMES])
        for episode in episodes:
            name = f"episode_{episode.index:06d}"
            table.writerows(_rows(name, episode))
            _save(folder / name, episode.frames)


def _save(folder: Path, frames: UInt8[np.ndarray, "t h w c"]) -> None:
    folder.mkdir()
    for number, frame in enumerate(frames):
        image = frame[..., 0] if frame.shape[2] == 1 else frame
        Image.fromarray(image).save(folder / f"frame_{number:06d}.png")


def _rows(name: str, episode: Episode) -> Iterator[list]:
    """Rows of the table; numbers are written with `repr`, which reads back as the same number."""
    actions = episode.actions.reshape(len(episode), -1).tolist()
    for i, (action, reward) in enumerate(zip(actions, episode.rewards.tolist(), strict=True)):
        last = i == len(episode) - 1
        yield [name, *map(_plain, action), reward, int(episode.terminated and last), int(episode.truncated and last)]


def _plain(value: float | bool) -> float:
    return int(value) if isinstance(value, bool) else value


def read(folder: Path) -> EpisodeSource:
    """Raises ValueError if tables and clips name different episodes, or if a table breaks the rules above."""
    clips, table = _clips(folder), {}
    for path in _tables(folder, clips):
        steps = read_table(path, path.stem, named=path.name.lower() == TABLE)
        if twice := table.keys() & steps.keys():
            raise ValueError(
                f"{path}: {min(twice)} has rows in {table[min(twice)].path.name} as well; keep one of them"
            )
        table |= steps
    if unpaired := sorted(clips.keys() ^ table.keys()):
        raise ValueError(_unpaired(folder, unpaired, set(clips), table))
    return EpisodeSource(len(clips), lambda: (_episode(path, table[name]) for name, path in clips.items()))


def _unpaired(folder: Path, names: list[str], clips: set[str], table: dict[str, Steps]) -> str:
    """The message for episodes that have only a clip or only rows; says what the first one lacks."""
    first, what = names[0], "rows in a table"
    if first not in clips:
        is_folder = (folder / first).is_dir()
        what = f"PNG images in the folder {first}" if is_folder else f"clip ({first}.mp4 or {first}/)"
    places = {name: f" ({steps.path.name}, line {steps.lines[0]})" for name, steps in table.items()}
    shown = ", ".join((name or "an empty name") + places.get(name, "") for name in names[:5])
    return (
        f"{folder}: expected a clip and rows of a table for every episode; "
        f"one of them is missing for {shown}; {len(names)} in all: {first} has no {what}"
    )


def _clips(folder: Path) -> dict[str, Path]:
    """Videos and folders of images by name, in natural order."""
    paths = visible(folder.iterdir(), folder)
    clips = [path for path in paths if has_suffix(path, *SUFFIXES) or (path.is_dir() and _png_files(path))]
    named = {_clip_name(path): path for path in clips}
    if shadowed := [path for path in clips if path not in named.values()]:
        other = named[_clip_name(shadowed[0])]
        raise ValueError(f"{folder}: two clips of one name, {shadowed[0].name} and {other.name}; rename one of them")
    return named


def _clip_name(path: Path) -> str:
    return normalized(path.stem if has_suffix(path, *SUFFIXES) else path.name)


def _tables(folder: Path, clips: dict[str, Path]) -> list[Path]:
    """The one table for all clips, or else the tables that lie beside their clips."""
    tables = [path for path in visible(folder.iterdir(), folder) if has_suffix(path, ".csv")]
    shared = [path for path in tables if path.name.lower() == TABLE]
    beside = [path for path in tables if path not in shared and normalized(path.stem) in clips]
    if len(shared) > 1 or (shared and beside):
        names = ", ".join(path.name for path in (shared + beside)[:3])
        raise ValueError(f"{folder}: expected {TABLE} or a table for each clip, got {names}; keep one kind")
    return shared or beside


def _episode(path: Path, steps: Steps) -> ImportedEpisode:
    images = partial(_images, path) if path.is_dir() else partial(read_video, path)
    missing = tuple(name for name in OUTCOMES if name not in steps.columns)
    return ImportedEpisode(
        str(path),
        images,
        steps.actions(),
        steps.rewards(),
        steps.last("terminated"),
        steps.last("truncated"),
        missing=missing,
    )


def _images(folder: Path) -> Iterator[np.ndarray]:
    return map(read_png, _png_files(folder))


def _png_files(folder: Path) -> list[Path]:
    return visible((path for path in folder.iterdir() if has_suffix(path, ".png")), folder)


FRAMES = Format(matches, write, read, infos=False)

"""A folder with a film (`NAME.mp4`) or a folder of PNG pictures (`NAME/`) per episode, and a table of what was done.

A row of the table is a step, in order: `episode` (NAME), `action` (a number or a word; `action_0`, `action_1`, ...
where it is several numbers), and, where there are any, `reward`, `terminated` and `truncated`. Row i of an episode
leads from its picture i to the next, so there is one row less than pictures. Pictures are sorted by the numbers in
their names. The table is `actions.csv`, or `NAME.csv` for each episode, where the column `episode` is not needed.
Names of files are read in upper and lower case; hidden files and folders are passed over.

Exported are PNG pictures, without loss. There is no room for infos.
"""

import csv
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from worldmodel.data.convert.formats.films import SUFFIXES, read_film
from worldmodel.data.convert.formats.format import EpisodeSource, Format, ImportedEpisode, ends, visible
from worldmodel.data.convert.formats.pictures import read_png
from worldmodel.data.convert.formats.table import OUTCOMES, Steps, normal, read_table
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.episode import Episode

TABLE = "actions.csv"
CHANNELS = (1, 2, 3, 4)  # grey, grey and alpha, RGB, RGBA: what a PNG can hold


def matches(folder: Path) -> bool:
    return bool(_tables(folder, _clips(folder)))


def write(folder: Path, info: DatasetInfo, episodes: Iterable[Episode]) -> None:
    """Raises ValueError for frames with more than four channels, which no PNG can hold."""
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
        picture = frame[..., 0] if frame.shape[2] == 1 else frame
        Image.fromarray(picture).save(folder / f"frame_{number:06d}.png")


def _rows(name: str, episode: Episode) -> Iterator[list]:
    """Numbers as Python writes them, which reads back as the same number."""
    actions = episode.actions.reshape(len(episode), -1).tolist()
    for i, (action, reward) in enumerate(zip(actions, episode.rewards.tolist(), strict=True)):
        last = i == len(episode) - 1
        yield [name, *map(_plain, action), reward, int(episode.terminated and last), int(episode.truncated and last)]


def _plain(value: float | bool) -> float:
    return int(value) if isinstance(value, bool) else value


def read(folder: Path) -> EpisodeSource:
    """Raises ValueError where tables and clips do not name the same episodes, or a table is not as described above."""
    clips, table = _clips(folder), {}
    for path in _tables(folder, clips):
        steps = read_table(path, path.stem, named=path.name.lower() == TABLE)
        if twice := table.keys() & steps.keys():
            raise ValueError(
                f"{path}: {min(twice)} has rows in {table[min(twice)].path.name} as well; keep one of them"
            )
        table |= steps
    if lonely := sorted(clips.keys() ^ table.keys()):
        raise ValueError(_lonely(folder, lonely, set(clips), table))
    return EpisodeSource(len(clips), lambda: (_found(path, table[name]) for name, path in clips.items()))


def _lonely(folder: Path, names: list[str], clips: set[str], table: dict[str, Steps]) -> str:
    """Which episodes have only a clip or only rows, and what the first of them lacks."""
    first, what = names[0], "rows in a table"
    if first not in clips:
        inside = (folder / first).is_dir()
        what = f"PNG pictures in the folder {first}" if inside else f"clip ({first}.mp4 or {first}/)"
    places = {name: f" ({steps.path.name}, line {steps.lines[0]})" for name, steps in table.items()}
    shown = ", ".join((name or "an empty name") + places.get(name, "") for name in names[:5])
    return (
        f"{folder}: expected a clip and rows of a table for every episode; "
        f"one of them is missing for {shown}; {len(names)} in all: {first} has no {what}"
    )


def _clips(folder: Path) -> dict[str, Path]:
    """Films and folders of pictures by their name, in the order of the numbers in it."""
    paths = visible(folder.iterdir(), folder)
    clips = [path for path in paths if ends(path, *SUFFIXES) or (path.is_dir() and _png_files(path))]
    named = {normal(path.stem if ends(path, *SUFFIXES) else path.name): path for path in clips}
    if lost := [path for path in clips if path not in named.values()]:
        other = named[normal(lost[0].stem if ends(lost[0], *SUFFIXES) else lost[0].name)]
        raise ValueError(f"{folder}: two clips of one name, {lost[0].name} and {other.name}; rename one of them")
    return named


def _tables(folder: Path, clips: dict[str, Path]) -> list[Path]:
    """The one table, or else those that lie beside their clips."""
    tables = [path for path in visible(folder.iterdir(), folder) if ends(path, ".csv")]
    shared = [path for path in tables if path.name.lower() == TABLE]
    beside = [path for path in tables if path not in shared and normal(path.stem) in clips]
    if len(shared) > 1 or (shared and beside):
        names = ", ".join(path.name for path in (shared + beside)[:3])
        raise ValueError(f"{folder}: expected {TABLE} or a table for each clip, got {names}; keep one kind")
    return shared or beside


def _found(path: Path, steps: Steps) -> ImportedEpisode:
    pictures = partial(_pictures, path) if path.is_dir() else partial(read_film, path)
    rewards = steps.rewards()
    absent = tuple(name for name in OUTCOMES if name not in steps.columns)
    return ImportedEpisode(
        str(path), pictures, steps.actions(), rewards, steps.ends("terminated"), steps.ends("truncated"), absent=absent
    )


def _pictures(folder: Path) -> Iterator[np.ndarray]:
    return map(read_png, _png_files(folder))


def _png_files(folder: Path) -> list[Path]:
    return visible((path for path in folder.iterdir() if ends(path, ".png")), folder)


FRAMES = Format(matches, write, read, infos=False)

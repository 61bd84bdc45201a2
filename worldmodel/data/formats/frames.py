"""A folder with a film (`NAME.mp4`) or a folder of PNG pictures (`NAME/`) per episode, and a table of what was done.

A row of the table is a step, in order: `episode` (NAME), `action` (a number or a word; `action_0`, `action_1`, ...
where it is several numbers), and, where there are any, `reward`, `terminated` and `truncated`. Row i of an episode
leads from its picture i to the next, so there is one row less than pictures. Pictures are sorted by the numbers in
their names. The table is `actions.csv`, or `NAME.csv` for each episode, where the column `episode` is not needed.

Exported are PNG pictures, without loss. There is no room for infos.
"""

import csv
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from worldmodel.data.episode import Episode
from worldmodel.data.formats.format import Format, Found, Source, natural
from worldmodel.data.info import DatasetInfo

TABLE = "actions.csv"
FILMS = (".mp4", ".mkv", ".webm", ".mov", ".avi")
CHANNELS = (1, 2, 3, 4)  # grey, grey and alpha, RGB, RGBA: what a PNG can hold
OUTCOMES = ("reward", "terminated", "truncated")
TRUTHS = {"": False, "0": False, "false": False, "1": True, "true": True}

Columns = dict[str, list[str]]  # of one episode: name -> text of each step


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


def read(folder: Path) -> Source:
    """Raises ValueError where tables and clips do not name the same episodes, or a table is not as described above."""
    clips, table = _clips(folder), {}
    for path in _tables(folder, clips):
        table |= _read(path, path.stem)
    if lonely := clips.keys() ^ table.keys():
        raise ValueError(
            f"{folder}: expected a clip and rows of a table for every episode; "
            f"one of them is missing for {', '.join(sorted(lonely)[:5])} ({len(lonely)} in all)"
        )
    return Source(len(clips), lambda: (_found(path, table[name]) for name, path in clips.items()))


def _clips(folder: Path) -> dict[str, Path]:
    """Films and folders of pictures by their name, in the order of the numbers in it."""
    films = [path for path in folder.iterdir() if path.suffix.lower() in FILMS]
    folders = [path for path in folder.iterdir() if path.is_dir() and any(path.glob("*.png"))]
    named = {path.stem if path in films else path.name: path for path in sorted(films + folders, key=natural)}
    if len(named) < len(films) + len(folders):
        raise ValueError(f"{folder}: two clips of one name")
    return named


def _tables(folder: Path, clips: dict[str, Path]) -> list[Path]:
    """The one table, or else those that lie beside their clips."""
    paths = [folder / TABLE] if (folder / TABLE).is_file() else [folder / f"{name}.csv" for name in clips]
    return [path for path in paths if path.is_file()]


def _read(path: Path, name: str) -> dict[str, Columns]:
    """Columns of each episode in a table; `name` is that of the episode where the table does not say it.

    Raises:
        ValueError: other columns than those that are known, or a broken line.
    """
    episodes: dict[str, Columns] = {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        columns = list(rows.fieldnames or ())
        _check_columns(path, columns)
        for row in rows:
            if None in row or None in row.values():
                raise ValueError(f"{path}, line {rows.line_num}: expected {len(columns)} fields, {', '.join(columns)}")
            episode = episodes.setdefault(row.get("episode", name), {column: [] for column in columns})
            for column in columns:
                episode[column].append(row[column].strip())
    return episodes


def _check_columns(path: Path, columns: list[str]) -> None:
    actions = sorted(column for column in columns if column not in ("episode", *OUTCOMES))
    several = sorted(f"action_{i}" for i in range(len(actions)))
    if not actions or actions not in (["action"], several) or (path.name == TABLE and "episode" not in columns):
        known = f"episode, action (or action_0, action_1, ...) and perhaps {', '.join(OUTCOMES)}"
        raise ValueError(f"{path}: expected columns {known}, got {', '.join(columns) or 'none'}")


def _found(path: Path, columns: Columns) -> Found:
    pictures = partial(_pictures, path) if path.is_dir() else partial(_film, path)
    actions = _actions(path, columns)
    rewards = _numbers(path, columns["reward"]) if "reward" in columns else np.zeros(len(actions))
    terminated, truncated = (_ends(path, name, columns.get(name, [])) for name in OUTCOMES[1:])
    return Found(str(path), pictures, actions, rewards.astype(np.float32), terminated, truncated)


def _actions(path: Path, columns: Columns) -> np.ndarray:
    """Numbers `T` or `T n`; words `T` where they are no numbers."""
    if "action" not in columns:
        count = sum(name.startswith("action_") for name in columns)
        return np.stack([_numbers(path, columns[f"action_{i}"]) for i in range(count)], axis=1)
    try:
        return _numbers(path, columns["action"])
    except ValueError:
        return np.array(columns["action"])


def _numbers(path: Path, texts: list[str]) -> np.ndarray:
    """Integers where all are, else floats."""
    for kind in (int, float):
        try:
            return np.array([kind(text) for text in texts], np.dtype(kind))
        except (ValueError, OverflowError):
            continue
    raise ValueError(f"{path}: expected numbers in its table, got {', '.join(texts[:3])}, ...")


def _ends(path: Path, name: str, texts: list[str]) -> bool:
    """Whether the last step says so; with no such column, no."""
    if unknown := {text for text in texts if text.lower() not in TRUTHS}:
        raise ValueError(f"{path}: {name}: expected 0, 1, true or false in its table, got {unknown.pop()!r}")
    values = [TRUTHS[text.lower()] for text in texts]
    if any(values[:-1]):
        raise ValueError(f"{path}: its table says {name} before the last step; an episode ends there")
    return values[-1] if values else False


def _pictures(folder: Path) -> Iterator[np.ndarray]:
    for path in sorted(folder.glob("*.png"), key=natural):
        with Image.open(path) as image:
            yield np.asarray(image.convert("RGB") if image.mode in ("1", "P") else image)


def _film(path: Path) -> Iterator[np.ndarray]:
    """Every picture of a film, none twice and none left out, whatever their times of showing are.

    Raises:
        ValueError: ffmpeg finds something wrong with it.
    """
    from moviepy.config import FFMPEG_BINARY  # MoviePy's own reader goes by the clock

    output = ["-fps_mode", "passthrough", "-f", "image2pipe", "-c:v", "ppm", "-"]
    command = [str(FFMPEG_BINARY), "-nostdin", "-v", "error", "-xerror", "-i", str(path), *output]
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as ffmpeg:
        assert ffmpeg.stdout is not None
        while ffmpeg.stdout.readline():  # the lines of a PPM: its kind, its width and height, its greatest value
            width, height = map(int, ffmpeg.stdout.readline().split())
            ffmpeg.stdout.readline()
            yield np.frombuffer(ffmpeg.stdout.read(height * width * 3), np.uint8).reshape(height, width, 3)
        if ffmpeg.wait():
            log.seek(0)
            raise ValueError(f"{path}: damaged, or no film: {log.read().decode(errors='replace').strip()}")


FRAMES = Format(matches, write, read, infos=False)

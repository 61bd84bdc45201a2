"""One `.npz` file per episode, `video` and `actions`, as TECO has its DeepMind Lab episodes (arXiv 2210.02396).

There, `actions[t]` leads into `video[t]`: as many actions as frames, of which the first leads nowhere. Exported files
keep to that, with a zero in front; `rewards`, `terminated`, `truncated` and `infos/<name>` are ours. Files with one
action less than frames are read as well: then `actions[t]` leads from `video[t]` to the next frame, as everywhere here.
"""

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from worldmodel.data.episode import Episode
from worldmodel.data.formats.format import Format, Found, Source, natural
from worldmodel.data.info import DatasetInfo


def matches(folder: Path) -> bool:
    return any(folder.rglob("*.npz"))


def write(folder: Path, info: DatasetInfo, episodes: Iterable[Episode]) -> None:
    for episode in episodes:
        actions = np.concatenate([np.zeros_like(episode.actions[:1]), episode.actions])
        arrays = {"video": episode.frames, "actions": actions, "rewards": episode.rewards}
        arrays |= {"terminated": np.array(episode.terminated), "truncated": np.array(episode.truncated)}
        arrays |= {f"infos/{name}": values for name, values in episode.infos.items()}
        np.savez_compressed(folder / f"episode_{episode.index:06d}.npz", allow_pickle=False, **arrays)


def read(folder: Path) -> Source:
    paths = sorted(folder.rglob("*.npz"), key=natural)
    return Source(len(paths), lambda: map(_find, paths))


def _find(path: Path) -> Found:
    arrays = _load(path)
    if missing := {"video", "actions"} - arrays.keys():
        raise ValueError(f"{path}: expected arrays video and actions, found no {' and no '.join(sorted(missing))}")
    actions = arrays["actions"]
    if len(actions) == len(arrays["video"]):
        actions = actions[1:]
    rewards = arrays.get("rewards", np.zeros(len(actions))).astype(np.float32)
    terminated, truncated = (bool(arrays.get(name, False)) for name in ("terminated", "truncated"))
    infos = {name.removeprefix("infos/"): arrays[name] for name in arrays if name.startswith("infos/")}
    return Found(str(path), partial(_pictures, path), actions, rewards, terminated, truncated, infos=infos)


def _pictures(path: Path) -> Iterator[np.ndarray]:
    yield from _load(path)["video"]


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged, or no .npz file of plain arrays: {error}") from error


NPZ = Format(matches, write, read, infos=True)

"""A folder of episodes, one HDF5 file each, read in slices and safe to read from many processes."""

import contextlib
import hashlib
import itertools
import os
import re
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from jaxtyping import Float32, UInt8

from worldmodel.data.episodes import hdf5
from worldmodel.data.episodes.claim import check_unchanged, claim
from worldmodel.data.episodes.dataset_info import FILE as INFO_FILE
from worldmodel.data.episodes.dataset_info import DatasetInfo, differences
from worldmodel.data.episodes.episode import Episode
from worldmodel.data.episodes.hdf5 import EpisodeError, EpisodeFile, Header
from worldmodel.data.episodes.origins import Origins, read_origins, settings, write_origins
from worldmodel.data.episodes.signature import check_belongs, check_fits, check_values, disagreements
from worldmodel.io.files import Recent, sweep, sweep_beside, write_whole
from worldmodel.io.folders import make_folder
from worldmodel.io.lock import writer_lock
from worldmodel.io.progress import progress
from worldmodel.io.untrusted import read_bytes

__all__ = ["DatasetInfo", "EpisodeError", "EpisodeStore", "Header"]

QUARANTINE = "quarantine"  # folder for damaged files, beside the others
OPEN_FILES = 256  # per process; many systems allow 1024
SMALL_EPISODES = 8192  # episodes whose actions and rewards stay in memory: 12 bytes a step when actions are int64
NAME = re.compile(r"episode_(\d{6,})\.h5")


class EpisodeStore:
    """Episodes by index, in one folder beside a `dataset.json` that says what they have in common.

    Copies that travel to other processes (pickled or forked) open files of their own.
    """

    def __init__(self, folder: Path | str, info: DatasetInfo):
        self.folder = Path(folder)
        self.info = info
        self.clear_cache()

    @classmethod
    def create(cls, folder: Path | str, info: DatasetInfo) -> "EpisodeStore":
        """An empty store, or the one that is there when its `dataset.json` says the same.

        Other settings are replaced where they have made no episode yet.

        Raises:
            ValueError: the folder holds episodes of other settings; names every setting that differs.
            FolderInUse: another process writes there.
        """
        folder = Path(folder)
        make_folder(folder)
        if not (folder / INFO_FILE).exists() or differences(DatasetInfo.load(folder).to_json(), info.to_json()):
            with writer_lock(folder, "collection"):
                sweep(folder)
                claim(folder, info, occupied=bool(_indices(folder)))
        return cls(folder, info)

    @classmethod
    def open(cls, folder: Path | str) -> "EpisodeStore":
        """The store in a folder that has at least one finished episode, or behind a URL (see `remote`).

        Raises:
            ValueError: no dataset, or no episode in it.
        """
        if "://" in str(folder):
            from worldmodel.data.episodes.remote import RemoteStore  # which is a store as well

            return RemoteStore.connect(str(folder))
        folder = Path(folder)
        store = cls(folder, DatasetInfo.load(folder))
        if not store.indices:
            raise ValueError(f"{folder} holds no finished episode; run scripts/collect.py to collect some")
        return store

    @property
    def indices(self) -> tuple[int, ...]:
        """Which episodes are finished, in order; damaged ones among them (see `find_damaged`)."""
        return _indices(self.folder)

    @property
    def lengths(self) -> dict[int, int]:
        """Frames of each episode. Raises EpisodeError if one is damaged; `length` asks for one alone."""
        return {index: self.length(index) for index in self.indices}

    def path(self, index: int) -> Path:
        return self.folder / f"episode_{index:06d}.h5"

    def write(self, episode: Episode) -> None:
        """Stores an episode: afterwards it is on the disk whole, or, after a kill, not there at all.

        Raises:
            ValueError: an episode that does not fit the dataset.
            OSError: the disk is full or refuses; nothing is left behind.
        """
        check_fits(episode, self.info)
        write_whole(self.path(episode.index), hdf5.to_bytes(episode))
        self.clear_cache()

    def header(self, index: int) -> Header:
        """Seed, outcome and array shapes of an episode; kept in memory once read."""
        self._reopen_after_fork()
        if index not in self._headers:
            self._file(index)
        return self._headers[index]

    def length(self, index: int) -> int:
        """Frames of an episode: one more than actions."""
        return self.header(index).frames

    def frames(self, index: int, start: int, stop: int) -> UInt8[np.ndarray, "t h w c"]:
        """Frames `start` to `stop - 1` of an episode; only the chunks that they lie in are decompressed."""
        return self._file(index).frames(start, stop)

    def actions(self, index: int) -> np.ndarray:
        """Raw actions `T *space`, read-only; kept in memory once read."""
        return self._actions_and_rewards(index)[0]

    def rewards(self, index: int) -> Float32[np.ndarray, "T"]:
        """Rewards, read-only; kept in memory once read."""
        return self._actions_and_rewards(index)[1]

    def read(self, index: int) -> Episode:
        """The whole episode, every array checked against its sha256.

        Raises:
            EpisodeError: the file is missing, cut short, changed, or not of this dataset.
        """
        return self._file(index).episode()

    def verify(self, index: int) -> None:
        """Reads all of an episode anew from the disk; raises EpisodeError if it is not what was written, or holds
        a reward that is not finite or an action outside the space."""
        path = self.path(index)
        with contextlib.closing(EpisodeFile(path)) as file:
            check_belongs(file, index, self.info)
            episode = file.episode()
        try:
            check_values(path, episode.actions, episode.rewards, self.info)
        except ValueError as error:
            raise EpisodeError(f"{error}; no model can learn from it") from error

    def find_damaged(self, workers: int = 1, show: bool = False) -> dict[int, str]:
        """What is wrong with which episode; empty when all are whole. Reads every byte of the dataset.

        `workers` processes of their own read, or with 0 or 1 this one; `show` draws a bar.
        """
        indices = self.indices
        options: dict[str, Any] = {"return_as": "generator_unordered"}
        pool: Any = joblib.Parallel(max(1, min(workers, len(indices))), **options)
        found = pool(joblib.delayed(_problem)(self, index) for index in indices)
        checked = progress(found, "verify", total=len(indices), unit="episode", shown=show)
        return dict(sorted((index, problem) for index, problem in checked if problem))

    def quarantine(self, index: int) -> Path:
        """Move the file of an episode into `quarantine/`, under a name that is free there; returns where it is now.

        The store no longer has the episode, so `collect` collects it again. Nothing in there is read or deleted.
        """
        path, folder = self.path(index), self.folder / QUARANTINE
        make_folder(folder)
        names = itertools.chain([path.name], (f"{path.name}.{number}" for number in itertools.count(1)))
        free = next(folder / name for name in names if not (folder / name).exists())
        os.rename(path, free)
        self.clear_cache()
        return free

    def repair(self, workers: int = 1, show: bool = False) -> dict[str, Path]:
        """Move all damaged episodes into `quarantine/`: each problem, and where the file is now.

        Raises:
            FolderInUse: another process writes there.
        """
        with writer_lock(self.folder, "repair"):
            self.sweep()
            sweep_beside(self.folder)
            problems = self.find_damaged(workers, show)
            return {problem: self.quarantine(index) for index, problem in problems.items()}

    def fingerprint(self) -> str:
        """One hash of the content of all episodes, from the checksums in their headers."""
        digest = hashlib.sha256()
        for index in self.indices:
            digest.update(f"{index} {self.header(index).sha256}\n".encode())
        return digest.hexdigest()

    def origins(self) -> Origins:
        """Episodes that were made with other settings than `info` says: by whom, with which seed, ..."""
        return read_origins(self.folder)

    def link_from(self, earlier: "EpisodeStore") -> int:
        """Take over all episodes of another store under their own numbers, without copying where the disk allows;
        those that are there already stay. Returns how many came.

        The stores may differ in seed, policy, hold and max_steps, which `origins` then tells of each episode, and
        in `env` where the earlier one says nothing about it.

        Raises:
            ValueError: they differ in what one model can be trained on, or in the environment; or an episode has
                a reward that is not finite or an action outside the space.
            EpisodeError: an episode is damaged.
            FolderInUse: another process writes here.
        """
        _check_adoptable(self.info, earlier)
        with writer_lock(self.folder, "collection"):
            check_unchanged(self.folder, self.info)
            new = sorted(set(earlier.indices) - set(self.indices))
            for index in new:
                check_values(earlier.path(index), earlier.actions(index), earlier.rewards(index), self.info)
            self._keep_origins(earlier, new)
            for index in new:
                source = os.path.realpath(earlier.path(index))  # else a link to a link might lead nowhere
                try:
                    os.link(source, self.path(index))
                except OSError:  # another disk, or one without links
                    write_whole(self.path(index), read_bytes(source, hdf5.MOST_BYTES))
        self.clear_cache()
        return len(new)

    def _keep_origins(self, earlier: "EpisodeStore", new: list[int]) -> None:
        """Before the episodes come, so that none is ever here without its origin."""
        known, theirs = earlier.origins(), settings(earlier.info)
        came = {index: known.get(index, theirs) for index in new}
        mine = settings(self.info)
        write_origins(self.folder, self.origins() | {i: origin for i, origin in came.items() if origin != mine})

    def sweep(self) -> int:
        """Deletes what killed writers left behind; returns how many files."""
        return sweep(self.folder)

    def clear_cache(self) -> None:
        """Drop what is kept in memory, and let go of all files: what was changed on the disk is read anew."""
        self._pid = os.getpid()
        self._headers: dict[int, Header] = {}
        self._files: Recent[EpisodeFile] = Recent(OPEN_FILES, EpisodeFile.close)
        self._arrays: Recent[tuple[np.ndarray, np.ndarray]] = Recent(SMALL_EPISODES)

    def _actions_and_rewards(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        self._reopen_after_fork()
        return self._arrays.get(index, lambda: _read_small(self._file(index)))

    def _file(self, index: int) -> EpisodeFile:
        self._reopen_after_fork()
        return self._files.get(index, lambda: self._open(index))

    def _open(self, index: int) -> EpisodeFile:
        known = self._headers.get(index)
        file = EpisodeFile(self.path(index), known)
        if known is None:
            check_belongs(file, index, self.info)
            self._headers[index] = file.header
        return file

    def _reopen_after_fork(self) -> None:
        """HDF5 handles must not cross a fork: a child drops its parent's and opens its own."""
        if self._pid != os.getpid():
            self.clear_cache()

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "info": self.info}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def __repr__(self) -> str:
        return f"EpisodeStore({str(self.folder)!r}, {len(self.indices)} episodes)"


def _problem(store: EpisodeStore, index: int) -> tuple[int, str]:
    try:
        store.verify(index)
    except EpisodeError as error:
        return index, str(error)
    return index, ""


def _indices(folder: Path) -> tuple[int, ...]:
    matches = (NAME.fullmatch(entry.name) for entry in os.scandir(folder)) if folder.is_dir() else ()
    return tuple(sorted(int(match[1]) for match in matches if match))


def _read_small(file: EpisodeFile) -> tuple[np.ndarray, np.ndarray]:
    actions, rewards = file.array("actions"), file.array("rewards")
    for values in (actions, rewards):
        values.setflags(write=False)  # they are shared with every later caller
    return actions, rewards


def _check_adoptable(info: DatasetInfo, earlier: EpisodeStore) -> None:
    lines = disagreements(earlier.info, info)
    if earlier.info.env:
        lines += disagreements(earlier.info, info, ["env"])
    if lines:
        raise ValueError(
            f"{earlier.folder}: its episodes cannot begin this run: {'; '.join(lines)}; give the settings that they "
            "were collected with, or make one dataset of both by scripts/data.py merge, which allows another env"
        )

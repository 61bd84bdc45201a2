"""A folder of episodes, one HDF5 file each, read in slices and safe to read from many processes."""

import contextlib
import hashlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from worldmodel.data.episodes.claim import check_unchanged, claim
from worldmodel.data.episodes.dataset_info import FILE as INFO_FILE
from worldmodel.data.episodes.dataset_info import DatasetInfo, differences
from worldmodel.data.episodes.episode import Episode
from worldmodel.data.episodes.episode_file import EpisodeFile
from worldmodel.data.episodes.hdf5 import MAX_FILE_BYTES, EpisodeError, Header, to_bytes
from worldmodel.data.episodes.origins import Origins, read_origins, settings, write_origins
from worldmodel.io.files import LRUCache, remove_partial, write_atomic
from worldmodel.io.folders import make_folder, maker
from worldmodel.io.lock import writer_lock
from worldmodel.io.untrusted import read_bytes

__all__ = ["DatasetInfo", "EpisodeError", "EpisodeStore", "Header"]

OPEN_FILES = 256  # per process; many systems allow 1024
CACHED_EPISODES = 8192  # episodes whose actions and rewards stay in memory: 12 bytes a step with int64 actions
NAME = re.compile(r"episode_(\d{6,})\.h5")


class EpisodeStore:
    """Episodes by index, in one folder beside a `dataset.json` with their common settings.

    A copy in another process (pickled or forked) opens files of its own.
    """

    def __init__(self, folder: Path | str, info: DatasetInfo):
        self.folder = Path(folder)
        self.info = info
        self.clear_cache()

    @classmethod
    def create(cls, folder: Path | str, info: DatasetInfo) -> "EpisodeStore":
        """An empty store, or the existing one if its `dataset.json` equals `info`.

        Other settings are replaced if the folder has no episode yet.

        Raises:
            ValueError: the folder holds episodes of other settings; names every difference.
            FolderInUse: another process writes there.
        """
        folder = Path(folder)
        make_folder(folder)
        if not (folder / INFO_FILE).exists() or differences(DatasetInfo.load(folder).to_json(), info.to_json()):
            with writer_lock(folder, "collection"):
                remove_partial(folder)
                claim(folder, info, occupied=bool(_indices(folder)))
        return cls(folder, info)

    @classmethod
    def open(cls, folder: Path | str) -> "EpisodeStore":
        """The store in a folder that has at least one finished episode.

        `worldmodel.data.open.open_episodes` opens folders and URLs.

        Raises:
            ValueError: the folder is not a dataset, or has no finished episode.
        """
        folder = Path(folder)
        store = cls(folder, DatasetInfo.load(folder))
        if not store.indices:
            command = maker(folder) or "`worldmodel collect`"
            raise ValueError(f"{folder} holds no finished episode; {command} collects some")
        return store

    @property
    def indices(self) -> tuple[int, ...]:
        """The finished episodes, in order; damaged ones are included (see `repair.find_damaged`)."""
        return _indices(self.folder)

    @property
    def lengths(self) -> dict[int, int]:
        """The number of frames of each episode. Raises EpisodeError if one is damaged; `length` reads one alone."""
        return {index: self.length(index) for index in self.indices}

    def path(self, index: int) -> Path:
        return self.folder / f"episode_{index:06d}.h5"

    def write(self, episode: Episode) -> None:
        """Store an episode atomically: after a kill, the file is complete or absent.

        Raises:
            ValueError: an episode that does not fit the dataset.
            OSError: the disk is full or refuses; no part of the file stays.
        """
        self.info.check(episode)
        write_atomic(self.path(episode.index), to_bytes(episode))
        self.clear_cache()

    def header(self, index: int) -> Header:
        """Seed, outcome and array shapes of an episode; cached."""
        self._reopen_after_fork()
        if index not in self._headers:
            self._file(index)
        return self._headers[index]

    def length(self, index: int) -> int:
        """The number of frames of an episode, one more than the number of actions."""
        return self.header(index).frames

    def frames(self, index: int, start: int, stop: int) -> UInt8[np.ndarray, "t h w c"]:
        """Frames `start` to `stop - 1` of an episode; only the chunks that hold them are decompressed."""
        return self._file(index).frames(start, stop)

    def actions(self, index: int) -> np.ndarray:
        """Raw actions `T *space`, read-only; cached."""
        return self._actions_and_rewards(index)[0]

    def rewards(self, index: int) -> Float32[np.ndarray, "T"]:
        """Rewards, read-only; cached."""
        return self._actions_and_rewards(index)[1]

    def read(self, index: int) -> Episode:
        """The whole episode, with every array checked against its sha256.

        Raises:
            EpisodeError: the file is missing, cut short, changed, or belongs to another dataset.
        """
        return self._file(index).episode()

    def verify(self, index: int) -> None:
        """Read a whole episode from the disk, past the cache, and check its content.

        Raises:
            EpisodeError: the file is damaged, or has a reward that is not finite or an action outside the space.
        """
        path = self.path(index)
        with contextlib.closing(EpisodeFile(path)) as file:
            file.check_belongs(index, self.info)
            episode = file.episode()
        try:
            self.info.check_values(path, episode.actions, episode.rewards)
        except ValueError as error:
            raise EpisodeError(f"{error}; no model can learn from it") from error

    def fetch(self) -> None:
        """Bring all episodes to this machine, with a progress bar if that takes long; here they are."""

    def fingerprint(self) -> str:
        """One hash of the content of all episodes, made from the checksums in their headers."""
        self.fetch()
        digest = hashlib.sha256()
        for index in self.indices:
            digest.update(f"{index} {self.header(index).sha256}\n".encode())
        return digest.hexdigest()

    def origins(self) -> Origins:
        """The settings of each episode that was made with other settings than `info` has."""
        return read_origins(self.folder)

    def link_from(self, earlier: "EpisodeStore") -> int:
        """Add all episodes of another store under their own indices; returns the number of added episodes.

        Files are hard-linked where the disk allows it, else copied. Indices that exist here already are skipped.
        The stores may differ in seed, policy, hold and max_steps, which `origins` then records for each episode,
        and in `env` if the earlier store has none.

        Raises:
            ValueError: the stores differ in a setting that one model needs to be the same, or in the environment;
                or an episode has a reward that is not finite or an action outside the space.
            EpisodeError: an episode is damaged.
            FolderInUse: another process writes here.
        """
        self._check_linkable(earlier)
        earlier.fetch()
        with writer_lock(self.folder, "collection"):
            check_unchanged(self.folder, self.info)
            new = sorted(set(earlier.indices) - set(self.indices))
            for index in new:
                self.info.check_values(earlier.path(index), earlier.actions(index), earlier.rewards(index))
            self._add_origins(earlier, new)
            for index in new:
                _link(earlier.path(index), self.path(index))
        self.clear_cache()
        return len(new)

    def _check_linkable(self, earlier: "EpisodeStore") -> None:
        lines = earlier.info.disagreements(self.info)
        if earlier.info.env:
            lines += earlier.info.disagreements(self.info, ["env"])
        if lines:
            raise ValueError(
                f"{earlier.folder}: its episodes cannot start this run: {'; '.join(lines)}; repeat the settings that "
                "they were collected with, or merge both datasets with `worldmodel data merge`, which accepts "
                "another env"
            )

    def _add_origins(self, earlier: "EpisodeStore", new: list[int]) -> None:
        """Runs before the episodes are linked, so that no episode is ever here without its origin."""
        recorded, theirs, mine = earlier.origins(), settings(earlier.info), settings(self.info)
        added = {index: recorded.get(index, theirs) for index in new}
        write_origins(self.folder, self.origins() | {i: origin for i, origin in added.items() if origin != mine})

    def remove_partial(self) -> int:
        """Delete the partial files of killed writers; returns their number."""
        return remove_partial(self.folder)

    def clear_cache(self) -> None:
        """Close all files and drop everything cached, so that changes on the disk are read."""
        self._pid = os.getpid()
        self._headers: dict[int, Header] = {}
        self._files: LRUCache[EpisodeFile] = LRUCache(OPEN_FILES, EpisodeFile.close)
        self._arrays: LRUCache[tuple[np.ndarray, np.ndarray]] = LRUCache(CACHED_EPISODES)

    def _actions_and_rewards(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        self._reopen_after_fork()
        return self._arrays.get(index, lambda: _read_only(self._file(index)))

    def _file(self, index: int) -> EpisodeFile:
        self._reopen_after_fork()
        return self._files.get(index, lambda: self._open(index))

    def _open(self, index: int) -> EpisodeFile:
        header = self._headers.get(index)
        file = EpisodeFile(self.path(index), header)
        if header is None:
            file.check_belongs(index, self.info)
            self._headers[index] = file.header
        return file

    def _reopen_after_fork(self) -> None:
        """File handles must not be shared across a fork: a child drops its parent's and opens its own."""
        if self._pid != os.getpid():
            self.clear_cache()

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "info": self.info}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def __repr__(self) -> str:
        return f"EpisodeStore({str(self.folder)!r}, {len(self.indices)} episodes)"


def _indices(folder: Path) -> tuple[int, ...]:
    matches = (NAME.fullmatch(entry.name) for entry in os.scandir(folder)) if folder.is_dir() else ()
    return tuple(sorted(int(match[1]) for match in matches if match))


def _read_only(file: EpisodeFile) -> tuple[np.ndarray, np.ndarray]:
    """Actions and rewards, which all later callers share."""
    actions, rewards = file.array("actions"), file.array("rewards")
    for values in (actions, rewards):
        values.setflags(write=False)
    return actions, rewards


def _link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it if the disk has no links."""
    source = Path(os.path.realpath(source))  # a link to a symbolic link could become dangling
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        write_atomic(target, read_bytes(source, MAX_FILE_BYTES))

"""Datasets behind a URL that fsspec knows (`s3://bucket/folder`): each episode is downloaded at its first use.

Downloads stay in a cache folder below `~/.cache/worldmodel`, or below `XDG_CACHE_HOME`. Credentials and endpoints
are found as fsspec and its packages find them (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ...).
"""

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worldmodel.data.episodes.dataset_info import FILE as INFO_FILE
from worldmodel.data.episodes.dataset_info import DatasetInfo, differences
from worldmodel.data.episodes.episode import Episode
from worldmodel.data.episodes.episode_file import EpisodeFile
from worldmodel.data.episodes.hdf5 import MAX_FILE_BYTES, EpisodeError
from worldmodel.data.episodes.store import NAME, EpisodeStore
from worldmodel.io.files import write_atomic
from worldmodel.io.progress import SLOW, progress
from worldmodel.io.untrusted import JSON_BYTES, UntrustedFileError, read_bytes, read_json

# Keys of a file's description in fsspec's file systems; at least one value changes when the file is replaced.
VERSION_KEYS = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created", "size")


class RemoteStore(EpisodeStore):
    """A read-only store of the episodes behind a URL, as they were when the URL was opened.

    A download is checked completely before it enters the cache. A file in the cache is therefore always complete,
    even if a download was killed or several processes share the cache. If the file at the URL was replaced since,
    it is downloaded again.
    """

    def __init__(self, url: str, folder: Path, info: DatasetInfo, versions: dict[int, str]):
        super().__init__(folder, info)
        self.url, self._versions = url, versions

    @classmethod
    def connect(cls, url: str) -> "RemoteStore":
        """The dataset in the folder behind a URL.

        If the URL cannot be reached, the dataset is taken from the last successful connection, with a warning.
        Then only the episodes in the cache can be read.

        Raises:
            ValueError: there is no dataset, or no episode in it.
            OSError: the URL cannot be reached, and the cache has no record of it.
        """
        url = url.rstrip("/")
        try:
            files = _list(url)
        except OSError as error:
            return cls(url, cache_folder(url), *_cached_listing(url, error))
        versions = {int(match[1]): version for name, version in files.items() if (match := NAME.fullmatch(name))}
        if INFO_FILE not in files or not versions:
            missing = "no finished episode" if INFO_FILE in files else f"no {INFO_FILE}"
            raise ValueError(f"{url} holds {missing}; `worldmodel data export to={url}` puts a dataset there")
        info = _fetch_info(url)
        write_atomic(_listing(url), json.dumps({f"episode_{i:06d}.h5": v for i, v in versions.items()}).encode())
        return cls(url, cache_folder(url), info, versions)

    @property
    def indices(self) -> tuple[int, ...]:
        """The episodes behind the URL, in order."""
        return tuple(sorted(self._versions))

    def path(self, index: int) -> Path:
        """The path of an episode in the cache; downloads the episode if it is not there.

        Raises:
            EpisodeError: there is no such episode, or its file at the URL is damaged.
            OSError: the URL cannot be reached.
        """
        name = f"episode_{index:06d}"
        if index not in self._versions:
            raise EpisodeError(f"{self.url}/{name}.h5: no such episode")
        path = self._copy(index)
        if not path.exists():
            try:
                content = _fetch(f"{self.url}/{name}.h5")
            except UntrustedFileError as error:
                raise EpisodeError(str(error)) from error
            self._check_download(index, content)
            write_atomic(path, content)
        return path

    def _copy(self, index: int) -> Path:
        return self.folder / f"episode_{index:06d}.{self._versions[index]}.h5"

    def fetch(self) -> None:
        """Download the episodes that are not in the cache. Raises: as `path`."""
        missing = [index for index in self.indices if not self._copy(index).exists()]
        bar = {"total": len(missing), "unit": "episode", "shown": bool(missing), "delay": SLOW}
        for index in progress(missing, "download", **bar):
            self.path(index)

    def _check_download(self, index: int, content: bytes) -> None:
        url = f"{self.url}/episode_{index:06d}.h5"
        try:
            with contextlib.closing(EpisodeFile(Path(f"episode_{index:06d}.h5"), content=content)) as file:
                file.check_belongs(index, self.info)
                file.episode()
        except EpisodeError as error:
            raise EpisodeError(f"{url}: damaged, or cut short on its way: {error.__cause__ or error}") from error

    def write(self, episode: Episode) -> None:
        """Raises ValueError: a dataset behind a URL is read-only."""
        raise ValueError(f"{self.url} is only read; `worldmodel data export to={self.url}` puts episodes there")

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "versions": self._versions, **super().__getstate__()}


def cache_folder(url: str) -> Path:
    """The folder on this machine for files from a URL."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "worldmodel" / hashlib.sha256(url.encode()).hexdigest()[:16]


def _listing(url: str) -> Path:
    """The cached list of episodes and their versions, from the last successful connection."""
    return cache_folder(url).with_suffix(".json")


def push(store: EpisodeStore, url: str, show: bool = False) -> None:
    """Copy a store to the folder behind a URL. Episodes with other indices that are there already stay.

    `dataset.json` is written last, so an interrupted copy to a new folder is not taken for a dataset.

    Raises:
        ValueError: episodes of other settings are there.
        EpisodeError: an episode is damaged.
        OSError: the URL cannot be reached.
    """
    url = url.rstrip("/")
    there = _fetch_info(url) if INFO_FILE in _list(url) else store.info
    if lines := differences(there.to_json(), store.info.to_json()):
        raise ValueError(f"{url} holds episodes of other settings ({'; '.join(lines)}); name another folder in to=")
    for index in progress(store.indices, "export", total=len(store.indices), unit="episode", shown=show):
        store.verify(index)
        _put(f"{url}/episode_{index:06d}.h5", read_bytes(store.path(index), MAX_FILE_BYTES))
    _put(f"{url}/{INFO_FILE}", read_bytes(store.folder / INFO_FILE, JSON_BYTES))


def _list(url: str) -> dict[str, str]:
    """The names and versions of the files behind a URL; empty if there is no such folder."""
    with _file_system(url) as (system, path):
        system.invalidate_cache()  # another process may have written files there
        try:
            files = system.ls(path, detail=True)
        except FileNotFoundError:
            return {}
    return {file["name"].rpartition("/")[2]: _version(file) for file in files}


def _cached_listing(url: str, error: OSError) -> tuple[DatasetInfo, dict[int, str]]:
    """The dataset behind a URL as the cache records it. Raises `error` if the cache has no record."""
    folder = cache_folder(url)
    try:
        listing, info = read_json(_listing(url)), DatasetInfo.load(folder)
    except (ValueError, OSError):
        raise error from None
    versions = {int(match[1]): str(version) for name, version in listing.items() if (match := NAME.fullmatch(name))}
    here = sum((folder / f"episode_{index:06d}.{version}.h5").is_file() for index, version in versions.items())
    message = f"{error}; the cache is used, which holds {here} of its {len(versions)} episodes: {folder}"
    warnings.warn(message, RuntimeWarning, stacklevel=4)
    return info, versions


def _version(file: dict[str, Any]) -> str:
    values = [f"{key}={file[key]}" for key in VERSION_KEYS if key in file]
    return hashlib.sha256(" ".join(values).encode()).hexdigest()[:16]


def _fetch_info(url: str) -> DatasetInfo:
    folder = cache_folder(url)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / INFO_FILE, _fetch(f"{url}/{INFO_FILE}"))
    return DatasetInfo.load(folder)


def _fetch(url: str) -> bytes:
    """The content of the file behind a URL, read up to the ceiling for such files.

    Raises:
        UntrustedFileError: the file is larger than the ceiling, or is not a regular file.
        OSError: the URL cannot be reached.
    """
    most = MAX_FILE_BYTES if url.endswith(".h5") else JSON_BYTES
    with _file_system(url) as (system, path):
        if (kind := system.info(path).get("type")) != "file":
            raise UntrustedFileError(f"{url}: expected a regular file, got {kind}")
        content = system.cat_file(path, start=0, end=most + 1)  # the size that the server claims is not trusted
        if len(content) > most:
            raise UntrustedFileError(f"{url}: expected at most {most:,} bytes, got more; nothing was kept")
        return content


def _put(url: str, content: bytes) -> None:
    with _file_system(url) as (system, path):
        system.pipe_file(path, content)


@contextlib.contextmanager
def _file_system(url: str) -> Iterator[tuple[Any, str]]:
    """The file system of a URL and the path in it. Any error becomes an OSError that names the URL.

    It is looked up at each use, because file systems must not be shared across a fork.
    """
    try:
        from fsspec.core import url_to_fs

        yield url_to_fs(url)
    except UntrustedFileError:
        raise
    except ImportError as error:
        raise ImportError(f'{url}: {error}; s3:// needs pip install "worldmodel[data]"') from error
    except Exception as error:
        raise OSError(f"{url} cannot be reached: {error or type(error).__name__}") from error

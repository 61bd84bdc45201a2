"""Opens a dataset of episodes: in a folder on this machine, or behind a URL."""

from pathlib import Path

from worldmodel.data.episodes.remote import RemoteStore
from worldmodel.data.episodes.store import EpisodeStore


def open_episodes(place: Path | str) -> EpisodeStore:
    """The episodes in a folder, or behind a URL that fsspec knows (`s3://bucket/folder`).

    Raises:
        ValueError: there is no dataset, or no finished episode in it.
        OSError: the URL cannot be reached, and the cache has no copy of its `dataset.json`.
        ImportError: the package for this kind of URL is not installed; the message names the extra.
    """
    return RemoteStore.connect(str(place)) if is_url(place) else EpisodeStore.open(place)


def is_url(place: Path | str) -> bool:
    """Whether a place is a URL, not a folder on this machine."""
    return "://" in str(place)

"""Episodes from and to other formats, such that there and back is the identity.

What an exported format has no room for (indices, seeds, infos, the `DatasetInfo`) lies beside it in `worldmodel.json`,
with the checksums of all arrays: what comes back is what was exported, or there is an error that names the episode.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.checkpoint import read_json
from worldmodel.data.claim import is_unused
from worldmodel.data.episode import Episode
from worldmodel.data.files import whole_folder, write_whole
from worldmodel.data.foreign import arriving, infer
from worldmodel.data.formats import FORMATS, Found, detect
from worldmodel.data.info import FILE as INFO_FILE
from worldmodel.data.info import DatasetInfo
from worldmodel.data.store import EpisodeError, EpisodeStore, Header
from worldmodel.progress import progress

SIDECAR, SCHEMA = "worldmodel.json", 1

Record = dict[str, Any]  # what a format has no room for, of one episode


def export_episodes(store: EpisodeStore, folder: Path | str, format: str, show: bool = False) -> None:
    """Write all episodes into a new folder in one of `FORMATS`; the folder is whole or, after an error, absent.

    Raises:
        ValueError: no such format, something is at `folder` already, or frames that the format cannot hold.
        EpisodeError: an episode is damaged.
    """
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    chosen = FORMATS[format]
    records = []

    def episodes() -> Iterator[Episode]:
        for index in progress(store.indices, "export", total=len(store.indices), unit="episode", shown=show):
            episode = store.read(index)
            records.append(_record(store.header(index), {} if chosen.infos else episode.infos))
            yield episode

    with whole_folder(Path(folder)) as aside:
        chosen.write(aside, store.info, episodes())
        sidecar = {"schema": SCHEMA, "info": store.info.to_json(), "episodes": records}
        write_whole(aside / SIDECAR, json.dumps(sidecar).encode())


def _record(header: Header, infos: dict[str, np.ndarray]) -> Record:
    values = {name: getattr(header, name) for name in ("index", "seed", "terminated", "truncated")}
    return values | {"arrays": header.content, "infos": {name: rows.tolist() for name, rows in infos.items()}}


def import_episodes(
    folder: Path | str,
    target: Path | str,
    *,
    size: tuple[int, int] | None = None,
    actions: int | tuple[float, float] | None = None,
    show: bool = False,
) -> EpisodeStore:
    """Make a new store at `target` of the episodes in `folder`, whose files tell their format.

    What was exported comes back as it was, and so do episodes of a store, which may be behind a URL. What others
    made is taken in as `foreign` says, its frames resized to (height, width) `size`, its `actions` so many
    choices or numbers between (least, greatest).

    Raises:
        ValueError: no known format, something is at `target` already, or episodes that do not fit together.
        EpisodeError: an episode is not what was exported.
    """
    own = "://" in str(folder) or (Path(folder) / INFO_FILE).is_file()
    sidecar = None if own else _read_sidecar(Path(folder))
    if (own or sidecar) and (size, actions) != (None, None):
        raise ValueError(f"{folder}: these come back as they were; size= and actions= are for what others made")
    with whole_folder(Path(target), is_unused) as aside:
        if own:
            store = EpisodeStore.open(folder)
            EpisodeStore.create(aside, store.info).adopt(store)
        elif sidecar:
            _restore(Path(folder), *sidecar, aside, show)
        else:
            _take_in(Path(folder), aside, size, actions, show)
    return EpisodeStore.open(target)


def _read_sidecar(folder: Path) -> tuple[DatasetInfo, list[Record]] | None:
    path = folder / SIDECAR
    if not path.is_file():
        return None
    sidecar = read_json(path)
    try:
        if sidecar["schema"] != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA}, got {sidecar['schema']}: another version wrote it")
        return DatasetInfo.from_json(sidecar["info"]), [dict(record) for record in sidecar["episodes"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: damaged or not readable by this version: {error}") from error


def _restore(folder: Path, info: DatasetInfo, records: list[Record], target: Path, show: bool) -> None:
    """Exported episodes as they were."""
    source = detect(folder).read(folder)
    if source.count != len(records):
        raise ValueError(f"{folder}: {len(records)} episodes were exported, {source.count} are here")
    store = EpisodeStore.create(target, info)
    both = zip(source.episodes(), records, strict=True)
    for found, record in progress(both, "import", total=source.count, unit="episode", shown=show):
        store.write(_returned(found, record, store.info))
        if store.header(record["index"]).content != record["arrays"]:
            raise EpisodeError(f"{found.name}: not what was exported: a file was changed since")


def _returned(found: Found, record: Record, info: DatasetInfo) -> Episode:
    try:
        arrays, infos = record["arrays"], found.infos | record["infos"]
        infos = {name: np.array(infos[name], arrays[f"infos/{name}"]["dtype"]) for name in info.info_keys}
        actions = found.actions.astype(arrays["actions"]["dtype"]).reshape(arrays["actions"]["shape"])
        fields = {name: record[name] for name in ("terminated", "truncated", "seed", "index")}
        return Episode(found.frames(), actions, found.rewards, **fields, infos=infos)
    except (ValueError, TypeError, KeyError) as error:
        raise EpisodeError(f"{found.name}: not what was exported: {error}") from error


def _take_in(folder: Path, target: Path, size: Any, actions: Any, show: bool) -> None:
    """Episodes that others made."""
    source = detect(folder).read(folder)
    store = EpisodeStore.create(target, infer(folder, source, size, actions))
    episodes = arriving(source, store.info)
    for episode in progress(episodes, "import", total=source.count, unit="episode", shown=show):
        store.write(episode)

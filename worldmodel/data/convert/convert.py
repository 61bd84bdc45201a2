"""Episodes from and to other formats, such that there and back is the identity.

What an exported format has no room for (indices, seeds, infos, the `DatasetInfo`) lies beside it in `worldmodel.json`,
with the checksums of all arrays: what comes back is what was exported, or there is an error that names the episode.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.data.convert.formats import FORMATS, ImportedEpisode, detect
from worldmodel.data.convert.importing import ActionSpec, Notes, Size, convert_episodes, infer_dataset_info
from worldmodel.data.episodes.claim import is_unused
from worldmodel.data.episodes.dataset_info import FILE as INFO_FILE
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.episode import Episode
from worldmodel.data.episodes.hdf5 import EpisodeError, Header
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.data.open import is_url, open_episodes
from worldmodel.io.files import atomic_folder, write_atomic
from worldmodel.io.progress import progress
from worldmodel.io.sandbox import TYPES
from worldmodel.io.untrusted import errors_name, read_bytes

SIDECAR, SCHEMA = "worldmodel.json", 1
SIDECAR_BYTES = 1 << 30  # it holds the infos of formats that have no room for them

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

    with atomic_folder(Path(folder)) as aside:
        chosen.write(aside, store.info, episodes())
        sidecar = {"schema": SCHEMA, "info": store.info.to_json(), "episodes": records}
        write_atomic(aside / SIDECAR, json.dumps(sidecar).encode())


def _record(header: Header, infos: dict[str, np.ndarray]) -> Record:
    values = {name: getattr(header, name) for name in ("index", "seed", "terminated", "truncated")}
    return values | {"arrays": header.content, "infos": {name: rows.tolist() for name, rows in infos.items()}}


def import_episodes(
    folder: Path | str,
    target: Path | str,
    *,
    size: Size = None,
    actions: ActionSpec = None,
    show: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> EpisodeStore:
    """Make a new store at `target` of the episodes in `folder`, whose files tell their format.

    What was exported comes back as it was, and so do episodes of a store, which may be behind a URL. What others
    made is taken in as `foreign` says, its frames resized to (height, width) `size`, its `actions` so many
    choices or numbers between (least, greatest). What was missing and what was left out is handed to `say`, in
    one line; nothing is said where nothing was.

    Raises:
        ValueError: no known format, something is at `target` already, or episodes that do not fit together.
        EpisodeError: an episode is not what was exported.
    """
    own = is_url(folder) or (Path(folder) / INFO_FILE).is_file()
    sidecar = None if own else _read_sidecar(Path(folder))
    if (own or sidecar) and (size, actions) != (None, None):
        raise ValueError(f"{folder}: these come back as they were; size= and actions= are for what others made")
    notes = Notes()
    with atomic_folder(Path(target), is_unused) as aside:
        if own:
            store = open_episodes(folder)
            EpisodeStore.create(aside, store.info).link_from(store)
        elif sidecar:
            _restore(Path(folder), *sidecar, aside, show)
        else:
            notes = _take_in(Path(folder), aside, size, actions, show)
    if line := notes.line():
        say(line)
    return EpisodeStore.open(target)


def _read_sidecar(folder: Path) -> tuple[DatasetInfo, list[Record]] | None:
    path = folder / SIDECAR
    if not path.exists():
        return None
    content = read_bytes(path, SIDECAR_BYTES)
    with errors_name(f"{path}: damaged or not readable by this version"):
        sidecar = json.loads(content)  # infos may be NaN
        if sidecar["schema"] != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA}, got {sidecar['schema']}: another version wrote it")
        return DatasetInfo.from_json(sidecar["info"]), [dict(record) for record in sidecar["episodes"]]


def _restore(folder: Path, info: DatasetInfo, records: list[Record], target: Path, show: bool) -> None:
    """Exported episodes as they were."""
    source = detect(folder).read(folder)
    with closing(source):
        if source.count != len(records):
            raise ValueError(f"{folder}: {len(records)} episodes were exported, {source.count} are here")
        store = EpisodeStore.create(target, info)
        both = zip(source.episodes(), records, strict=True)
        for found, record in progress(both, "import", total=source.count, unit="episode", shown=show):
            store.write(_returned(found, record, store.info))
            if store.header(record["index"]).content != record["arrays"]:
                raise EpisodeError(f"{found.name}: not what was exported: a file was changed since")


def _returned(found: ImportedEpisode, record: Record, info: DatasetInfo) -> Episode:
    try:
        arrays, infos = record["arrays"], found.infos() | record["infos"]
        infos = {name: np.array(infos[name], _type(arrays[f"infos/{name}"])) for name in info.info_keys}
        actions = found.actions.astype(_type(arrays["actions"])).reshape(arrays["actions"]["shape"])
        fields = {name: record[name] for name in ("terminated", "truncated", "seed", "index")}
        rewards = np.zeros(0) if found.rewards is None else found.rewards
        return Episode(found.frames(), actions, rewards.astype(np.float32), **fields, infos=infos)
    except (ValueError, TypeError, KeyError) as error:
        raise EpisodeError(f"{found.name}: not what was exported: {error}") from error


def _type(array: dict[str, Any]) -> np.dtype:
    """The type of an array; NumPy would take "9999999f8" for one as well."""
    if array["dtype"] not in TYPES:
        raise ValueError(f"expected a type of numbers, got {array['dtype']!r}")
    return np.dtype(array["dtype"])


def _take_in(folder: Path, target: Path, size: Size, actions: ActionSpec, show: bool) -> Notes:
    """Episodes that others made."""
    source, notes = detect(folder).read(folder), Notes()
    with closing(source):
        store = EpisodeStore.create(target, infer_dataset_info(folder, source, size, actions))
        episodes = convert_episodes(source, store.info, size, notes)
        for episode in progress(episodes, "import", total=source.count, unit="episode", shown=show):
            store.write(episode)
    return notes

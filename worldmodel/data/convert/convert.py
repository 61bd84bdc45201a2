"""Exports episodes to other formats and imports them; an import of an export gives the same episodes.

The file `worldmodel.json` in an export holds what its format cannot (indices, seeds, infos, the `DatasetInfo`), and
the checksums of all arrays. An import of the export gives exactly the exported episodes, or an error that names the
episode.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.data.convert.action_space import ActionSpec
from worldmodel.data.convert.formats import FORMATS, ImportedEpisode, detect
from worldmodel.data.convert.importing import Notes, Size, convert_episodes, infer_dataset_info
from worldmodel.data.convert.minari_id import is_minari_id, minari_folder
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
SIDECAR_BYTES = 1 << 30  # it may hold the infos of all episodes

Record = dict[str, Any]  # the entry of one episode in the sidecar file


def export_episodes(store: EpisodeStore, folder: Path | str, format: str, show: bool = False) -> None:
    """Write all episodes into a new folder, in one of `FORMATS`. After an error, there is no folder.

    Raises:
        ValueError: an unknown format, a `folder` that exists already, or frames that the format cannot hold.
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
    """Make a new store at `target` of the episodes in `folder`. The format is detected from its files.

    Exports and stores, which may be behind a URL, are imported unchanged. Episodes from other software are
    converted as `importing` describes. `say` is called with one line if something was missing or left out.

    Args:
        folder: a folder in one of `FORMATS`, a folder or URL of a store, or minari:ID for a dataset of Minari's.
        target: a folder that does not exist yet, or is unused.
        size: the (height, width) that frames are resized to; only for episodes from other software.
        actions: the number of choices, or the (least, greatest) number; only for episodes from other software.
        show: whether to draw a progress bar.
        say: gets the line.

    Raises:
        ValueError: an unknown format, a `target` that exists already, or episodes that do not fit together.
        EpisodeError: an episode differs from the exported one.
        OSError: a URL or the server of Minari cannot be reached.
    """
    if is_minari_id(folder):
        folder = minari_folder(str(folder))
    is_store = is_url(folder) or (Path(folder) / INFO_FILE).is_file()
    sidecar = None if is_store else _read_sidecar(Path(folder))
    if (is_store or sidecar) and (size, actions) != (None, None):
        raise ValueError(
            f"{folder}: expected no size= and actions=, as these episodes are imported unchanged; remove both keys"
        )
    notes = Notes()
    with atomic_folder(Path(target), is_unused) as aside:
        if is_store:
            store = open_episodes(folder)
            EpisodeStore.create(aside, store.info).link_from(store)
        elif sidecar:
            _restore(Path(folder), *sidecar, aside, show)
        else:
            notes = _convert(Path(folder), aside, size, actions, show)
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
    """Write exported episodes to a store, unchanged."""
    source = detect(folder).read(folder)
    with closing(source):
        if source.count != len(records):
            raise ValueError(f"{folder}: expected the {len(records)} exported episodes, got {source.count}")
        store = EpisodeStore.create(target, info)
        both = zip(source.episodes(), records, strict=True)
        for episode, record in progress(both, "import", total=source.count, unit="episode", shown=show):
            store.write(_restored(episode, record, store.info))
            if store.header(record["index"]).content != record["arrays"]:
                raise EpisodeError(f"{episode.name}: not what was exported: a file was changed since")


def _restored(episode: ImportedEpisode, record: Record, info: DatasetInfo) -> Episode:
    try:
        arrays, infos = record["arrays"], episode.infos() | record["infos"]
        infos = {name: np.array(infos[name], _type(arrays[f"infos/{name}"])) for name in info.info_keys}
        actions = episode.actions.astype(_type(arrays["actions"])).reshape(arrays["actions"]["shape"])
        fields = {name: record[name] for name in ("terminated", "truncated", "seed", "index")}
        rewards = np.zeros(0) if episode.rewards is None else episode.rewards
        return Episode(episode.frames(), actions, rewards.astype(np.float32), **fields, infos=infos)
    except (ValueError, TypeError, KeyError) as error:
        raise EpisodeError(f"{episode.name}: not what was exported: {error}") from error


def _type(array: dict[str, Any]) -> np.dtype:
    """The type of an array. It is looked up, because NumPy would accept "9999999f8" as a type."""
    if array["dtype"] not in TYPES:
        raise ValueError(f"expected a type of numbers, got {array['dtype']!r}")
    return np.dtype(array["dtype"])


def _convert(folder: Path, target: Path, size: Size, actions: ActionSpec, show: bool) -> Notes:
    """Convert the episodes of other software into a store."""
    source, notes = detect(folder).read(folder), Notes()
    with closing(source):
        store = EpisodeStore.create(target, infer_dataset_info(folder, source, size, actions))
        episodes = convert_episodes(source, store.info, size, notes)
        for episode in progress(episodes, "import", total=source.count, unit="episode", shown=show):
            store.write(episode)
    return notes

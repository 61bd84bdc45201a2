"""Merges several datasets into one."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from worldmodel.data.episodes.claim import is_unused
from worldmodel.data.episodes.dataset_info import IMPORTED, DatasetInfo, differences
from worldmodel.data.episodes.origins import Origins, settings, write_origins
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.files import atomic_folder
from worldmodel.io.progress import progress

POLICY = "merged"  # not a policy of `worldmodel collect`: it cannot collect episodes that got new numbers

EQUAL = ("action_space", "frame_shape")  # one model needs the same ones in all its data
PERHAPS_UNKNOWN = {"action_names": (), "frame_skip": None}  # imported data may not know these; the others decide


def merge(
    stores: Sequence[EpisodeStore],
    folder: Path | str,
    show: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> EpisodeStore:
    """A new store of the episodes of all stores, in order and numbered from 0; their seeds stay.

    An episode that occurs twice, as in a run and in another run that began with it, is stored once, so that it is
    never both trained on and held out. If the stores differ in `env` or `max_steps`, the new store's setting is
    empty. `origins` of the new store has the settings of each episode.

    Names of actions and a frame skip that some stores do not know are those of the others. Infos that not all stores
    have are left out. `say` is called with one line for each of these.

    Raises:
        ValueError: no stores, a `folder` that exists already, stores that differ in a setting that one model needs
            to be the same, or an episode with a reward that is not finite or an action outside the space.
        EpisodeError: an episode is damaged.
        FolderInUse: another process writes to `folder`.
    """
    info = _common(stores)
    for line in _remarks(stores, info):
        say(line)
    places = [(store, index) for store in stores for index in store.indices]
    origins_of = {id(store): store.origins() for store in stores}
    seen: set[str] = set()
    origins: Origins = {}
    with atomic_folder(Path(folder), is_unused) as aside:
        info.save(aside)
        merged = EpisodeStore(aside, info)
        for store, index in progress(places, "merge", total=len(places), unit="episode", shown=show):
            if (content := _content(store, index, info)) not in seen:
                episode = store.read(index)
                info.check_values(store.path(index), episode.actions, episode.rewards)
                origins[len(seen)] = origins_of[id(store)].get(index, settings(store.info))
                infos = {name: episode.infos[name] for name in info.info_keys}
                merged.write(replace(episode, index=len(seen), infos=infos))
                seen.add(content)
        write_origins(aside, origins)
    return EpisodeStore.open(folder)


def _content(store: EpisodeStore, index: int, info: DatasetInfo) -> str:
    """Everything in an episode except its number and the infos that are left out."""
    header = store.header(index)
    left_out = {f"infos/{name}" for name in store.info.info_keys} - {f"infos/{name}" for name in info.info_keys}
    arrays = {name: array for name, array in header.content.items() if name not in left_out}
    return json.dumps([header.seed, header.terminated, header.truncated, arrays], sort_keys=True)


def _common(stores: Sequence[EpisodeStore]) -> DatasetInfo:
    if not stores:
        raise ValueError("merge: expected at least one dataset, got none")
    first, infos = stores[0], [store.info for store in stores]
    known: dict[str, Any] = {}
    for name, unknown in PERHAPS_UNKNOWN.items():
        known[name] = next((value for info in infos if (value := getattr(info, name)) != unknown), unknown)
    for store in stores[1:]:
        here = {name: getattr(store.info, name) or value for name, value in known.items()}
        lines = first.info.disagreements(store.info, EQUAL) + differences(known, here)
        if lines:
            raise ValueError(f"{store.folder}: cannot be merged with {first.folder}: {'; '.join(lines)}{_hint(stores)}")
    known["info_keys"] = tuple(key for key in infos[0].info_keys if all(key in info.info_keys for info in infos))
    env = infos[0].env if all(info.env == infos[0].env for info in infos) else {}
    max_steps = infos[0].max_steps if all(info.max_steps == infos[0].max_steps for info in infos) else None
    return replace(infos[0], seed=0, policy=POLICY, env=env, max_steps=max_steps, **known)


def _hint(stores: Sequence[EpisodeStore]) -> str:
    imported = any(store.info.policy == IMPORTED for store in stores)
    return "; the keys actions= and size= of `worldmodel data import` set both" if imported else ""


def _remarks(stores: Sequence[EpisodeStore], info: DatasetInfo) -> list[str]:
    """What some of the stores do not know, and the infos that are left out."""
    lines = []
    for name in PERHAPS_UNKNOWN:
        without = [str(store.folder) for store in stores if getattr(store.info, name) != getattr(info, name)]
        if without:
            lines.append(f"{name}: {', '.join(without)} has none; that of the others is taken")
    if left_out := sorted({key for store in stores for key in store.info.info_keys} - {*info.info_keys}):
        lines.append(f"left out: infos that not all of the datasets have: {', '.join(left_out)}")
    return lines

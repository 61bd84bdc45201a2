"""Merges several datasets into one."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from worldmodel.data.episodes.claim import is_unused
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.origins import Origins, settings, write_origins
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.files import atomic_folder
from worldmodel.io.progress import progress

POLICY = "merged"  # not a policy of `worldmodel collect`: it cannot collect episodes that got new numbers


def merge(stores: Sequence[EpisodeStore], folder: Path | str, show: bool = False) -> EpisodeStore:
    """A new store of the episodes of all stores, in order and numbered from 0; their seeds stay.

    An episode that occurs twice, as in a run and in another run that began with it, is stored once, so that it is
    never both trained on and held out. If the stores differ in `env` or `max_steps`, the new store's setting is
    empty. `origins` of the new store has the settings of each episode.

    Raises:
        ValueError: no stores, a `folder` that exists already, stores that differ in a setting that one model needs
            to be the same, or an episode with a reward that is not finite or an action outside the space.
        EpisodeError: an episode is damaged.
        FolderInUse: another process writes to `folder`.
    """
    info = _common(stores)
    places = [(store, index) for store in stores for index in store.indices]
    origins_of = {id(store): store.origins() for store in stores}
    seen: set[str] = set()
    origins: Origins = {}
    with atomic_folder(Path(folder), is_unused) as aside:
        info.save(aside)
        merged = EpisodeStore(aside, info)
        for store, index in progress(places, "merge", total=len(places), unit="episode", shown=show):
            if (content := _content(store, index)) not in seen:
                episode = store.read(index)
                info.check_values(store.path(index), episode.actions, episode.rewards)
                origins[len(seen)] = origins_of[id(store)].get(index, settings(store.info))
                merged.write(replace(episode, index=len(seen)))
                seen.add(content)
        write_origins(aside, origins)
    return EpisodeStore.open(folder)


def _content(store: EpisodeStore, index: int) -> str:
    """Everything in an episode except its number."""
    header = store.header(index)
    return json.dumps([header.seed, header.terminated, header.truncated, header.content], sort_keys=True)


def _common(stores: Sequence[EpisodeStore]) -> DatasetInfo:
    if not stores:
        raise ValueError("merge: expected at least one dataset, got none")
    first = stores[0].info
    for store in stores[1:]:
        if lines := first.disagreements(store.info):
            raise ValueError(f"{store.folder}: cannot be merged with {stores[0].folder}: {'; '.join(lines)}")
    infos = [store.info for store in stores]
    env = first.env if all(info.env == first.env for info in infos) else {}
    max_steps = first.max_steps if all(info.max_steps == first.max_steps for info in infos) else None
    return replace(first, seed=0, policy=POLICY, env=env, max_steps=max_steps)

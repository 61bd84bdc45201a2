"""Which episodes train a model, and which are held out to validate it."""

import hashlib

from worldmodel.data.episodes.store import EpisodeStore


def train_validation_split(store: EpisodeStore, validation: float = 0.1) -> tuple[list[int], list[int]]:
    """Episodes for training and for validation, chosen by a hash of the index.

    An episode never changes sides when the dataset grows. Episode 0 always trains and episode 1 always validates,
    so that two episodes are enough for both sides.

    Raises:
        ValueError: a fraction outside [0, 1).
    """
    if not 0 <= validation < 1:
        raise ValueError(f"validation: expected a fraction in [0, 1), got {validation}")
    indices = store.indices
    chosen = [index for index in indices if _validates(index, validation)]
    if not chosen and validation > 0 and len(indices) > 1:  # episode 1 was removed
        chosen = [indices[-1]]
    if len(chosen) == len(indices):  # episode 0 was removed
        chosen = chosen[1:]
    return [index for index in indices if index not in set(chosen)], chosen


def split_for_training(store: EpisodeStore) -> tuple[list[int], list[int]]:
    """`train_validation_split` with episodes on both sides.

    Raises:
        ValueError: the store has a single episode; the message says how to get more.
    """
    train, held_out = train_validation_split(store)
    if not (train and held_out):
        more = "collect more: `worldmodel collect episodes=2`"
        if store.info.policy == "imported":
            more = (
                "cut the clip in two, each part with its rows in the table, and import both: `worldmodel data import`"
            )
        raise ValueError(f"episodes: {store.folder} holds {len(store.indices)}, and one must be held out; {more}")
    return train, held_out


def _validates(index: int, fraction: float) -> bool:
    if index < 2:
        return index == 1 and fraction > 0
    return int.from_bytes(hashlib.sha256(str(index).encode()).digest()[:8]) < fraction * 2**64

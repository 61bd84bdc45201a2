"""Describes a dataset: statistics to print, and a contact sheet of frames."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete
from jaxtyping import UInt8

from worldmodel.data.episodes.origins import settings
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.video import contact_sheet

MAX_COUNTED_VALUES = 16  # with more different rewards, only their range is shown
ROWS, COLUMNS = 6, 10  # of the contact sheet: episodes, and frames of each


def summarize(store: EpisodeStore) -> dict[str, Any]:
    """Statistics of a dataset: episodes, outcomes, lengths, returns, counts of actions and rewards, and bytes.

    `origins` counts the episodes made with other settings than the dataset's, by the settings that differ.

    Raises:
        EpisodeError: an episode is damaged.
    """
    store.fetch()
    headers = [store.header(index) for index in store.indices]
    frames = sum(header.frames for header in headers)
    disk = sum(store.path(index).stat().st_size for index in store.indices)
    raw = frames * int(np.prod(store.info.frame_shape))
    rewards = [store.rewards(index) for index in store.indices]
    origins = _origin_counts(store)
    return {
        "episodes": len(headers),
        "frames": frames,
        "frame_shape": list(store.info.frame_shape),
        "lengths": _spread([header.frames for header in headers]),
        "terminated": sum(header.terminated for header in headers),
        "truncated": sum(header.truncated for header in headers),
        "returns": _spread([float(each.sum(dtype=np.float64)) for each in rewards]),
        "rewards": _counts(np.concatenate(rewards)),
        "action_space": str(store.info.action_space),
        "actions": _action_counts(store),
        "megabytes": disk / 1e6,
        "of_raw_frames": disk / raw,
        **({"origins": origins} if origins else {}),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"min": min(values), "mean": float(np.mean(values)), "max": max(values)}


def _counts(values: np.ndarray) -> dict[str, Any]:
    """How often each value occurs or, with too many different values, their range."""
    values_found, counts = np.unique(values, return_counts=True)
    if len(values_found) > MAX_COUNTED_VALUES:
        return _spread(values.tolist())
    return {f"{value:g}": int(count) for value, count in zip(values_found, counts, strict=True)}


def _action_counts(store: EpisodeStore) -> dict[str, int]:
    """How often each discrete action was taken, by its name if it has one; empty for other action spaces."""
    space = store.info.action_space
    if not isinstance(space, Discrete):
        return {}
    counts = Counter(value for index in store.indices for value in store.actions(index).tolist())
    names = dict(enumerate(store.info.action_names, int(space.start)))
    choices = range(int(space.start), int(space.start + space.n))
    inside = {names.get(value, str(value)): counts[value] for value in choices}
    return inside | {f"{value} (outside the space)": counts[value] for value in sorted(counts.keys() - set(choices))}


def _origin_counts(store: EpisodeStore) -> dict[str, int]:
    mine, here = settings(store.info), set(store.indices)
    origins = [origin for index, origin in store.origins().items() if index in here]
    differing = [[f"{name} {value}" for name, value in origin.items() if value != mine.get(name)] for origin in origins]
    return dict(Counter(", ".join(each) for each in differing))


def episode_sheet(store: EpisodeStore) -> UInt8[np.ndarray, "H W 3"]:
    """A contact sheet: one row for each of a few episodes, from its first frame to its last."""
    indices = store.indices
    chosen = [indices[place] for place in np.unique(np.linspace(0, len(indices) - 1, ROWS).round().astype(int))]
    titles = [f"{share:.0%}" for share in np.linspace(0, 1, COLUMNS)]
    return contact_sheet([_moments(store, index) for index in chosen], [str(index) for index in chosen], titles=titles)


def _moments(store: EpisodeStore, index: int) -> UInt8[np.ndarray, "t h w 3"]:
    """Frames of an episode, evenly spaced from first to last, with three channels."""
    places = np.linspace(0, store.length(index) - 1, COLUMNS).round().astype(int).tolist()
    frames = np.concatenate([store.frames(index, place, place + 1) for place in places])
    return frames[..., :3] if frames.shape[-1] >= 3 else frames[..., :1].repeat(3, axis=-1)

"""Random windows in episodes: the one place that decides which clip is drawn."""

from collections.abc import Mapping

import numpy as np


class WindowSampler:
    """Windows of `length` items, drawn uniformly from all places where one fits inside an episode.

    Args:
        lengths: the number of items of each episode. Episodes that are too short are skipped.
        length: items of a window.
        seed: draws are functions of the seed.
        item: what an item is called in messages, such as "frames".
        setting: the key to lower if no episode is long enough; "" if there is none.
        cover_ends: let windows hang over both ends of an episode by all but one item, then move them inside. The
            last item of an episode is then drawn about as often as a middle one. Without this, only one window in
            `length` contains it. Episodes that are too short are drawn from their first item on.

    Raises:
        ValueError: no episode is long enough, or a length or seed is out of range.
    """

    def __init__(
        self, lengths: Mapping[int, int], length: int, seed: int, *, item: str, setting: str, cover_ends: bool = False
    ):
        if length < 1 or seed < 0:
            raise ValueError(f"expected {setting or 'a length'} >= 1 and seed >= 0, got {length} and {seed}")
        self.overhang = length - 1 if cover_ends else 0
        places = {index: count - length + 1 + 2 * self.overhang for index, count in lengths.items()}
        places = {index: count for index, count in places.items() if count > 0}
        if not places:
            longest = f"the longest of {len(lengths)} has {max(lengths.values())}" if lengths else "there are none"
            lower = f"lower {setting}, or " if setting else ""
            raise ValueError(f"no episode has {length} {item} ({longest}): {lower}collect longer episodes")
        self.seed = seed
        self._episodes = np.array(list(places), np.int64)
        self._last_start = np.array([max(lengths[index] - length, 0) for index in places], np.int64)
        self._cumulative = np.cumsum(list(places.values()))  # places in all episodes up to and including each

    def __len__(self) -> int:
        """The number of different windows."""
        return int(self._cumulative[-1])

    def sample(self, step: int, count: int) -> list[tuple[int, int]]:
        """`count` pairs (episode, start), with repetition: a function of (seed, step)."""
        rng = np.random.Generator(np.random.Philox(key=np.array([self.seed, step], np.uint64)))
        return self._pairs(rng.integers(len(self), size=count))

    def sample_distinct(self, count: int) -> list[tuple[int, int]]:
        """`count` different pairs (episode, start) in random order, or all of them if there are fewer."""
        rng = np.random.default_rng(self.seed)
        return self._pairs(rng.choice(len(self), min(count, len(self)), replace=False))

    def _pairs(self, places: np.ndarray) -> list[tuple[int, int]]:
        which = np.searchsorted(self._cumulative, places, side="right")
        starts = places - np.concatenate([[0], self._cumulative])[which] - self.overhang
        starts = np.clip(starts, 0, self._last_start[which])
        return list(zip(self._episodes[which].tolist(), starts.tolist(), strict=True))

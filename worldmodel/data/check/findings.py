"""What a look at an environment found, as lines of text and one picture."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldmodel.data.check.look import Look
from worldmodel.data.check.remarks import Remark
from worldmodel.data.check.sheet import sheet
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.io.video import write_png
from worldmodel.kernels.threads import usable_cores
from worldmodel.nn.actions import action_labels

MOST_LISTED = 12  # names of actions, or different rewards


@dataclass(frozen=True)
class Findings:
    """What was seen, and what is remarkable about it. episodes, workers: of the collection that is planned.

    `str()` is the long form, `short()` the first lines of a collection.
    """

    look: Look
    remarks: tuple[Remark, ...]
    episodes: int | None = None
    workers: int = 0

    @property
    def info(self) -> DatasetInfo:
        """The settings that all collected episodes will share."""
        return self.look.info

    @property
    def refusals(self) -> tuple[Remark, ...]:
        """The remarks for which no world can learn from such episodes."""
        return tuple(remark for remark in self.remarks if remark.refused)

    def write_sheet(self, path: Path | str) -> Path:
        """Write eight moments as one PNG picture, at most 1,600 pixels wide."""
        return write_png(path, sheet(self.look.seen.shots, self.info))

    def __str__(self) -> str:
        rows = {"frames": self._frames(), "actions": self._actions(), "rewards": self._rewards(), "ends": self._ends()}
        rows |= {"speed": self._speed(), "estimate": self._estimate()}
        lines = [f"{name:10}{text}" for name, text in rows.items() if text]
        return "\n".join([*lines, *self._remarks()])

    def short(self) -> str:
        """Frames, actions, the estimate and the remarks."""
        rows = {"frames": self._frames(), "actions": self._actions(), "estimate": self._estimate()}
        lines = [f"{name}: {text}" for name, text in rows.items() if text]
        return "\n".join([*lines, *self._remarks()])

    def _remarks(self) -> list[str]:
        return [f"{'refused' if remark.refused else 'warning'}: {remark.text}" for remark in self.remarks]

    def _frames(self) -> str:
        after = "×".join(map(str, self.info.frame_shape[:2]))
        sizes = sorted({"×".join(map(str, shape[:2])) for shape in self.look.seen.sizes})
        before = " and ".join(sizes[:2]) + (", …" if len(sizes) > 2 else "")
        return f"{self.look.seen.frames_from}, {before or 'of any size'} → {after}"

    def _actions(self) -> str:
        names = action_labels(self.info.action_space, self.info.action_names)
        more = f", … ({len(names)} in all)" if len(names) > MOST_LISTED else ""
        return f"{self.info.action_space}: {', '.join(names[:MOST_LISTED])}{more}"

    def _rewards(self) -> str:
        if not self.look.played:
            return ""
        rewards = np.concatenate([episode.rewards for episode in self.look.played])
        counts = Counter(f"{reward:g}" for reward in rewards.tolist())
        if len(counts) > MOST_LISTED:
            return f"{rewards.min():g} to {rewards.max():g}, {len(counts)} different ones in {len(rewards)} steps"
        return ", ".join(f"{value} ({count} times)" for value, count in sorted(counts.items(), key=_by_number))

    def _ends(self) -> str:
        if not (lengths := [episode.steps for episode in self.look.played]):
            return ""
        ends = Counter(episode.end for episode in self.look.played)
        words = {"cut": "cut by max_steps", "stopped": "stopped by this check"}
        counts = ", ".join(f"{count} {words.get(end, end)}" for end, count in sorted(ends.items()))
        return f"{len(lengths)} episodes of {min(lengths)} to {max(lengths)} steps: {counts}"

    def _speed(self) -> str:
        if not self.look.seconds or not self.look.played:
            return ""
        return f"{1 / self._step_seconds():,.0f} steps/s in one process"

    def _step_seconds(self) -> float:
        return self.look.seconds / sum(episode.steps for episode in self.look.played)

    def _estimate(self) -> str:
        """Time and disk of all episodes."""
        if self.episodes is None or not self.look.seconds or not self.look.played:
            return ""
        steps, seconds, size = (self.episodes * each for each in self.of_an_episode())
        stopped = any(each.end == "stopped" for each in self.look.played)
        least = "at least " if self.info.max_steps is None and stopped else "about "
        return f"{least}{_time(seconds)} and {_bytes(size)} for {self.episodes:,} episodes, {steps:,.0f} steps"

    def of_an_episode(self) -> tuple[float, float, float]:
        """Steps, seconds of a collection, and bytes of a mean episode of those that were played.

        Where the look stopped an episode, it counts as one of full length.
        """
        played, limit = self.look.played, self.info.max_steps
        lengths = [max(each.steps, limit or 0) if each.end == "stopped" else each.steps for each in played]
        steps = sum(lengths) / len(lengths)
        seconds = steps * self._step_seconds() / min(max(self.workers, 1), usable_cores())
        return steps, seconds, steps * sum(each.size for each in played) / sum(each.steps for each in played)


def _by_number(item: tuple[str, int]) -> float:
    return float(item[0])


def _time(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1, seconds):.0f} s"


def _bytes(size: float) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"

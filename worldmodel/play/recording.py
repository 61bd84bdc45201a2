"""What is recorded of play: a video to look at, and an episode of each side that training can use."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete
from jaxtyping import UInt8

from worldmodel.data.episodes.episode import Episode
from worldmodel.data.episodes.origins import settings, write_origins
from worldmodel.data.episodes.store import DatasetInfo, EpisodeStore
from worldmodel.info import WorldInfo
from worldmodel.io.folders import make_folder
from worldmodel.io.lock import writer_lock
from worldmodel.io.video import write_video
from worldmodel.play.moment import End, Frame, Side

POLICY = "play"  # not a policy of the command collect: a person chose the actions
MOST_BYTES = 2**28  # of the frames of one take; it is then saved, and the next one begins
GAP = 4  # pixels between the two sides of a video
VIDEO_HEIGHT = 256  # pixels; smaller frames are enlarged


@dataclass
class Strip:
    """One side of a take: n + 1 frames, and what was done and earned between them."""

    frames: list[Frame]
    end: End
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)


@dataclass
class Take:
    """What is recorded from a start, or from a moment, until play jumps elsewhere."""

    seed: int
    fps: float
    sides: dict[str, Strip]
    temperatures: list[float] = field(default_factory=list)  # other than the world's own, as they were chosen

    def bytes(self) -> int:
        """The memory that the frames take."""
        return sum(len(side.frames) * side.frames[0].nbytes for side in self.sides.values())


class Recorder:
    """Records takes while it is on, into `out/videos`, `out/dream/episodes` and `out/real/episodes`.

    `saved` has the files and folders that were written, in order.
    """

    def __init__(self, out: Path, info: WorldInfo, origin: Mapping[str, Any]):
        self.out, self.info, self.origin = out, info, dict(origin)
        self.on = False
        self.take: Take | None = None
        self.saved: list[Path] = []

    def begin(self, sides: Mapping[str, Side], seed: int, fps: float) -> None:
        """Begin a take at the frames that are shown, if the recorder is on and there is something to come."""
        if self.on and not all(side.over for side in sides.values()):
            self.take = Take(seed, fps, {name: Strip([side.frame], side.end) for name, side in sides.items()})

    def add(self, action: np.ndarray, sides: Mapping[str, Side], temperature: float | None) -> None:
        """Add a frame of each side, and the action that led to it; sides that are over stay as they are."""
        if self.take is None:
            return
        if temperature is not None and temperature not in self.take.temperatures:
            self.take.temperatures.append(temperature)
        for name, side in sides.items():
            if not (strip := self.take.sides[name]).end:
                strip.frames.append(side.frame)
                strip.actions.append(action)
                strip.rewards.append(side.reward)
                strip.end = side.end

    @property
    def full(self) -> bool:
        """Whether the take needs as much memory as a take may."""
        return self.take is not None and self.take.bytes() >= MOST_BYTES

    def end(self) -> list[Path]:
        """End the take and save it; returns the video and the folders of the episodes, or nothing without a step.

        Raises: OSError if the disk refuses; ValueError if the folder holds episodes of other settings.
        """
        take, self.take = self.take, None
        if take is None or not any(side.actions for side in take.sides.values()):
            return []
        path = _new_file(self.out / "videos")
        written = [write_video(path, _images(take), take.fps)]
        written += [self._save(name, side, take) for name, side in take.sides.items() if side.actions]
        self.saved += written
        return written

    def _save(self, name: str, side: Strip, take: Take) -> Path:
        """Add one side to its folder of episodes, with the origin of a dream beside it; returns the folder."""
        folder = self.out / name / "episodes"
        store = EpisodeStore.create(folder, self._dataset(name))
        with writer_lock(folder, "recording"):
            index = max(store.indices, default=-1) + 1
            if name == "dream":
                made = {**self.origin, **({"temperatures": take.temperatures} if take.temperatures else {})}
                write_origins(folder, store.origins() | {index: settings(store.info) | {"env": made}})
            arrays = np.stack(side.frames), np.stack(side.actions), np.array(side.rewards, np.float32)
            terminated = side.end == "terminated"
            store.write(Episode(*arrays, terminated, not terminated, seed=take.seed, index=index))
        return folder

    def _dataset(self, name: str) -> DatasetInfo:
        """The settings of a folder: those of the real environment, but for what made the frames."""
        info, env = self.info, self.info.env
        made = env if name == "real" else {key: self.origin[key] for key in ("name", "world") if key in self.origin}
        space = Discrete(1) if info.action_space is None else info.action_space
        common = {"action_names": info.action_names, "frame_skip": env.get("frame_skip")}
        return DatasetInfo(space, info.frame_shape, seed=0, policy=POLICY, env=made, **common)


def _new_file(folder: Path) -> Path:
    """The first free name in a folder of videos; the file is made, so that nobody else takes it."""
    make_folder(folder)
    number = 0
    while True:
        path = folder / f"play_{number:06d}.mp4"
        try:
            path.touch(exist_ok=False)
            return path
        except FileExistsError:
            number += 1


def _images(take: Take) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames of a take, enlarged; with two sides, the dream is on the left."""
    strips = [take.sides[name] for name in ("dream", "real") if name in take.sides]
    for n in range(max(len(strip.frames) for strip in strips)):
        shown = [_enlarged(strip.frames[min(n, len(strip.frames) - 1)]) for strip in strips]
        gap = np.zeros((shown[0].shape[0], GAP, 3), np.uint8)
        yield np.concatenate([part for image in shown for part in (gap, image)][1:], axis=1)


def _enlarged(frame: Frame) -> UInt8[np.ndarray, "H W 3"]:
    scale = max(1, VIDEO_HEIGHT // frame.shape[0])
    return rgb(frame).repeat(scale, axis=0).repeat(scale, axis=1)


def rgb(frame: Frame) -> UInt8[np.ndarray, "h w 3"]:
    """The frame with three colors: grey is repeated, and of more than three channels the first three are shown."""
    return np.repeat(frame[:, :, :1], 3, axis=2) if frame.shape[2] < 3 else frame[:, :, :3]

"""One episode: the frames that an environment showed, the actions taken between them, and the rewards."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Shaped, UInt8


class EpisodeSignature(NamedTuple):
    """What all episodes of a dataset share: shapes, the dtype of actions and the sorted names of infos."""

    frame_shape: tuple[int, ...]
    action_shape: tuple[int, ...]
    action_dtype: str
    info_keys: tuple[str, ...]

    def __str__(self) -> str:
        infos = ", ".join(self.info_keys) or "none"
        return f"frames {self.frame_shape}, actions {self.action_dtype} {self.action_shape}, infos {infos}"


@dataclass(frozen=True, eq=False)
class Episode:
    """T actions, T rewards and T + 1 frames; `actions[i]` leads from `frames[i]` to `frames[i + 1]`.

    `seed` is the number that the environment was reset with. `index` is the episode's number in its dataset.
    `infos` are numbers that the environment reported with each frame (health, position, ...).

    Raises:
        ValueError: lengths that do not fit together, no action at all, or a negative seed or index.
        TypeError: frames not uint8, rewards not float32, or actions or infos that are not numbers.
    """

    frames: UInt8[np.ndarray, "n h w c"]
    actions: Shaped[np.ndarray, "n-1 ..."]
    rewards: Float32[np.ndarray, "n-1"]
    terminated: bool
    truncated: bool
    seed: int
    index: int
    infos: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self):
        _check_frames(self.frames)
        steps = len(self.frames) - 1
        if self.rewards.dtype != np.float32:
            raise TypeError(f"episode {self.index}: expected float32 rewards, got {self.rewards.dtype}")
        if self.rewards.shape != (steps,) or self.actions.shape[:1] != (steps,):
            raise ValueError(
                f"episode {self.index}: {steps + 1} frames need {steps} actions and {steps} rewards, "
                f"got shapes {self.actions.shape} and {self.rewards.shape}"
            )
        if self.seed < 0 or self.index < 0:
            raise ValueError(f"episode: expected seed and index >= 0, got {self.seed} and {self.index}")
        self._check_numbers(steps)

    def _check_numbers(self, steps: int) -> None:
        for name, values in {"actions": self.actions, **self.infos}.items():
            if values.dtype.kind not in "biuf":
                raise TypeError(f"episode {self.index}: {name}: expected numbers, got {values.dtype}")
        for name, values in self.infos.items():
            if values.shape[:1] != (steps + 1,):
                raise ValueError(f"episode {self.index}: info {name!r}: expected {steps + 1} rows, got {values.shape}")

    def __len__(self) -> int:
        """T: the number of actions, one less than the number of frames."""
        return len(self.actions)

    @property
    def signature(self) -> EpisodeSignature:
        shapes = self.frames.shape[1:], self.actions.shape[1:]
        return EpisodeSignature(*shapes, self.actions.dtype.str, tuple(sorted(self.infos)))


def _check_frames(frames: np.ndarray) -> None:
    if frames.dtype != np.uint8:
        raise TypeError(f"frames: expected uint8, got {frames.dtype}")
    if frames.ndim != 4:
        raise ValueError(f"frames: expected 4 axes (t h w c), got shape {frames.shape}")
    if len(frames) < 2:
        raise ValueError(f"frames: an episode needs at least 2 (one action), got {len(frames)}")

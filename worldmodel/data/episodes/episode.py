"""One episode: what an environment showed, what was done in it, and what that earned."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Shaped, UInt8


@dataclass(frozen=True, eq=False)
class Episode:
    """T actions, T rewards and T + 1 frames; `actions[i]` leads from `frames[i]` to `frames[i + 1]`.

    `seed` is the number that the environment was reset with, `index` the place in the dataset, `infos`
    numbers that the environment reported with each frame (health, position, ...).

    Raises:
        ValueError: lengths that do not fit together, no action at all, or a negative seed or index.
        TypeError: frames not uint8, rewards not float32, or actions or infos that are no numbers.
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
        for name, values in {"actions": self.actions, **self.infos}.items():
            if values.dtype.kind not in "biuf":
                raise TypeError(f"episode {self.index}: {name}: expected numbers, got {values.dtype}")
        for name, values in self.infos.items():
            if values.shape[:1] != (steps + 1,):
                raise ValueError(f"episode {self.index}: info {name!r}: expected {steps + 1} rows, got {values.shape}")

    def __len__(self) -> int:
        """T: the number of actions, one less than there are frames."""
        return len(self.actions)


def _check_frames(frames: np.ndarray) -> None:
    if frames.dtype != np.uint8:
        raise TypeError(f"frames: expected uint8, got {frames.dtype}")
    if frames.ndim != 4:
        raise ValueError(f"frames: expected 4 axes (t h w c), got shape {frames.shape}")
    if len(frames) < 2:
        raise ValueError(f"frames: an episode needs at least 2 (one action), got {len(frames)}")

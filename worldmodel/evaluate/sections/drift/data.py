"""How much is dreamed, and what the dreams are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.evaluate.testbed.dream_clips import WorldProtocol
from worldmodel.evaluate.testbed.dream_trace import DreamTrace
from worldmodel.io.config import LARGEST, check_range

MOMENTS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)  # steps at which dreams are measured
AVERAGING_STEPS = 10  # steps up to a moment over which its numbers are means: a single frame says little


@dataclass
class DriftConfig:
    """How much is dreamed to measure drift."""

    dreams: int = 192
    """Dreams, all at once."""
    steps: int = 1000
    """Steps of each dream."""
    real_frames: int = 2048
    """Training frames among which the most similar one is sought."""

    def __post_init__(self) -> None:
        check_range(self, 1, LARGEST, "dreams", "real_frames")
        check_range(self, 2 * AVERAGING_STEPS, LARGEST, "steps")  # the end is compared with the start

    @property
    def moments(self) -> tuple[int, ...]:
        """Steps at which dreams are measured; the last step is one of them."""
        return (*(m for m in MOMENTS if m < self.steps), self.steps)


@dataclass(frozen=True)
class DriftData:
    """The dreams, the real episodes that they are compared with, and the last step that a real
    episode reaches."""

    trace: DreamTrace
    store: EpisodeStore
    tokens: TokenStore
    train: Sequence[int]
    held_out: Sequence[int]
    config: DriftConfig
    seed: int
    real_until: int

    @property
    def late_steps(self) -> list[int]:
        """The steps at which late dreams are judged: the last one, and the last that real episodes
        reach."""
        reached = {min(self.config.steps, self.real_until)} - set(range(2 * AVERAGING_STEPS))
        return sorted(reached | {self.config.steps})

    def beyond(self, step: int) -> str:
        """Why nothing can be said of a step: no real episode is that long; "" if one is."""
        end = self.real_until
        return "" if step <= end else f"the longest episode ends at step {end}, before step {step}"


def real_steps(tokens: TokenStore, episodes: Sequence[int], world: WorldProtocol, context: int) -> int:
    """The last step of a dream for which there are real frames of the same age: that of the longest
    episode."""
    given = 1 + (world.whole_latents(context) - 1) // world.frames_per_step
    return max(0, max(len(tokens.tokens(index)) for index in episodes) - given)

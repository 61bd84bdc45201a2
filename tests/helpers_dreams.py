"""Worlds whose answers are known: one that knows the maze by heart, and some that are broken in one way each."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete

from tests.helpers_models import random_frames
from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.episodes.episode import Episode
from worldmodel.data.episodes.store import DatasetInfo, EpisodeStore
from worldmodel.envs.maze import ACTIONS, MazeConfig, MazeEnv, render, step_pose
from worldmodel.evaluate.testbed.dream_clips import random_actions
from worldmodel.evaluate.testbed.simulator import play_actions
from worldmodel.world import WorldInfo

SIDE, GRID, CODES = 16, (4, 4), 16  # pixels of a frame; tokens of one, each the brightness of its 4x4 pixels
CONFIG = MazeConfig(rooms=2, loops=1.0, height=SIDE, width=SIDE, max_steps=400)


class Witness(MazeEnv):
    """The maze, which remembers where each of its frames was seen from."""

    seen: dict[bytes, Any] = {}  # noqa: RUF012  (all of them share it)

    def __init__(self) -> None:
        super().__init__(CONFIG)

    def _observe(self):
        frame, info = super()._observe()
        self.seen[frame.tobytes()] = (self.maze, self.pose)
        return frame, info


def tokens_of(frames: np.ndarray) -> np.ndarray:
    """`... h w c` → `... y x`: mean brightness in 16 steps."""
    grey = frames.mean(-1)
    cells = grey.reshape(*grey.shape[:-2], GRID[0], SIDE // GRID[0], GRID[1], SIDE // GRID[1])
    return (cells.mean((-3, -1)) * CODES / 256).astype(np.int64)


@dataclass(frozen=True)
class State:
    places: list[Any]
    frame: torch.Tensor


class TrueMaze:
    """Dreams what is true: it looks up where a frame was seen from, and computes what follows."""

    info = WorldInfo((SIDE, SIDE, 3), Discrete(len(ACTIONS)), ACTIONS)
    frames_per_step = 1

    def whole_latents(self, frames: int) -> int:
        return frames

    def start(self, frames, actions, seed=0) -> State:
        return State([Witness.seen[frame.numpy().tobytes()] for frame in frames[:, -1]], frames[:, -1])

    def step(self, state, actions, sampler=None):
        actions = np.asarray(actions).reshape(len(state.places))
        places = [(m, step_pose(m, p, self.follow(a))) for (m, p), a in zip(state.places, actions, strict=True)]
        frame = torch.from_numpy(np.stack([render(maze, pose, SIDE, SIDE) for maze, pose in places]))
        bits = torch.full((len(places),), 3.0)
        tokens = torch.from_numpy(tokens_of(frame.numpy()))
        return State(places, frame), SimpleNamespace(frames=frame[:, None], tokens=tokens, bits=bits)

    def imagine(self, frames, actions, horizon, sampler=None, seed=0):
        state, given, video = self.start(frames, actions, seed), frames.shape[1] - 1, []
        for i in range(given, given + horizon):
            state, step = self.step(state, actions[:, i], sampler)
            video.append(step.frames)
        return torch.cat(video, dim=1)

    def follow(self, action: int) -> int:
        """The action that is taken for this one."""
        return int(action)


class Deaf(TrueMaze):
    """Moves as it likes, whatever the action."""

    def follow(self, action: int) -> int:
        return ACTIONS.index("turn_left")


class Frozen(TrueMaze):
    """Shows its first frame for ever."""

    def follow(self, action: int) -> int:
        return ACTIONS.index("noop")


class Blank(TrueMaze):
    """Becomes one grey after `good` steps: dreams collapse, and all look alike."""

    def __init__(self, good: int) -> None:
        self.good, self.steps = good, 0

    def start(self, frames, actions, seed=0) -> State:
        self.steps = 0
        return super().start(frames, actions, seed)

    def step(self, state, actions, sampler=None):
        state, step = super().step(state, actions, sampler)
        self.steps += 1
        if self.steps > self.good:
            step.frames = torch.full_like(step.frames, 128)
            step.tokens = torch.full_like(step.tokens, 8)
        return state, step


def maze_store(folder, episodes: int, steps: int) -> EpisodeStore:
    """Episodes of held random actions in the maze that `Witness` remembers; those that reach the goal are left out."""
    store = EpisodeStore.create(
        folder, DatasetInfo(Discrete(len(ACTIONS)), (SIDE, SIDE, 3), seed=0, policy="sticky", hold=4.0)
    )
    env, seed = Witness(), 1000
    while len(store.indices) < episodes:
        actions = random_actions(env.action_space, 1, steps, seed, hold=4.0)[0]
        frames, index = play_actions(env, seed, actions), len(store.indices)
        if len(frames) == steps + 1:
            store.write(Episode(frames, actions, np.zeros(steps, np.float32), False, True, seed=seed, index=index))
        seed += 1
    return store


def noise_store(folder) -> EpisodeStore:
    """Two episodes of noise that a `small_world` takes: what it makes of them is of no account, but that it does."""
    store = EpisodeStore.create(folder, DatasetInfo(Discrete(4), (16, 24, 3), seed=0))
    for index in range(2):
        frames = random_frames(1, 25, seed=index)[0].numpy()
        actions = np.random.default_rng(index).integers(0, 4, 24)
        store.write(Episode(frames, actions, np.zeros(24, np.float32), False, True, seed=index, index=index))
    return store


def maze_tokens(folder, store: EpisodeStore) -> TokenStore:
    tokens = TokenStore.create(folder, key="k", codes=CODES, grid=GRID, time_stride=1)
    for index in store.indices:
        tokens.write(index, tokens_of(store.frames(index, 0, store.length(index))))
    return tokens


def broken(change: Callable[[np.ndarray], np.ndarray]) -> type[Witness]:
    """A maze whose frames are changed before anyone sees them."""

    class Changed(Witness):
        def _observe(self):
            frame, info = super()._observe()
            return change(frame), info

    return Changed

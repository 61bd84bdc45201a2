"""A data set whose next frame is computable, a world that computes it, and clips of both, for the tests of metrics."""

from pathlib import Path

import numpy as np
import torch
from gymnasium.spaces import Discrete

from tests.helpers_models import small_prior, small_tokenizer
from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.episodes.episode import Episode
from worldmodel.data.episodes.store import DatasetInfo, EpisodeStore
from worldmodel.evaluate.testbed.held_out import HeldOut
from worldmodel.tokenizer import tokenize
from worldmodel.world import WorldInfo, WorldModel

STEP = 8  # grey levels by which an action makes the frame brighter or darker
SLOPE = np.arange(24)  # grey levels from left to right, so that frames are not flat


def brightening(folder: Path, episodes: int = 4, steps: int = 12) -> EpisodeStore:
    """Episodes of a frame that the action makes brighter (1) or darker (0)."""
    store = EpisodeStore.create(folder / "episodes", DatasetInfo(Discrete(2), (16, 24, 3), seed=0))
    for index in range(episodes):
        actions = np.random.default_rng(index).integers(0, 2, steps)
        level = 100 + STEP * np.cumsum(np.r_[0, 2 * actions - 1])
        frames = np.broadcast_to(level[:, None, None, None] + SLOPE[:, None], (steps + 1, 16, 24, 3)).astype(np.uint8)
        store.write(Episode(frames, actions, np.zeros(steps, np.float32), False, True, seed=index, index=index))
    return store


def brightening_world(rewards=()) -> WorldModel:
    return WorldModel(small_tokenizer(), small_prior(actions=2, rewards=rewards), WorldInfo((16, 24, 3), Discrete(2)))


def brightening_tokens(world: WorldModel, store: EpisodeStore, folder: Path) -> TokenStore:
    return tokenize(world.tokenizer, store, folder / "tokens", show=False)


def simulate(given, actions, horizon, sampler, seed):
    """What `imagine` of a perfect world returns."""
    moves = np.cumsum(2 * actions[:, given.shape[1] - 1 :].astype(int) - 1, axis=1) * STEP
    level = given[:, -1:].int() + torch.from_numpy(moves)[:, :horizon, None, None, None]
    return level.to(torch.uint8)


def clips_of(tokens: torch.Tensor, episodes: tuple[int, ...], actions: int = 4) -> HeldOut:
    """Clips with these tokens and no more: black frames, one-hot actions that are never the same in neighbours."""
    n, s = tokens.shape[:2]
    numbers = (np.arange(n)[:, None] + np.arange(s - 1)) % actions
    action_inputs = torch.cat([torch.zeros(n, 1, actions), torch.eye(actions)[numbers]], dim=1)
    frames = torch.zeros(n, s, 16, 24, 3, dtype=torch.uint8)
    return HeldOut(episodes, frames, numbers, tokens, action_inputs)

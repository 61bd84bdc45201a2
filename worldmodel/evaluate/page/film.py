"""A short film: a real clip, and what the world dreams of it after the given frames, with actions and rewards."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.dream.rollout import (
    RolloutStart,
    action_sequence,
    name_of,
    start_from_context,
    start_in_episode,
)
from worldmodel.evaluate.testbed.dream_clips import DreamSettings, rgb_array
from worldmodel.prior import SamplerConfig
from worldmodel.world import DreamState, WorldModel

STEPS = 120  # frames after the given ones, at most
SHEET = 16  # moments on the contact sheet
GIVEN_SHOWN = 2  # given frames on it


@dataclass(frozen=True)
class Track:
    """The frames that follow the given ones, really or in the dream, with the reward of the step into each.

    ended: whether the last frame ended the episode.
    """

    frames: UInt8[np.ndarray, "n h w 3"]
    rewards: Float[np.ndarray, "n"]
    ended: bool

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class Film:
    """The given frames, what truly followed (None: unknown), and the dream.

    given: `k h w 3`. given_rewards: of the steps between these, `k-1`. actions: a caption for the action into each
    frame that follows. usual: the commonest reward, of steps at which nothing happens.
    """

    given: UInt8[np.ndarray, "k h w 3"]
    given_rewards: Float[np.ndarray, "k1"]
    actions: tuple[str, ...]
    real: Track | None
    dream: Track
    usual: float

    @property
    def steps(self) -> int:
        """Frames that follow the given ones."""
        return max(len(self.dream), len(self.real or ()))

    def events(self, track: Track) -> Bool[np.ndarray, "n"]:
        """The steps of a track whose reward is not the usual one."""
        return ~np.isclose(track.rewards, self.usual, rtol=0, atol=1e-6)

    def moments(self) -> list[int]:
        """Steps for a contact sheet: evenly spaced, and those with rewards as long as they are few."""
        found = np.zeros(self.steps, bool)
        for track in filter(None, (self.real, self.dream)):
            found[: len(track)] |= self.events(track)
        rare = np.flatnonzero(found)[: SHEET // 3].tolist() if found.sum() <= SHEET else []
        evenly = np.linspace(0, self.steps - 1, SHEET - len(rare)).round().astype(int).tolist() if self.steps else []
        return sorted({*rare, *evenly})


def film_of_episode(world: WorldModel, store: EpisodeStore, episode: int, dreams: DreamSettings | None = None) -> Film:
    """The start of an episode, and its dream under the same actions.

    Raises: ValueError for an episode of a single frame.
    """
    dreams = dreams or DreamSettings()
    context = min(world.whole_latents(dreams.context), world.whole_latents(store.length(episode) - 1))
    start = start_in_episode(world, store, episode, start=0, context=context, horizon=STEPS, seed=dreams.seed)
    stride, rewards = world.tokenizer.time_stride, store.rewards(episode).astype(np.float64)
    n = len(start.next_actions) // stride * stride
    whole = context + n == store.length(episode) and store.header(episode).terminated
    real = Track(_rgb(start.next_frames[:n]), rewards[context - 1 : context - 1 + n], whole)
    return _film(world, start, start.next_actions[:n], rewards, real, dreams.sampler)


def film_of_context(world: WorldModel, dreams: DreamSettings | None = None) -> Film:
    """A dream under random actions from a context that came with the world, where there are no episodes.

    Raises: ValueError if the world has no contexts.
    """
    dreams = dreams or DreamSettings()
    start, stride = start_from_context(world, None, dreams.seed), world.tokenizer.time_stride
    actions = action_sequence("random", world.info, start.next_actions, STEPS // stride * stride, dreams.seed)
    return _film(world, start, actions, np.zeros(0), None, dreams.sampler)


def choose_episode(store: EpisodeStore, episodes: Sequence[int]) -> int:
    """The episode with most rewards other than the usual one, within the length of a film; of those, the longest."""
    usual = usual_reward(np.concatenate([store.rewards(index) for index in episodes]))

    def interest(index: int) -> tuple[int, int]:
        return int((store.rewards(index)[:STEPS] != usual).sum()), store.length(index)

    return max(episodes, key=interest)


def usual_reward(rewards: np.ndarray) -> float:
    """The commonest one; 0 of none."""
    values, counts = np.unique(rewards, return_counts=True)
    return float(values[counts.argmax()]) if len(values) else 0.0


def _rgb(frames: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h w 3"]:
    return rgb_array(torch.from_numpy(frames))


def _film(
    world: WorldModel,
    start: RolloutStart,
    actions: np.ndarray,
    rewards: np.ndarray,
    real: Track | None,
    sampler: SamplerConfig,
) -> Film:
    captions = tuple("" if world.info.action_space is None else name_of(each, world.info) for each in actions)
    dream = _dream(world, start.state, actions, sampler)
    known = rewards if real is not None else dream.rewards
    given = _rgb(start.given)
    return Film(given, rewards[: len(given) - 1].astype(np.float64), captions, real, dream, usual_reward(known))


def _dream(world: WorldModel, state: DreamState, actions: np.ndarray, sampler: SamplerConfig) -> Track:
    """The dream under these actions up to its end. The reward of a latent is that of its last frame."""
    stride, frames, rewards, ended = world.tokenizer.time_stride, [], [], False
    for i in range(0, len(actions), stride):
        state, step = world.step(state, actions[None, i : i + stride], sampler)
        frames.append(rgb_array(step.frames[0]))
        rewards += [0.0] * (stride - 1) + [0.0 if step.outcome is None else float(step.outcome.reward[0])]
        ended = step.outcome is not None and bool(step.outcome.ended[0])
        if ended:
            break
    none = np.zeros((0, *rgb_array(state.frame).shape[1:]), np.uint8)
    return Track(np.concatenate([none, *frames]), np.array(rewards), ended)

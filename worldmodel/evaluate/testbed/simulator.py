"""The real environment as the truth: moments in it that can be repeated, and what follows from
there."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import gymnasium
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from worldmodel.evaluate.testbed.dream_clips import WorldProtocol, random_actions
from worldmodel.prior import SamplerConfig

HOLD = 8.0  # mean number of steps that an action is held on the way to a moment
TRIES = 10  # walks per moment that is asked for; some episodes end before it


@dataclass(frozen=True)
class Moment:
    """A point in an episode: its seed, the actions up to it, and all frames up to it."""

    seed: int
    actions: np.ndarray
    frames: UInt8[np.ndarray, "t h w c"]


def moments(env: gymnasium.Env, count: int, steps: int, seed: int) -> list[Moment]:
    """Up to `count` moments, each after `steps` held random actions of another episode; fewer if
    most end before."""
    found = (walk(env, seed + i, steps) for i in range(TRIES * count))
    return list(itertools.islice((moment for moment in found if moment is not None), count))


def walk(env: gymnasium.Env, seed: int, steps: int) -> Moment | None:
    """The moment after `steps` held random actions in the episode of this seed; None if it ends
    before."""
    actions = random_actions(env.action_space, 1, steps, seed, HOLD)[0]
    frames = play_actions(env, seed, actions)
    return None if len(frames) <= steps else Moment(seed, actions, frames)


def true_frames_after(env: gymnasium.Env, moment: Moment, actions: np.ndarray) -> UInt8[np.ndarray, "t h w c"]:
    """The true frames under these actions after the moment; fewer than actions if the episode
    ends."""
    return play_actions(env, moment.seed, np.concatenate([moment.actions, actions]))[len(moment.frames) :]


def dream_after(
    world: WorldProtocol,
    found: Sequence[Moment],
    actions: Sequence[np.ndarray],
    context: int,
    sampler: SamplerConfig,
    seed: int,
) -> UInt8[Tensor, "b t h w c"]:
    """Dreams after each moment: its last `context` frames are given, and its own actions (`t`)
    follow."""
    given = world.whole_latents(context)
    frames = np.stack([moment.frames[-given:] for moment in found])
    given_actions = [moment.actions[len(moment.actions) - given + 1 :] for moment in found]
    both = np.stack([np.concatenate(pair) for pair in zip(given_actions, actions, strict=True)])
    return world.imagine(torch.from_numpy(frames), both, len(actions[0]), sampler, seed).cpu()


def is_reproducible(env: gymnasium.Env, moment: Moment) -> bool:
    """Whether seed and actions lead to the same frames again."""
    return np.array_equal(play_actions(env, moment.seed, moment.actions), moment.frames)


def play_actions(env: gymnasium.Env, seed: int, actions: np.ndarray) -> UInt8[np.ndarray, "t h w c"]:
    """The first frame of an episode and the frames under the actions, without the frame of a step
    that ends it."""
    return np.stack(list(_frames(env, seed, actions)))


def _frames(env: gymnasium.Env, seed: int, actions: np.ndarray) -> Iterator[np.ndarray]:
    frame, _ = env.reset(seed=seed)
    yield frame
    for action in actions:
        frame, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            return
        yield frame

"""Plays one episode, as a function of its index, and describes the episodes of an environment."""

from collections.abc import Mapping
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import Space

from worldmodel.data.collect.engine import EngineError, checked_reset, checked_step, engine_errors
from worldmodel.data.collect.policies import make_policy
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.episode import Episode
from worldmodel.nn.actions import space_to_json

MaxSteps = int | Literal["auto"] | None  # the longest episode; None: no limit
MAX_STEPS = 250  # "auto", for an env that has no limit of its own,
LONGEST_LIMIT = 10_000  # ... or a longer one than this: frames of one episode are in memory until it ends


def dataset_info_of(
    env: gymnasium.Env, config: Mapping[str, Any], *, max_steps: MaxSteps = None, **settings: Any
) -> DatasetInfo:
    """The `DatasetInfo` of episodes of an env; `settings` are the other fields (seed, policy, hold, ...).

    max_steps: "auto" is the env's own limit, or `MAX_STEPS` if it has none up to `LONGEST_LIMIT`.

    Raises:
        ValueError: observations are not uint8 `h w c`, or the action space has no encoding.
        EngineError: the env raised an exception.
    """
    with engine_errors("observation_space"):
        space = env.observation_space
        shape, dtype = tuple(space.shape or ()), space.dtype
    if len(shape) != 3 or dtype != np.uint8:
        raise ValueError(
            f"env: expected uint8 observations (h, w, c), got {space}; wrap it in an env that shows frames"
        )
    with engine_errors("action_space"):
        actions = env.action_space
    try:
        space_to_json(actions)
    except TypeError as error:
        raise ValueError(f"env: {error}") from error
    if max_steps == "auto":
        limit = episode_limit(env)
        max_steps = limit if limit is not None and limit <= LONGEST_LIMIT else MAX_STEPS
    names = _action_names(env)
    return DatasetInfo(actions, shape, env=dict(config), action_names=names, max_steps=max_steps, **settings)


def episode_limit(env: gymnasium.Env) -> int | None:
    """The steps after which an env itself cuts an episode: its `max_episode_steps`, or that of its spec; None: unknown.

    Raises:
        EngineError: the env raised an exception.
    """
    with engine_errors("max_episode_steps"):
        name = "max_episode_steps"
        if env.has_wrapper_attr(name) and (limit := env.get_wrapper_attr(name)) is not None:
            return int(limit)
        return None if env.spec is None else env.spec.max_episode_steps


def _action_names(env: gymnasium.Env) -> tuple[str, ...]:
    with engine_errors("action_names"):
        names = tuple(env.get_wrapper_attr("action_names")) if env.has_wrapper_attr("action_names") else ()
        if not all(isinstance(name, str) for name in names):
            raise EngineError(f"expected words, got {names}")
        return names


def run_episode(env: gymnasium.Env, info: DatasetInfo, index: int) -> Episode:
    """Play episode `index` of the dataset that `info` describes: a function of (info.seed, index).

    Raises:
        EngineError: the env raised an exception, or returned a malformed frame, reward or end.
        ValueError: an action outside the space, or an info that the env does not report or that is not a number.
    """
    return play_episode(env, info, index)[0]


def play_episode(env: gymnasium.Env, info: DatasetInfo, index: int) -> tuple[Episode, bool]:
    """As `run_episode`; also returns whether `max_steps` cut the episode."""
    env_seed, rng = env_and_policy_seeds(info, index)
    policy = make_policy(info.policy, info.action_space, rng, info.hold)
    observation, frame, extra = checked_reset(env, env_seed, info.frame_shape)
    frames, infos = [frame], [_numbers(extra, info.info_keys, 0)]
    actions, rewards = [], []
    terminated = truncated = cut = False
    while not (terminated or truncated or cut):
        action = policy(observation)
        if not _is_action(action, info.action_space):
            where = f"policy {info.policy!r}: episode {index}, step {len(actions)}"
            raise ValueError(f"{where}: expected an action in {info.action_space}, got {action!r}")
        step = checked_step(env, action, len(actions), info.frame_shape)
        observation, terminated, truncated = step.observation, step.terminated, step.truncated
        frames.append(step.frame)
        infos.append(_numbers(step.info, info.info_keys, len(frames) - 1))
        actions.append(np.array(action, info.action_space.dtype))
        rewards.append(step.reward)
        cut = not (terminated or truncated) and len(actions) == info.max_steps
    columns = {key: _column(key, [row[key] for row in infos]) for key in info.info_keys}
    arrays = (np.stack(frames), np.stack(actions), np.array(rewards, np.float32))
    outcome = {"terminated": terminated, "truncated": truncated or cut}
    return Episode(*arrays, **outcome, seed=env_seed, index=index, infos=columns), cut


def _is_action(action: Any, space: Space) -> bool:
    """Whether an action is in the space and finite; a space without bounds also contains infinity."""
    return bool(space.contains(action)) and bool(np.isfinite(action).all())


def _numbers(extra: Mapping[str, Any], keys: tuple[str, ...], frame: int) -> dict[str, np.ndarray]:
    if missing := [key for key in keys if key not in extra]:
        known = sorted(map(str, extra))
        raise ValueError(f"info_keys: the env reports no {missing} with frame {frame}; it has {known}")
    return {key: _as_numbers(key, extra[key], frame) for key in keys}


def _as_numbers(key: str, value: Any, frame: int) -> np.ndarray:
    try:
        numbers = np.array(value)
    except (ValueError, TypeError):  # lists of different lengths
        numbers = np.array(None)
    if numbers.dtype.kind not in "biuf":
        raise ValueError(f"info_keys: expected numbers in {key!r}, got {value!r} with frame {frame}")
    return numbers


def _column(key: str, rows: list[np.ndarray]) -> np.ndarray:
    if len(shapes := {row.shape for row in rows}) > 1:
        raise ValueError(f"info_keys: expected {key!r} in one shape with every frame, got {sorted(shapes)}")
    return np.stack(rows)


def env_and_policy_seeds(info: DatasetInfo, index: int) -> tuple[int, np.random.Generator]:
    """The seed of the env's reset in episode `index`, and the random generator of its policy."""
    sequence = np.random.SeedSequence((info.seed, index))
    env_seed = int(sequence.generate_state(1)[0] >> 1)  # 31 bits: engines keep seeds in a signed int
    return env_seed, np.random.default_rng(sequence.spawn(1)[0])

"""Collects episodes in parallel, such that episode i depends on (root seed, i) and on nothing else."""

import atexit
import contextlib
import errno
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import joblib
import numpy as np
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from worldmodel.data.episode import Episode
from worldmodel.data.info import DatasetInfo
from worldmodel.data.policies import make_policy
from worldmodel.data.store import EpisodeStore
from worldmodel.progress import progress as bar_of

MakeEnv = Callable[[], gymnasium.Env]


@dataclass(frozen=True)
class CollectReport:
    """What one call of `collect` added."""

    episodes: int
    frames: int
    seconds: float

    @property
    def frames_per_s(self) -> float:
        return self.frames / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class _Plan:
    """What a worker needs to collect any episode; `token` tells one call of `collect` from the next."""

    make_env: MakeEnv
    store: EpisodeStore
    fresh_env: bool
    parallel: bool
    token: str


def describe(env: gymnasium.Env, config: Mapping[str, Any], **settings: Any) -> DatasetInfo:
    """The `DatasetInfo` of episodes of an env; `settings` are the other fields (seed, policy, hold, ...).

    Raises:
        ValueError: observations that are not uint8 `h w c`.
    """
    space = env.observation_space
    shape = space.shape or ()
    if len(shape) != 3 or space.dtype != np.uint8:
        raise ValueError(
            f"env: expected uint8 observations (h, w, c), got {space}; wrap it in an env that shows frames"
        )
    names = tuple(env.get_wrapper_attr("action_names")) if env.has_wrapper_attr("action_names") else ()
    return DatasetInfo(env.action_space, shape, env=dict(config), action_names=names, **settings)


def collect(
    make_env: MakeEnv,
    store: EpisodeStore,
    episodes: int,
    *,
    policy: str = "random",
    hold: float = 8.0,
    workers: int = 1,
    seed: int = 0,
    max_steps: int | None = None,
    info_keys: tuple[str, ...] = (),
    fresh_env: bool = False,
    progress: bool = True,
) -> CollectReport:
    """Collects the missing ones of episodes 0 to `episodes - 1`; stopped or killed, the next call goes on.

    One worker runs in this process, more in processes of their own. Each process makes one env and resets it
    with a seed for each episode; `fresh_env` makes one per episode, for envs that carry state across a reset.
    A bar shows frames/s and the time to go, unless `progress` is off.

    Raises:
        ValueError: settings other than `store.info` has, or an env, action or info that does not fit.
        OSError: the disk is full; finished episodes stay, nothing else does.
        RuntimeError: a worker was killed.
        Exception: whatever an env or a policy raises, with a note that names the episode.
    """
    settings = {
        "policy": policy,
        "hold": hold,
        "seed": seed,
        "max_steps": max_steps,
        "info_keys": tuple(info_keys),
    }
    _check_settings(store.info, settings)
    make_policy(policy, store.info.action_space, np.random.default_rng(0), hold)  # a misspelt one stops here
    if workers < 1 or episodes < 1:
        raise ValueError(f"expected episodes >= 1 and workers >= 1, got {episodes} and {workers}")
    store.sweep()
    missing = sorted(set(range(episodes)) - set(store.indices))
    workers = min(workers, max(1, len(missing)))
    plan = _Plan(make_env, store, fresh_env, workers > 1, uuid.uuid4().hex)
    began, frames = time.monotonic(), 0
    with bar_of(name="collect", total=len(missing), unit="episode", shown=progress and bool(missing)) as bar:
        for count in _results(plan, missing, workers):
            frames += count
            bar.set_postfix_str(f"{frames / (time.monotonic() - began):,.0f} frames/s", refresh=False)
            bar.update()
    return CollectReport(len(missing), frames, time.monotonic() - began)


def _check_settings(info: DatasetInfo, settings: Mapping[str, Any]) -> None:
    wrong = {name: value for name, value in settings.items() if getattr(info, name) != value}
    if wrong:
        lines = (f"{name}: {getattr(info, name)!r} -> {value!r}" for name, value in wrong.items())
        raise ValueError(f"collect: not the settings of the store's DatasetInfo: {'; '.join(lines)}; give it the same")


def _results(plan: _Plan, missing: list[int], workers: int) -> Iterator[int]:
    """Frames of each finished episode, in the order in which they finish."""
    folder = plan.store.folder
    try:
        if workers == 1:
            yield from (_collect_one(plan, index) for index in missing)
        else:
            tasks = (joblib.delayed(_collect_one)(plan, index) for index in missing)
            options: dict[str, Any] = {"return_as": "generator_unordered", "batch_size": 1}
            pool: Any = joblib.Parallel(workers, **options)
            yield from pool(tasks)
    except TerminatedWorkerError as error:
        raise RuntimeError(
            f"a worker process was killed (out of memory?); finished episodes in {folder} are whole: "
            "run the same command again to go on, with fewer workers= if memory is short"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = "disk full; finished episodes are whole: make room, then run the same command again to go on"
        raise OSError(error.errno, message, str(folder)) from error
    finally:
        _close_env()
        if workers > 1:  # idle workers would keep their engines running
            get_reusable_executor().shutdown(wait=True)
        plan.store.sweep()


def _collect_one(plan: _Plan, index: int) -> int:
    """Runs in a worker: collects and stores episode `index`; returns its number of frames."""
    if plan.parallel:
        with contextlib.suppress(ValueError):  # raised in threads, which some joblib backends use
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches everyone; the parent alone answers
    env = _own_env(plan)
    try:
        episode = run_episode(env, plan.store.info, index)
    except Exception as error:
        error.add_note(f"this happened while episode {index} was collected; the finished ones in the folder are whole")
        raise
    finally:
        if plan.fresh_env:
            _close_env()
    plan.store.write(episode)
    return len(episode.frames)


def run_episode(env: gymnasium.Env, info: DatasetInfo, index: int) -> Episode:
    """Episode `index` of the dataset that `info` describes: a function of (info.seed, index).

    Raises:
        ValueError: an action outside the space, or an info key that the env does not report.
    """
    sequence = np.random.SeedSequence((info.seed, index))
    env_seed = int(sequence.generate_state(1)[0] >> 1)  # 31 bits: engines keep seeds in a signed int
    policy = make_policy(info.policy, info.action_space, np.random.default_rng(sequence.spawn(1)[0]), info.hold)
    observation, extra = env.reset(seed=env_seed)
    frames, infos = [np.array(observation)], [_numbers(extra, info.info_keys, 0)]
    actions, rewards = [], []
    terminated = truncated = False
    while not (terminated or truncated):
        action = policy(observation)
        if not info.action_space.contains(action):
            raise ValueError(f"policy {info.policy!r}: expected an action in {info.action_space}, got {action!r}")
        observation, reward, terminated, truncated, extra = env.step(action)
        frames.append(np.array(observation))  # a copy: envs may paint the next frame over this one
        infos.append(_numbers(extra, info.info_keys, len(frames) - 1))
        actions.append(np.array(action, info.action_space.dtype))
        rewards.append(reward)
        truncated = truncated or (not terminated and len(actions) == info.max_steps)
    columns = {key: np.stack([row[key] for row in infos]) for key in info.info_keys}
    outcome = {"terminated": bool(terminated), "truncated": bool(truncated)}
    arrays = (np.stack(frames), np.stack(actions), np.array(rewards, np.float32))
    return Episode(*arrays, **outcome, seed=env_seed, index=index, infos=columns)


def _numbers(extra: Mapping[str, Any], keys: tuple[str, ...], frame: int) -> dict[str, np.ndarray]:
    if missing := [key for key in keys if key not in extra]:
        raise ValueError(f"info_keys: the env reports no {missing} with frame {frame}; it has {sorted(extra)}")
    return {key: np.array(extra[key]) for key in keys}


# The env of this process, and the call of `collect` that it was made for. One at a time: DeepMind Lab allows
# one engine per process, and starting an engine can cost as much as an episode.
_env: gymnasium.Env | None = None
_env_token: str = ""


def _own_env(plan: _Plan) -> gymnasium.Env:
    global _env, _env_token
    if _env is None or _env_token != plan.token:
        _close_env()
        _env, _env_token = plan.make_env(), plan.token
    return _env


@atexit.register
def _close_env() -> None:
    global _env
    env, _env = _env, None
    if env is not None:
        env.close()

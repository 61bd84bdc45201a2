"""Collects episodes in parallel, such that episode i depends on (root seed, i) and on nothing else."""

import contextlib
import errno
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from tqdm import tqdm

from worldmodel.data.episode import Episode
from worldmodel.data.info import DatasetInfo
from worldmodel.data.policies import make_policy
from worldmodel.data.store import EpisodeStore
from worldmodel.data.watched import Attempt, watched
from worldmodel.progress import progress as bar_of

MakeEnv = Callable[[], gymnasium.Env]


class EngineError(RuntimeError):
    """An environment raised something while it was made, reset or stepped; says what, and where."""


@dataclass(frozen=True)
class Failure:
    """An episode that could not be collected: its index, what the env was reset with, and the last problem."""

    index: int
    seed: int
    problem: str


@dataclass(frozen=True)
class CollectReport:
    """What one call of `collect` added, and which episodes are missing still."""

    episodes: int
    frames: int
    seconds: float
    failures: tuple[Failure, ...] = ()

    @property
    def frames_per_s(self) -> float:
        return self.frames / max(self.seconds, 1e-9)


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
    workers: int = 0,
    seed: int = 0,
    max_steps: int | None = None,
    info_keys: tuple[str, ...] = (),
    fresh_env: bool = False,
    retries: int = 2,
    timeout: float | None = None,
    progress: bool = True,
) -> CollectReport:
    """Collects the missing ones of episodes 0 to `episodes - 1`; stopped or killed, the next call goes on.

    `workers` processes of their own collect, or with 0 this one. Each makes one env and resets it with a seed for
    each episode; `fresh_env` makes one per episode, for envs that carry state across a reset. An env that raises
    costs its episode one of `retries` and is made anew. So does one that crashes, or takes longer than `timeout`
    seconds over an episode, in a process of its own, which is replaced; in this one, nobody would be left to see.
    A bar shows frames/s and the time to go, unless `progress` is off.

    Raises:
        ValueError: settings other than `store.info` has, or an env, action or info that does not fit.
        OSError: the disk is full; finished episodes stay, nothing else does.
        Exception: whatever a policy raises, with a note that names the episode.
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
    _check_numbers(episodes, workers, retries, timeout)
    store.sweep()
    missing = sorted(set(range(episodes)) - set(store.indices))
    tasks, failures, frames, began = deque(missing), [], 0, time.monotonic()
    attempts = _attempts(_Collector(make_env, store, fresh_env), tasks, workers, timeout)
    with bar_of(name="collect", total=len(missing), unit="episode", shown=progress and bool(missing)) as bar:
        for attempt in _settled(attempts, tasks, retries, told=progress):
            if attempt.problem:
                failures.append(Failure(attempt.task, _seeds(store.info, attempt.task)[0], attempt.problem))
                continue
            frames += attempt.result
            bar.set_postfix_str(f"{frames / (time.monotonic() - began):,.0f} frames/s", refresh=False)
            bar.update()
    return CollectReport(len(missing) - len(failures), frames, time.monotonic() - began, tuple(failures))


def _check_settings(info: DatasetInfo, settings: Mapping[str, Any]) -> None:
    wrong = {name: value for name, value in settings.items() if getattr(info, name) != value}
    if wrong:
        lines = (f"{name}: {getattr(info, name)!r} -> {value!r}" for name, value in wrong.items())
        raise ValueError(f"collect: not the settings of the store's DatasetInfo: {'; '.join(lines)}; give it the same")


def _check_numbers(episodes: int, workers: int, retries: int, timeout: float | None) -> None:
    if episodes < 1 or workers < 0 or retries < 0:
        raise ValueError(
            f"expected episodes >= 1, workers >= 0 and retries >= 0, got {episodes}, {workers} and {retries}"
        )
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout: expected more than 0 seconds, or none, got {timeout}")


def _settled(attempts: Iterable[Attempt], tasks: deque[int], retries: int, told: bool) -> Iterator[Attempt]:
    """The last attempt at each task; one that failed puts its task back behind all others, `retries` times."""
    tries = Counter[int]()
    for attempt in attempts:
        tries[attempt.task] += 1
        again = bool(attempt.problem) and tries[attempt.task] <= retries
        if attempt.problem and told:
            then = f"try {tries[attempt.task]} of {retries + 1} failed: {attempt.problem}"
            tqdm.write(f"episode {attempt.task}: {then}", sys.stderr)
        if again:
            tasks.append(attempt.task)
        else:
            yield attempt


def _attempts(collector: "_Collector", tasks: deque[int], workers: int, timeout: float | None) -> Iterator[Attempt]:
    """Attempts at the tasks, as they end; whatever ends them, no engine and no half file stays behind."""
    store = collector.store
    try:
        if workers:
            yield from watched(collector, tasks, workers=workers, timeout=timeout)
        while tasks:
            yield collector(tasks.popleft())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = "disk full; finished episodes are whole: make room, then run the same command again to go on"
        raise OSError(error.errno, message, str(store.folder)) from error
    finally:
        collector.close()
        store.sweep()


class _Collector:
    """Collects episodes by index with one env, which is made when it is needed and may have to be made again.

    One at a time: DeepMind Lab allows one engine per process, and starting one can cost as much as an episode.
    """

    env: gymnasium.Env | None = None

    def __init__(self, make_env: MakeEnv, store: EpisodeStore, fresh_env: bool):
        self.make_env, self.store, self.fresh_env = make_env, store, fresh_env

    def __call__(self, index: int) -> Attempt:
        """Collects and stores episode `index`; the result is its number of frames."""
        try:
            episode = run_episode(self._open_env(), self.store.info, index)
        except EngineError as error:
            with contextlib.suppress(Exception):  # it is broken already
                self.close()
            return Attempt(index, problem=str(error))
        except Exception as error:
            error.add_note(f"this happened while episode {index} was collected; the finished ones are whole")
            raise
        self.store.write(episode)
        if self.fresh_env:
            self.close()
        return Attempt(index, len(episode.frames))

    def close(self) -> None:
        env, self.env = self.env, None
        if env is not None:
            env.close()

    def _open_env(self) -> gymnasium.Env:
        if self.env is None:
            with _blaming("make"):
                self.env = self.make_env()
        return self.env


def run_episode(env: gymnasium.Env, info: DatasetInfo, index: int) -> Episode:
    """Episode `index` of the dataset that `info` describes: a function of (info.seed, index).

    Raises:
        EngineError: the env raised something.
        ValueError: an action outside the space, or an info key that the env does not report.
    """
    env_seed, chance = _seeds(info, index)
    policy = make_policy(info.policy, info.action_space, chance, info.hold)
    with _blaming("reset"):
        observation, extra = env.reset(seed=env_seed)
    frames, infos = [np.array(observation)], [_numbers(extra, info.info_keys, 0)]
    actions, rewards = [], []
    terminated = truncated = False
    while not (terminated or truncated):
        action = policy(observation)
        if not info.action_space.contains(action):
            raise ValueError(f"policy {info.policy!r}: expected an action in {info.action_space}, got {action!r}")
        with _blaming("step"):
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


def _seeds(info: DatasetInfo, index: int) -> tuple[int, np.random.Generator]:
    """What the env of episode `index` is reset with, and the chance that its policy has."""
    sequence = np.random.SeedSequence((info.seed, index))
    env_seed = int(sequence.generate_state(1)[0] >> 1)  # 31 bits: engines keep seeds in a signed int
    return env_seed, np.random.default_rng(sequence.spawn(1)[0])


@contextlib.contextmanager
def _blaming(what: str) -> Iterator[None]:
    """Whatever the env raises becomes an EngineError that says where."""
    try:
        yield
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise EngineError(
            f"{what} raised {type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
        ) from error

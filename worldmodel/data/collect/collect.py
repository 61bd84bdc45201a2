"""Collects episodes in parallel, such that episode i depends on (root seed, i) and on nothing else."""

import contextlib
import errno
import math
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from tqdm import tqdm

from worldmodel.data.collect.engine import EngineError, engine_errors, report_close_errors
from worldmodel.data.collect.policies import make_policy
from worldmodel.data.collect.run_episode import dataset_info_of, env_and_policy_seeds, play_episode, run_episode
from worldmodel.data.collect.worker_pool import Attempt, run_tasks
from worldmodel.data.episodes.claim import check_unchanged
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.origins import write_origins
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.files import remove_partial_folders
from worldmodel.io.lock import writer_lock
from worldmodel.io.progress import progress as progress_bar

__all__ = ["CollectReport", "EngineError", "Failure", "collect", "dataset_info_of", "run_episode"]

MakeEnv = Callable[[], gymnasium.Env]
MAX_INITIAL_FAILURES = 12  # so many first attempts that all fail end a collection


@dataclass(frozen=True)
class Failure:
    """An episode that could not be collected: its index, what the env was reset with, and the last problem."""

    index: int
    seed: int
    problem: str


@dataclass(frozen=True)
class CollectReport:
    """What one call of `collect` added, and which episodes are missing still.

    Of the new episodes, `cut` were ended by max_steps, and `rewarded` have a reward other than 0.
    """

    episodes: int
    frames: int
    seconds: float
    failures: tuple[Failure, ...] = ()
    cut: int = 0
    rewarded: int = 0

    @property
    def frames_per_s(self) -> float:
        return self.frames / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class _EpisodeSummary:
    """What `collect` tells of an episode."""

    frames: int
    cut: bool
    rewarded: bool


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
    costs its episode one of `retries` and is made anew. So does one that gives a reward that is not finite, or
    anything else that is not as Gymnasium has it; infos may be NaN or infinite. So does one that crashes, or takes
    longer than `timeout` seconds over an episode, in a process of its own, which is replaced; in this one, nobody
    would be left to see. A bar shows frames/s and the time to go, unless `progress` is off.

    Raises:
        ValueError: settings other than `store.info` has, or an action or info that does not fit.
        EngineError: the first dozen attempts all failed; says how the last one did.
        FolderInUse: another process or thread writes to the folder of `store`.
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
    _check_keys(max_steps, settings["info_keys"])
    if not _missing(store, episodes):
        return CollectReport(0, 0, 0.0)
    with writer_lock(store.folder, "collection"):
        check_unchanged(store.folder, store.info)
        _clean_up(store)
        collector = _Collector(make_env, store, fresh_env)
        return _collect(collector, _missing(store, episodes), workers, retries, timeout, progress)


def _collect(
    collector: "_Collector", missing: list[int], workers: int, retries: int, timeout: float | None, shown: bool
) -> CollectReport:
    """`collect`, by the holder of the lock."""
    tasks, failures, played, began = deque(missing), [], list[_EpisodeSummary](), time.monotonic()
    limit = math.inf if collector.store.indices and len(missing) < MAX_INITIAL_FAILURES else MAX_INITIAL_FAILURES
    hopeful = _stop_if_all_fail(_attempts(collector, tasks, workers, timeout), limit)
    bar_shown = progress_bar(name="collect", total=len(missing), unit="episode", shown=shown and bool(missing))
    with contextlib.closing(hopeful) as attempts, bar_shown as bar:
        for attempt in _with_retries(attempts, tasks, retries, told=shown):
            if attempt.problem:
                seed = env_and_policy_seeds(collector.store.info, attempt.task)[0]
                failures.append(Failure(attempt.task, seed, attempt.problem))
                continue
            played.append(attempt.result)
            speed = sum(each.frames for each in played) / (time.monotonic() - began)
            bar.set_postfix_str(f"{speed:,.0f} frames/s", refresh=False)
            bar.update()
    frames, cut, rewarded = (sum(getattr(each, name) for each in played) for name in ("frames", "cut", "rewarded"))
    return CollectReport(len(played), frames, time.monotonic() - began, tuple(failures), cut, rewarded)


def _missing(store: EpisodeStore, episodes: int) -> list[int]:
    return sorted(set(range(episodes)) - set(store.indices))


def _clean_up(store: EpisodeStore) -> None:
    """Delete what killed writers left, and the origins of episodes that are gone: they are collected anew."""
    store.remove_partial()
    remove_partial_folders(store.folder)
    origins, here = store.origins(), set(store.indices)
    if origins.keys() - here:
        write_origins(store.folder, {index: origins[index] for index in origins.keys() & here})


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


def _check_keys(max_steps: int | None, info_keys: tuple[str, ...]) -> None:
    if max_steps is not None and max_steps < 1:
        raise ValueError(f"max_steps: expected at least 1, or none, got {max_steps}")
    if len(set(info_keys)) < len(info_keys):
        raise ValueError(f"info_keys: expected each key once, got {list(info_keys)}")


def _with_retries(attempts: Iterable[Attempt], tasks: deque[int], retries: int, told: bool) -> Iterator[Attempt]:
    """The last attempt at each task; one that failed puts its task back behind all others, `retries` times.

    A problem that comes several times in a row is told once.
    """
    tries, last = Counter[int](), ""
    for attempt in attempts:
        tries[attempt.task] += 1
        again = bool(attempt.problem) and tries[attempt.task] <= retries
        if attempt.problem and attempt.problem != last and told:
            then = f"try {tries[attempt.task]} of {retries + 1} failed: {attempt.problem}"
            tqdm.write(f"episode {attempt.task}: {then}", sys.stderr)
        last = attempt.problem
        if again:
            tasks.append(attempt.task)
        else:
            yield attempt


def _stop_if_all_fail(attempts: Generator[Attempt, None, None], limit: float) -> Generator[Attempt, None, None]:
    """The attempts, until the first `limit` of them have all failed."""
    failed = 0
    with contextlib.closing(attempts):
        for attempt in attempts:
            failed = failed + 1 if attempt.problem else -math.inf
            if failed == limit:
                raise EngineError(
                    f"the first {limit} attempts all failed, so no more are made; the last one, at episode "
                    f"{attempt.task}: {attempt.problem}"
                )
            yield attempt


def _attempts(
    collector: "_Collector", tasks: deque[int], workers: int, timeout: float | None
) -> Generator[Attempt, None, None]:
    """Attempts at the tasks, as they end; whatever ends them, no engine and no half file stays behind."""
    store = collector.store
    try:
        if workers:
            yield from run_tasks(collector, tasks, workers=workers, timeout=timeout)
        while tasks:
            yield collector(tasks.popleft())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = "disk full; finished episodes are whole: make room, then run the same command again to go on"
        raise OSError(error.errno, message, str(store.folder)) from error
    finally:
        collector.close()
        store.remove_partial()


class _Collector:
    """Collects episodes by index with one env, which is made when it is needed and may have to be made again.

    One at a time: DeepMind Lab allows one engine per process, and starting one can cost as much as an episode.
    """

    env: gymnasium.Env | None = None
    told = False  # that close raised

    def __init__(self, make_env: MakeEnv, store: EpisodeStore, fresh_env: bool):
        self.make_env, self.store, self.fresh_env = make_env, store, fresh_env

    def __call__(self, index: int) -> Attempt:
        """Collects and stores episode `index`."""
        try:
            episode, cut = play_episode(self._open_env(), self.store.info, index)
        except EngineError as error:
            with contextlib.suppress(EngineError):  # it is broken already
                self._close()
            return Attempt(index, problem=str(error))
        except Exception as error:
            error.add_note(f"this happened while episode {index} was collected; the finished ones are whole")
            raise
        check_unchanged(self.store.folder, self.store.info)  # on a disk without locks another collection may have begun
        self.store.write(episode)
        if self.fresh_env:
            self.close()
        return Attempt(index, _EpisodeSummary(len(episode.frames), cut, bool(episode.rewards.any())))

    def close(self) -> None:
        """Close the env; one that raises over it is told of once, and costs nothing."""
        with contextlib.suppress(EngineError) if self.told else report_close_errors():
            self.told, before = True, self.told
            self._close()
            self.told = before

    def _close(self) -> None:
        env, self.env = self.env, None
        if env is not None:
            with engine_errors("close"):
                env.close()

    def _open_env(self) -> gymnasium.Env:
        if self.env is None:
            with engine_errors("make"):
                self.env = self.make_env()
        return self.env

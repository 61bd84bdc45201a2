"""Collects episodes in parallel. Episode i depends on (root seed, i) and on nothing else."""

import contextlib
import errno
import math
import sys
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from worldmodel.data.collect.collector import Collector, EpisodeSummary, MakeEnv
from worldmodel.data.collect.engine import EngineError
from worldmodel.data.collect.policies import make_policy
from worldmodel.data.collect.run_episode import dataset_info_of, env_and_policy_seeds, run_episode
from worldmodel.data.collect.worker_pool import Attempt, run_tasks
from worldmodel.data.episodes.claim import check_unchanged
from worldmodel.data.episodes.dataset_info import DatasetInfo
from worldmodel.data.episodes.origins import write_origins
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.io.files import remove_partial_folders
from worldmodel.io.lock import writer_lock
from worldmodel.io.progress import progress as progress_bar

__all__ = ["CollectReport", "EngineError", "Failure", "MakeEnv", "collect", "dataset_info_of", "run_episode"]

MAX_INITIAL_FAILURES = 12  # a collection ends if its first 12 attempts all fail


@dataclass(frozen=True)
class Failure:
    """An episode that could not be collected: its index, the seed of the env's reset, and the last problem."""

    index: int
    seed: int
    problem: str


@dataclass(frozen=True)
class CollectReport:
    """What one call of `collect` added, and which episodes are still missing.

    cut: how many of the new episodes were ended by max_steps. rewarded: how many have a reward other than 0.
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
    """Collect the missing episodes of 0 to `episodes - 1`. After a stop or a kill, the next call continues.

    workers: processes that collect; 0: this process collects. Each makes one env and resets it with the seed of each
        episode.
    fresh_env: make one env per episode, for envs that carry state across a reset.
    retries: further attempts at an episode after an error. An env costs a retry and is made again if it raises, or
        returns something that Gymnasium does not allow, such as a reward that is not finite; infos may be NaN or
        infinite. With workers, a crash or a timeout also costs one retry and the worker is restarted. With
        `workers=0` neither can be detected.
    timeout: seconds that an attempt may take; None: no limit.
    progress: show a bar with frames/s and the remaining time.

    Raises:
        ValueError: settings that differ from `store.info`, or an action or info that does not fit.
        EngineError: the first dozen attempts all failed; the message has the last problem.
        FolderInUse: another process or thread writes to the folder of `store`.
        OSError: the disk is full; finished episodes stay, nothing else does.
        Exception: any exception of a policy, with a note that names the episode.
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
        collector = Collector(make_env, store, fresh_env)
        return _collect(collector, _missing(store, episodes), workers, retries, timeout, progress)


def _collect(
    collector: Collector, missing: list[int], workers: int, retries: int, timeout: float | None, verbose: bool
) -> CollectReport:
    """`collect`, while it holds the lock."""
    tasks, failures, summaries, start = deque(missing), [], list[EpisodeSummary](), time.monotonic()
    limit = math.inf if collector.store.indices and len(missing) < MAX_INITIAL_FAILURES else MAX_INITIAL_FAILURES
    attempts = _stop_if_all_fail(_attempts(collector, tasks, workers, timeout), limit)
    show = verbose and bool(missing)
    with (
        contextlib.closing(attempts),
        progress_bar(name="collect", total=len(missing), unit="episode", shown=show) as bar,
    ):
        for attempt in _with_retries(attempts, tasks, retries, verbose):
            if attempt.problem:
                seed = env_and_policy_seeds(collector.store.info, attempt.task)[0]
                failures.append(Failure(attempt.task, seed, attempt.problem))
                continue
            summaries.append(attempt.result)
            speed = sum(each.frames for each in summaries) / (time.monotonic() - start)
            bar.set_postfix_str(f"{speed:,.0f} frames/s", refresh=False)
            bar.update()
    frames, cut, rewarded = (sum(getattr(each, name) for each in summaries) for name in ("frames", "cut", "rewarded"))
    return CollectReport(len(summaries), frames, time.monotonic() - start, tuple(failures), cut, rewarded)


def _missing(store: EpisodeStore, episodes: int) -> list[int]:
    return sorted(set(range(episodes)) - set(store.indices))


def _clean_up(store: EpisodeStore) -> None:
    """Delete what killed writers left, and the origins of missing episodes, which are collected again."""
    store.remove_partial()
    remove_partial_folders(store.folder)
    origins, here = store.origins(), set(store.indices)
    if origins.keys() - here:
        write_origins(store.folder, {index: origins[index] for index in origins.keys() & here})


def _check_settings(info: DatasetInfo, settings: Mapping[str, Any]) -> None:
    wrong = {name: value for name, value in settings.items() if getattr(info, name) != value}
    if wrong:
        lines = (f"{name}: {getattr(info, name)!r} -> {value!r}" for name, value in wrong.items())
        differing = "; ".join(lines)
        remedy = "use the same settings, or name another run="
        raise ValueError(f"collect: settings differ from those of the store's episodes: {differing}; {remedy}")


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


def _with_retries(attempts: Iterable[Attempt], tasks: deque[int], retries: int, verbose: bool) -> Iterator[Attempt]:
    """The last attempt at each task. A failed task is put back behind all others, `retries` times.

    verbose: print each problem to stderr; one that occurs several times in a row is printed once.
    """
    tries, last = Counter[int](), ""
    for attempt in attempts:
        tries[attempt.task] += 1
        again = bool(attempt.problem) and tries[attempt.task] <= retries
        if attempt.problem and attempt.problem != last and verbose:
            then = f"try {tries[attempt.task]} of {retries + 1} failed: {attempt.problem}"
            tqdm.write(f"episode {attempt.task}: {then}", sys.stderr)
        last = attempt.problem
        if again:
            tasks.append(attempt.task)
        else:
            yield attempt


def _stop_if_all_fail(attempts: Generator[Attempt, None, None], limit: float) -> Generator[Attempt, None, None]:
    """Pass attempts on. Raises EngineError if the first `limit` of them all failed."""
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
    collector: Collector, tasks: deque[int], workers: int, timeout: float | None
) -> Generator[Attempt, None, None]:
    """Yield attempts as they end. However this ends, no engine and no partial file stays behind."""
    store = collector.store
    try:
        if workers:
            yield from run_tasks(collector, tasks, workers=workers, timeout=timeout)
        while tasks:
            yield collector(tasks.popleft())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = "disk full; finished episodes are complete: make room, then run the same command again to continue"
        raise OSError(error.errno, message, str(store.folder)) from error
    finally:
        collector.close()
        store.remove_partial()

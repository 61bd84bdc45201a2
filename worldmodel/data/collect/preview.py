"""Describes an environment before episodes are collected from it.

An engine may crash, hang or end its process while it starts, so this can run in a worker process too.
"""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gymnasium

from worldmodel.data.collect.engine import EngineError, engine_errors, report_close_errors
from worldmodel.data.collect.run_episode import dataset_info_of
from worldmodel.data.collect.worker_pool import Attempt, run_tasks
from worldmodel.data.episodes.dataset_info import DatasetInfo


@dataclass(frozen=True)
class Preview:
    """The properties of all episodes, and the entries of the observation that the episodes will not contain."""

    info: DatasetInfo
    unused: tuple[str, ...] = ()


def preview(
    make_env: Callable[[], gymnasium.Env],
    config: Mapping[str, Any],
    *,
    workers: int = 0,
    timeout: float | None = None,
    **settings: Any,
) -> Preview:
    """Make an environment, describe it as `dataset_info_of` does, and close it; with workers, in another process.

    Raises:
        EngineError: it raised an exception, ended its process, or took longer than `timeout` seconds.
        ValueError, TypeError, ImportError, OSError: as `make_env` raises them.
    """
    inspector = _Inspector(make_env, config, settings)
    if not workers:
        with closing(inspector):
            return inspector(0).result
    (attempt,) = run_tasks(inspector, deque([0]), workers=1, timeout=timeout)
    if attempt.problem:
        raise EngineError(f"the environment cannot be made: {attempt.problem}")
    return attempt.result


class _Inspector:
    env: gymnasium.Env | None = None

    def __init__(self, make_env: Callable[[], gymnasium.Env], config: Mapping[str, Any], settings: dict[str, Any]):
        self.make_env, self.config, self.settings = make_env, config, settings

    def __call__(self, task: int) -> Attempt:
        with engine_errors("make", passing=(ValueError, TypeError, ImportError, OSError)):
            self.env = self.make_env()
        return Attempt(task, Preview(dataset_info_of(self.env, self.config, **self.settings), _unused(self.env)))

    def close(self) -> None:
        """Close the environment. Runs after the description was returned, as closing may hang."""
        if self.env is not None:
            with report_close_errors(), engine_errors("close"):
                self.env.close()


def _unused(env: gymnasium.Env) -> tuple[str, ...]:
    name = "unused_observations"
    with engine_errors(name):
        return tuple(map(str, env.get_wrapper_attr(name))) if env.has_wrapper_attr(name) else ()

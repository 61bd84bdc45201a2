"""What a world would see of an environment or of a dataset, before hours are spent on it."""

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import gymnasium

from worldmodel.data.check.findings import Findings
from worldmodel.data.check.look import Look, Looker, look_at_episodes
from worldmodel.data.check.remarks import remarks
from worldmodel.data.collect.engine import EngineError
from worldmodel.data.collect.worker_pool import run_tasks
from worldmodel.data.episodes.store import EpisodeStore

EPISODES, STEPS, SECONDS = 5, 1000, 20.0  # limits of the look


def check_env(
    make_env: Callable[[], gymnasium.Env],
    config: Mapping[str, Any],
    *,
    episodes: int | None = None,
    workers: int = 0,
    timeout: float | None = None,
    played: int = EPISODES,
    steps: int = STEPS,
    seconds: float = SECONDS,
    **settings: Any,
) -> Findings:
    """Play a few short episodes, the first ones of a collection with these settings, and say what a world would see.

    config, settings: as in `dataset_info_of`, which describes the episodes.
    episodes, workers: of the collection, for the estimate. With workers, the look runs in another process as well.
    timeout: seconds that the look may take there, the engine's start included.
    played, steps, seconds: limits of the look; `played=0` makes the environment and plays nothing.

    Raises:
        EngineError: the environment could not be made, ended its process, or took too long. What it raises in an
            episode is a remark.
        ValueError: a policy of other parameters, or an action or info that does not fit.
        ValueError, TypeError, ImportError, OSError: as `make_env` raises them.
    """
    looker = Looker(make_env, config, settings)
    looker.episodes, looker.steps, looker.seconds = played, steps, seconds
    look = _in_worker(looker, timeout) if workers else _here(looker)
    return Findings(look, remarks(look), episodes, workers)


def check_episodes(store: EpisodeStore) -> Findings:
    """Say what a world would see of stored episodes, collected or imported.

    Raises:
        EpisodeError: an episode is damaged.
    """
    look = look_at_episodes(store)
    return Findings(look, remarks(look))


def _here(looker: Looker) -> Look:
    with closing(looker):
        return looker(0).result


def _in_worker(looker: Looker, timeout: float | None) -> Look:
    (attempt,) = run_tasks(looker, deque([0]), workers=1, timeout=timeout)
    if attempt.problem:
        done = "played" if looker.episodes else "made"
        raise EngineError(f"the environment cannot be {done}: {attempt.problem}")
    return attempt.result

"""Collects and stores single episodes with one environment; runs in each worker process, or in the only process."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import gymnasium

from worldmodel.data.collect.engine import EngineError, engine_errors, report_close_errors
from worldmodel.data.collect.run_episode import play_episode
from worldmodel.data.collect.worker_pool import Attempt
from worldmodel.data.episodes.claim import check_unchanged
from worldmodel.data.episodes.store import EpisodeStore

MakeEnv = Callable[[], gymnasium.Env]


@dataclass(frozen=True)
class EpisodeSummary:
    """What the report of `collect` needs of an episode."""

    frames: int
    cut: bool
    rewarded: bool


class Collector:
    """Collects episodes by index. Its environment is made when it is first needed, and again after an error.

    There is one environment at a time: DeepMind Lab allows one engine per process, and starting an engine can cost as
    much as an episode.
    """

    env: gymnasium.Env | None = None
    _close_error_reported = False

    def __init__(self, make_env: MakeEnv, store: EpisodeStore, fresh_env: bool):
        self.make_env, self.store, self.fresh_env = make_env, store, fresh_env

    def __call__(self, index: int) -> Attempt:
        """Collect and store episode `index`."""
        try:
            episode, cut = play_episode(self._open_env(), self.store.info, index)
        except EngineError as error:
            with contextlib.suppress(EngineError):  # it is broken already
                self._close()
            return Attempt(index, problem=str(error))
        except Exception as error:
            error.add_note(f"this happened while episode {index} was collected; the finished episodes are complete")
            raise
        check_unchanged(self.store.folder, self.store.info)  # without locks, another collection may have started
        self.store.write(episode)
        if self.fresh_env:
            self.close()
        return Attempt(index, EpisodeSummary(len(episode.frames), cut, bool(episode.rewards.any())))

    def close(self) -> None:
        """Close the environment. An error of closing is reported on stderr, once, and has no other effect."""
        with contextlib.suppress(EngineError) if self._close_error_reported else report_close_errors():
            before, self._close_error_reported = self._close_error_reported, True
            self._close()
            self._close_error_reported = before

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

"""One dream that is played, without any server: a plain object with a method for each thing that a player can do.

A step is a function of the moment, the action and the settings. So the same seed and actions give the same frames, a
moment that was kept can be played again, and the dream is the one of `worldmodel/Dream-v0`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from worldmodel.data.clips.start_contexts import CONTEXT
from worldmodel.data.collect.engine import EngineError
from worldmodel.play.controls import Controls
from worldmodel.play.dreaming import another_future, dream_step, dreaming, start_after, start_from_world
from worldmodel.play.moment import Mode, Moment, Side
from worldmodel.play.real import RealPlayer, end_of
from worldmodel.play.recording import Recorder
from worldmodel.world import WorldModel

MOST_KEPT = 64  # moments
LARGEST_SEED = 2**31 - 1  # engines keep seeds in a signed int
Sides = dict[str, Side]


class Session:
    """A world that is played, from the start that `seed` determines. It begins paused, with the dream alone or, if
    the world has no context to start from, beside the real environment.

    Args:
        make_env: makes the real environment of the world; None where it is not known or not wanted.
        name: of the world, for the page. origin: what a recorded episode says about the world that dreamed it.
        fps: frames per second while play runs. out: folder of recordings.

    Raises: ValueError for a world without a context to start from and without a real environment.
    """

    def __init__(
        self,
        world: WorldModel,
        make_env: Callable[[], gymnasium.Env] | None = None,
        *,
        name: str = "world",
        origin: Mapping[str, Any] | None = None,
        seed: int = 0,
        fps: float = 15.0,
        out: Path = Path("play"),
    ):
        self.world, self.name, self.fps = world, name, fps
        self.controls = Controls(world.info)
        newest = 1 + world.frames_per_step * (CONTEXT - 1)
        self.player = None if make_env is None else RealPlayer(make_env, world.info, newest)
        self.recorder = Recorder(out, world.info, {"name": "dream", "world": name, **(origin or {})})
        self.paused = True
        self.temperature: float | None = None  # None: the world's own
        self.held: Any = None  # the value of the action that is pressed; None: the one that does nothing
        self._tapped: Any = None  # of one that was pressed since the last step, even if it is released already
        self.kept: dict[int, Moment] = {}
        self._last_number = self._branches = 0
        self.now = self._start("dream" if world.starts or self.player is None else "both", seed)

    @property
    def pressed(self) -> Any:
        """The value of the action that the next step takes; None if the world waits for one."""
        return next((each for each in (self.held, self._tapped) if each is not None), self.controls.idle)

    def hold(self, value: Any) -> None:
        """Press an action, or release it with None. While play runs, a short press counts for one step.

        Raises: ValueError for a value that is no action.
        """
        if value is not None:
            self.controls.action(value)
            self._tapped = None if self.paused else value
        self.held = value

    def warm_up(self) -> None:
        """Compile what steps need, so that the first one takes no longer than others; nothing changes."""
        dream_step(self.world, self.now, self.controls.action(self.controls.first), self.temperature)

    def tick(self) -> list[Sides]:
        """The step of a running session: nothing while it is paused or waits for an action."""
        return [] if self.paused or self.pressed is None else self.step()

    def step(self, value: Any = None) -> list[Sides]:
        """Take an action on each side (None: the one that is pressed); returns the sides at each new frame.

        Raises:
            ValueError: play is over, or there is no such action.
            EngineError: the real environment failed; the dream goes on alone.
        """
        value = self.pressed if value is None else value
        if self.now.over:
            raise ValueError("play is over: start again, or go back to a moment that you kept")
        if value is None:
            raise ValueError("every action of this world does something: press one")
        action, self._tapped = self.controls.action(value), None
        real = self._step_real(action)
        dream, changes = dream_step(self.world, self.now, action, self.temperature)
        columns = {name: column for name, column in (("dream", dream), ("real", real)) if column}
        frames = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        self.now = replace(self.now, steps=self.now.steps + 1, **frames[-1], **changes)
        self.paused = self.paused or self.now.over
        self._record(action, frames)
        return frames

    def reset(self, seed: int | None = None) -> None:
        """Start again from this seed (None: the last one).

        Raises: ValueError for a seed out of range; EngineError if the real environment failed.
        """
        seed = self.now.seed if seed is None else seed
        if not 0 <= seed <= LARGEST_SEED:
            raise ValueError(f"seed: expected 0 to {LARGEST_SEED}, got {seed}")
        self._jump(lambda: self._start(self.now.mode, seed))

    def switch(self, mode: Mode) -> None:
        """Step the dream, the real environment or both from now on.

        The real environment joins at its own start, and the dream then starts from that frame too. A dream that
        joins the real environment goes on from its newest frames.

        Raises: ValueError where the real environment is not here; EngineError if it failed.
        """
        if mode != "dream" and self.player is None:
            raise ValueError("the real environment of this world is not known, or was not asked for")
        if mode != self.now.mode:
            self._jump(lambda: self._switched(mode))

    def keep(self) -> int:
        """Keep this moment; returns its number. Raises: ValueError if too many are kept."""
        if len(self.kept) >= MOST_KEPT:
            raise ValueError(f"{MOST_KEPT} moments are kept: forget one first")
        self._last_number += 1
        track = None if self.now.real is None or self.player is None else self.player.track()
        self.kept[self._last_number] = replace(self.now, track=track)
        self.now = replace(self.now, parent=self._last_number)
        return self._last_number

    def back(self, number: int) -> None:
        """Go back to a moment: the same actions then lead to the same frames.

        Raises: ValueError for a number that was not kept; EngineError if the real environment failed.
        """
        moment = self._moment(number)
        self._jump(lambda: self._restored(number, moment))

    def branch(self, number: int, seed: int | None = None) -> None:
        """Go back to a moment and on to another future of the dream, which `seed` determines (None: a new one).

        Raises: ValueError for a number that was not kept, or a moment without a dream; EngineError as `back`.
        """
        moment = self._moment(number)
        if moment.state is None:
            raise ValueError(f"moment {number} has no dream: it was kept while only the real environment was played")
        self._branches += 1
        state = another_future(moment.state, self._branches if seed is None else seed)
        self._jump(lambda: self._restored(number, replace(moment, state=state)))

    def forget(self, number: int) -> None:
        """Forget a moment. Raises: ValueError for a number that was not kept."""
        self._moment(number)
        del self.kept[number]

    def record(self, on: bool) -> None:
        """Begin to record, or stop and save. A jump to another moment ends a take and begins the next one.

        Raises: as `Recorder.end`.
        """
        self.recorder.on = on
        self.recorder.end()
        self._begin_take()

    def close(self) -> None:
        """Save what is recorded, and close the real environment. Raises: as `Recorder.end`."""
        try:
            self.record(False)
        finally:
            if self.player is not None:
                self.player.close()

    def _start(self, mode: Mode, seed: int) -> Moment:
        """The start that a seed determines; a dream beside the real environment starts from its first frame."""
        if mode == "dream":
            return dreaming(Moment(mode, seed, None, None, None), start_from_world(self.world, seed))
        assert self.player is not None
        moment = Moment(mode, seed, None, None, Side(self.player.reset(seed)))
        return moment if mode == "real" else dreaming(moment, start_after(self.world, *self.player.recent(), seed))

    def _switched(self, mode: Mode) -> Moment:
        """This moment in another mode."""
        now = replace(self.now, mode=mode)
        if self.now.mode == "dream" or (self.now.mode == "real" and self.now.over):
            return self._start(mode, now.seed)
        if self.now.mode == "real" and self.player is not None:
            now = dreaming(now, start_after(self.world, *self.player.recent(), now.seed))
        if mode == "dream":
            return replace(now, real=None)
        return now if mode == "both" else replace(now, state=None, dream=None, tokens=None, surprise=())

    def _restored(self, number: int, moment: Moment) -> Moment:
        """A kept moment; the real environment takes its actions again."""
        if moment.track is not None:
            assert self.player is not None
            self.player.go_to(moment.track)
        return replace(moment, track=None, parent=number)

    def _jump(self, to: Callable[[], Moment]) -> None:
        """Continue elsewhere; the take that is recorded ends, and the next one begins there."""
        self.recorder.end()
        try:
            self.now = to()
        except EngineError:
            self._dream_alone()
            raise
        finally:
            self._begin_take()

    def _dream_alone(self) -> None:
        """Go on without the real environment, from this dream or, without one, from a new start."""
        self.paused = True
        seed, dreams = self.now.seed, self.now.state is not None
        self.now = replace(self.now, mode="dream", real=None) if dreams else self._start("dream", seed)

    def _moment(self, number: int) -> Moment:
        if number not in self.kept:
            known = ", ".join(map(str, self.kept)) or "none"
            raise ValueError(f"moment: there is no {number}; kept are {known}")
        return self.kept[number]

    def _step_real(self, action: np.ndarray) -> list[Side]:
        """The real environment at each new frame; nothing where it is not stepped."""
        if (side := self.now.real) is None or self.player is None:
            return []
        sides: list[Side] = []
        try:
            for _ in range(self.world.frames_per_step):
                step = None if side.over else self.player.step(action)
                side = side.waits() if step is None else side.after(step.frame, step.reward, end_of(step))
                sides.append(side)
        except EngineError:
            self.recorder.end()
            self._dream_alone()
            self._begin_take()
            raise
        return sides

    def _record(self, action: np.ndarray, frames: list[Sides]) -> None:
        """Add new frames to the take; one that is complete, or as long as it may be, is saved."""
        for sides in frames:
            self.recorder.add(action, sides, self.temperature)
        if self.now.over or self.recorder.full:
            self.recorder.end()
            self._begin_take()

    def _begin_take(self) -> None:
        self.recorder.begin(self.now.sides, self.now.seed, self.fps)

"""Whether a dream remembers what it no longer sees: turn away, turn back, and compare with the
truth."""

from collections.abc import Callable
from dataclasses import dataclass

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Discrete
from jaxtyping import Float, UInt8
from torch import Tensor

from worldmodel.evaluate.statistics.bootstrap import Resampler
from worldmodel.evaluate.statistics.results import Section, exact
from worldmodel.evaluate.testbed.dream_clips import DreamSettings, WorldProtocol, decibels, errors, gain, rgb_array
from worldmodel.evaluate.testbed.simulator import Moment, dream_after, is_reproducible, moments, true_frames_after
from worldmodel.io.config import LARGEST, check_range
from worldmodel.io.video import contact_sheet

LEFT, RIGHT = "turn_left", "turn_right"  # the names in every first-person environment here
SMALLEST_TURN, LARGEST_TURN = 8, 200  # steps within which a full turn is sought
UNIT = "scenes of the simulator"
NEAR = 1.1  # a view is back if its error is at most this multiple of the smallest


@dataclass
class MemoryConfig:
    """How much is dreamed to measure memory."""

    scenes: int = 24
    """Moments of the simulator, each of another episode."""
    walk: int = 20
    """Steps from the start of an episode to its scene."""
    turns: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12)
    """Steps to turn away; as many steps turn back."""

    def __post_init__(self) -> None:
        check_range(self, 2, LARGEST, "scenes")  # the floor is the view of another scene
        check_range(self, 1, LARGEST, "turns")
        check_range(self, 0, LARGEST, "walk")
        if not self.turns:
            raise ValueError("turns: expected at least one number of steps, got none")


@dataclass
class Return:
    """The views before and after turning away, of n scenes."""

    first: UInt8[Tensor, "n h w c"]  # the last real frame before the turn
    truth: UInt8[Tensor, "n t h w c"]  # real frames of the turn; the last one is the returned view
    dream: UInt8[Tensor, "n t h w c"]

    def others_differ(self) -> bool:
        """Whether the true returned views of the scenes are not all the same."""
        return bool((self.truth[:, -1] != self.truth[:1, -1]).any())


def turning_back(
    world: WorldProtocol,
    make_env: Callable[[], gymnasium.Env],
    config: MemoryConfig | None = None,
    dreams: DreamSettings | None = None,
) -> Section:
    """Dreams that turn left k steps and right k steps, and dreams that turn all the way round,
    beside the simulator.

    - return: PSNR of the dream's returned view against the true returned view, by the steps in
      between.
    - return_to_first: the same against the view before turning away; `return_real` is that of the
      simulator's view.
    - another_view: the floor, against returned views of other scenes; `gain` is the difference,
      paired by scene.
    - full_turn: at the step where the simulator has come round, and its gain.

    Each scene is of an episode of its own, and intervals draw these. A world without actions of
    these names, or an environment that does not repeat itself, gives only a note.
    """
    config, dreams = config or MemoryConfig(), dreams or DreamSettings()
    names = world.info.action_names if isinstance(world.info.action_space, Discrete) else ()
    if not {LEFT, RIGHT} <= set(names):
        known = ", ".join(names) or "none"
        return Section(notes=[f"memory: left out, as it needs actions {LEFT} and {RIGHT}; the named ones are {known}"])
    env = make_env()
    try:
        scenes = moments(env, config.scenes, max(config.walk, dreams.context), dreams.seed)
        if len(scenes) < 2 or not is_reproducible(env, scenes[0]):
            why = (
                "episodes are too short" if len(scenes) < 2 else "seed and actions do not lead to the same frames again"
            )
            return Section(notes=[f"memory: left out of this environment: its {why}"])
        return _measure(world, env, scenes, config, dreams)
    finally:
        env.close()


def _measure(
    world: WorldProtocol, env: gymnasium.Env, scenes: list[Moment], config: MemoryConfig, dreams: DreamSettings
) -> Section:
    stride, section = world.frames_per_step, Section()
    turns = sorted({-(-turn // stride) * stride for turn in config.turns})
    found = {2 * turn: play_out(world, env, scenes, [LEFT] * turn + [RIGHT] * turn, dreams) for turn in turns}
    if returns := {steps: there for steps, there in found.items() if there is not None}:
        _returns(section, returns)
    around = -(-full_turn(world, env, scenes) // stride) * stride
    if (there := play_out(world, env, scenes, [LEFT] * around, dreams)) is not None:
        section.metrics["memory/full_turn_steps"] = exact(around)
        _full_turn(section, there)
    if len(returns) < len(turns) or there is None:
        section.notes.append("memory: some turns are left out, as most episodes end before the turn does")
    return section


def play_out(
    world: WorldProtocol, env: gymnasium.Env, scenes: list[Moment], names: list[str], dreams: DreamSettings
) -> Return | None:
    """Real and dreamed frames under these actions, of all scenes that last that long; None if fewer
    than two."""
    actions = _numbers(world, names)
    real = [true_frames_after(env, scene, actions) for scene in scenes]
    lasting = [i for i, frames in enumerate(real) if len(frames) == len(actions)]
    if len(lasting) < 2:
        return None
    there = [scenes[i] for i in lasting]
    first, truth = (np.stack(x) for x in ([scene.frames[-1] for scene in there], [real[i] for i in lasting]))
    dream = dream_after(world, there, [actions] * len(there), dreams.context, dreams.sampler, dreams.seed)
    return Return(torch.from_numpy(first), torch.from_numpy(truth), dream)


def full_turn(world: WorldProtocol, env: gymnasium.Env, scenes: list[Moment]) -> int:
    """Steps of turning left until the first view is back: the median over scenes.

    A view is back at the first step whose error is within a tenth of the smallest."""
    actions, best = _numbers(world, [LEFT] * LARGEST_TURN), []
    for scene in scenes:
        frames = true_frames_after(env, scene, actions)
        if len(frames) >= SMALLEST_TURN:
            error = np.square(frames.astype(np.float32) - scene.frames[-1]).mean((1, 2, 3))
            late = error[SMALLEST_TURN - 1 :]
            best.append(SMALLEST_TURN + int(np.argmax(late <= NEAR * late.min())))
    return int(np.median(best)) if best else SMALLEST_TURN


def _numbers(world: WorldProtocol, names: list[str]) -> np.ndarray:
    """The actions with these names."""
    space = world.info.action_space
    assert space is not None
    start = int(getattr(space, "start", 0))
    return np.array([start + world.info.action_names.index(name) for name in names], space.dtype)


def _returns(section: Section, returns: dict[int, Return]) -> None:
    """Curves by the steps in between, and metrics of the shortest and the longest turn."""
    steps, against = list(returns), [_last_errors(each) for each in returns.values()]
    shared = min(len(each["truth"]) for each in against)  # scenes that lasted long enough, in order
    resampler = Resampler.by_row(shared, UNIT)
    table = {name: np.stack([each[name][:shared] for each in against], axis=1) for name in against[0]}
    names = {"truth": "return", "first": "return_to_first", "other": "another_view", "real": "return_real"}
    for key, name in names.items():
        section.curves[f"memory/{name}"] = resampler.curve(steps, decibels, table[key])
    section.curves["memory/gain"] = resampler.curve(steps, gain, table["other"], table["truth"])
    for i in sorted({0, len(steps) - 1}):
        section.metrics[f"memory/return@{steps[i]}"] = resampler.interval(decibels, table["truth"][:, i])
        same = "" if returns[steps[i]].others_differ() else "all scenes look the same there"
        gained = resampler.interval(gain, table["other"][:, i], table["truth"][:, i])
        section.metrics[f"memory/gain@{steps[i]}"] = gained.unless(same)
    _show(section, "turn_and_back", returns[steps[-1]])


def _full_turn(section: Section, there: Return) -> None:
    error, resampler = _last_errors(there), Resampler.by_row(len(there.truth), UNIT)
    section.metrics["memory/full_turn"] = resampler.interval(decibels, error["truth"])
    section.metrics["memory/full_turn_gain"] = resampler.interval(gain, error["other"], error["truth"])
    section.metrics["memory/full_turn_real"] = resampler.interval(decibels, error["real"])
    _show(section, "full_turn", there)


def _last_errors(there: Return) -> dict[str, Float[np.ndarray, "n"]]:
    """Squared errors of the returned view against the truth, the first view, other scenes; `real`:
    the simulator's."""
    dream, truth, first = there.dream[:, -1:], there.truth[:, -1:], there.first[:, None]
    others = [errors(dream, truth.roll(i, 0))[:, 0] for i in range(1, len(truth))]
    pairs = {"truth": (dream, truth), "first": (dream, first), "real": (truth, first)}
    return {name: errors(a, b)[:, 0] for name, (a, b) in pairs.items()} | {"other": np.mean(others, axis=0)}


def _show(section: Section, name: str, there: Return) -> None:
    """The first scene, real and dreamed: a contact sheet, and a video with the real one on the
    left."""
    rows = [rgb_array(torch.cat([there.first[:1], video[0]])) for video in (there.truth, there.dream)]
    section.images[f"memory/{name}"] = contact_sheet(rows, ["real", "dream"])
    section.clips[f"memory/{name}"] = np.concatenate(rows, axis=2)

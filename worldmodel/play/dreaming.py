"""Where a dream that is played starts, and its steps: functions of the world and of values."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding

from worldmodel.play.moment import Moment, Side
from worldmodel.prior import SamplerConfig
from worldmodel.world import DreamState, WorldModel

CURVE = 600  # steps of which the surprise is kept


def start_from_world(world: WorldModel, seed: int) -> DreamState:
    """The dream after a start context of the world, drawn as a reset of `DreamEnv` with this seed draws it.

    Raises: ValueError for a world without start contexts.
    """
    key, generator = _key(seed)
    resets = 0 if world.starts is None else world.starts.resets
    return with_key(world.start_from_context(int(generator.integers(max(resets, 1)))), key)


def start_after(world: WorldModel, frames: np.ndarray, actions: np.ndarray, seed: int) -> DreamState:
    """The dream after real frames (`t h w c`) and the actions between them (`t-1 *space`).

    Of more frames than fill whole latents, the oldest are left out.
    """
    given = world.whole_latents(len(frames))
    between = actions[len(actions) - given + 1 :]
    return world.start(torch.from_numpy(frames[-given:])[None], between[None], 0, [_key(seed)[0]])


def another_future(state: DreamState, seed: int) -> DreamState:
    """The same dream with the noise of another seed, as `DreamEnv.restore` changes it."""
    return with_key(state, _key(seed)[0])


def with_key(state: DreamState, key: int) -> DreamState:
    """The same dream with the noise of this key."""
    return replace(state, dreams=torch.tensor([key], device=state.tokens.device))


def dreaming(moment: Moment, state: DreamState) -> Moment:
    """The moment with a dream that goes on from this state."""
    frame, tokens = (values[0].cpu().numpy() for values in (state.frame, state.tokens))
    return replace(moment, state=state, dream=Side(frame), tokens=tokens, surprise=())


def dream_step(
    world: WorldModel, moment: Moment, action: np.ndarray, temperature: float | None
) -> tuple[list[Side], dict[str, Any]]:
    """The dream at each of the `time_stride` new frames, and the new values of the moment.

    Nothing where no dream is stepped. The action is held for all frames; a reward arrives with the last one.
    """
    side, state, count = moment.dream, moment.state, world.frames_per_step
    if side is None or state is None:
        return [], {}
    if side.over:
        return [side.waits()] * count, {}
    taken = action[None] if count == 1 else np.stack([action] * count)[None]
    state, step = world.step(state, taken, SamplerConfig(temperature=temperature))
    nats, outcome = float(step.bits[0]) * math.log(2), step.outcome
    reward, ended = (0.0, False) if outcome is None else (float(outcome.reward[0]), bool(outcome.ended[0]))
    sides: list[Side] = []
    for n, frame in enumerate(step.frames[0].cpu().numpy(), 1):
        side = side.after(frame, reward, "terminated" if ended else "") if n == count else side.after(frame, 0.0, "")
        sides.append(side)
    surprise = (*moment.surprise, nats)[-CURVE:]
    return sides, {"state": state, "tokens": step.tokens[0].cpu().numpy(), "surprise": surprise}


def _key(seed: int) -> tuple[int, np.random.Generator]:
    """The key of a dream's noise, and the generator that it came from, as `DreamBatch` draws them."""
    generator, _ = seeding.np_random(seed)
    return int(generator.integers(2**63)), generator

"""A very long dream: what a step costs late, in time and memory, against what it cost early."""

import sys
import time
from pathlib import Path
from statistics import median

import torch

from tests.torture import Row

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from measure import memory
from sampling import FEW, demo_world, go_on, start_state

EARLY = 100  # steps after which all is compiled and every buffer has its size
SLOWER, LARGER = 1.1, 1.02  # times that a step may be slower, and the process larger, late than early
PAIRS = 15  # early and late steps are timed in turns, by the processor's clock: other programs run here too


def soak(tried: int, folder: Path) -> Row:
    """So many imagined steps of a demo-sized world with pixels; what fails is time or memory that drifts."""
    del folder  # nothing is written
    world = demo_world()

    def step(state):
        return world.step(state, [1])[0]

    def cost(state) -> float:
        began = time.process_time()
        go_on(state, step)
        return (time.process_time() - began) / FEW * 1e3

    torch.manual_seed(0)
    state = go_on_for(EARLY, start_state(world, 1), step)
    early, small = state, memory()
    state = go_on_for(tried - EARLY, state, step)
    large = memory()
    pairs = [(cost(early), cost(state)) for _ in range(PAIRS)]
    times = median(late / early for early, late in pairs)
    before, late = (median(side) for side in zip(*pairs, strict=True))
    note = f"{before:.2f} ms of processor a step early, {late:.2f} late (median of ratios {times:.3f}); "
    note += f"{small / 2**20:.1f} MB early, {large / 2**20:.1f} late"
    return Row("imagined steps in one dream", tried, (times > SLOWER) + (large > small * LARGER), note)


def go_on_for(steps: int, state, step):
    """The state after so many steps."""
    for _ in range(steps):
        state = step(state)
    return state

"""A very long dream: what a step costs late, in time and memory, against what it cost early."""

import sys
from functools import partial
from pathlib import Path

import torch

from tests.torture import Row

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from measure import memory, versus
from sampling import FEW, beginning, demo_world, go_on

EARLY = 500  # steps after which all is compiled and every buffer has its size
SLOWER, LARGER = 1.1, 1.02  # times that a step may be slower, and the process larger, late than early
PAIRS = 31  # early and late steps are timed in turns, so that what else runs here slows both


def soak(tried: int, folder: Path) -> Row:
    """So many imagined steps of a demo-sized world with pixels; what fails is time or memory that drifts."""
    del folder  # nothing is written
    world = demo_world()

    def step(state):
        return world.step(state, [1])[0]

    torch.manual_seed(0)
    state = early = beginning(world, 1)
    used = memory()
    for count in range(tried):
        if count == EARLY:
            early, used = state, memory()
        state = step(state)
    grown = memory()
    times, late, before = versus(partial(go_on, state, step), partial(go_on, early, step), PAIRS)
    failed = (times > SLOWER) + (grown > used * LARGER)
    note = f"{before / FEW * 1e3:.2f} ms a step early, {late / FEW * 1e3:.2f} late (median of ratios {times:.3f}); "
    note += f"{used / 2**20:.1f} MB early, {grown / 2**20:.1f} late"
    return Row("imagined steps in one dream", tried, failed, note)

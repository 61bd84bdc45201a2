"""How often samplers differ in a token, on a trained world: sums in another order can turn a near-tie."""

import argparse
from pathlib import Path

import numpy as np
import torch
from measure import machine
from torch import Tensor

from worldmodel.data.clips import split
from worldmodel.data.store import EpisodeStore
from worldmodel.evaluate.metrics import real_clips
from worldmodel.prior import SamplerConfig
from worldmodel.world import DreamState, WorldModel

DREAMS, STEPS, CONTEXT = 64, 50, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/demo"), help="folder of a run, with its world")
    run: Path = parser.parse_args().run
    world, store = WorldModel.load(run / "world"), EpisodeStore.open(run / "episodes")
    frames, actions = real_clips(store, split(store)[1], length=CONTEXT + STEPS, clips=DREAMS, seed=0)
    state = world.start(frames[:, :CONTEXT], actions[:, : CONTEXT - 1])
    differing: dict[str, int] = {}
    for n in range(CONTEXT - 1, CONTEXT - 1 + STEPS):
        following, step = world.step(state, actions[:, n], SamplerConfig("fused"))
        for name, tokens in others(world, state, actions[:, n]).items():
            differing[name] = differing.get(name, 0) + int((tokens != step.tokens).sum())
        state = following
    print(machine())
    total = DREAMS * STEPS * state.tokens[0].numel()
    for name, count in differing.items():
        print(f"{name} against fused: {count} of {total:,} tokens differ, each given the same past")


def others(world: WorldModel, state: DreamState, actions: np.ndarray) -> dict[str, Tensor]:
    """The tokens of the same step drawn in other ways."""
    some = torch.arange(0, DREAMS, 16)
    together = {kind: world.step(state, actions, SamplerConfig(kind))[1].tokens for kind in ("cached", "predictive")}
    alone = [
        world.step(state.rows(some[i : i + 1]), actions[some[i : i + 1]], SamplerConfig("fused"))[1].tokens
        for i in range(len(some))
    ]
    changed = world.step(state, actions, SamplerConfig("fused"))[1].tokens
    changed[some] = torch.cat(alone)
    return {**together, "fused, some of the dreams alone,": changed}


if __name__ == "__main__":
    main()

"""How often samplers choose different tokens, on a trained world: sums in another order can decide a near-tie."""

import argparse
from pathlib import Path

import numpy as np
import torch
from measure import machine

from worldmodel.data.clips.clips import ClipSampler
from worldmodel.data.clips.split import train_validation_split
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.prior import SamplerConfig
from worldmodel.world import DreamState, Step, WorldModel

DREAMS, STEPS, CONTEXT = 64, 50, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/demo"), help="folder of a run, with its world")
    run: Path = parser.parse_args().run
    world, store = WorldModel.load(run / "world"), EpisodeStore.open(run / "episodes")
    held_out = train_validation_split(store)[1]
    clips = ClipSampler(store, held_out, length=CONTEXT + STEPS, seed=0, setting="").sample_distinct(DREAMS)
    frames, actions = clips.frames, clips.actions
    state = world.start(frames[:, :CONTEXT], actions[:, : CONTEXT - 1])
    found: dict[str, list[tuple[int, float]]] = {}
    passes = []
    for n in range(CONTEXT - 1, CONTEXT - 1 + STEPS):
        following, step = world.step(state, actions[:, n], SamplerConfig("compiled"))
        for name, other in others(world, state, actions[:, n]).items():
            found.setdefault(name, []).append(difference(step, other))
            passes += other.passes.tolist() if name.startswith("predictive") else []
        state = following
    print(machine())
    sites = state.tokens[0].numel()
    print(f"predictive: {np.mean(passes):.1f} passes a frame of {sites} tokens, {max(passes)} at most")
    total = DREAMS * STEPS * sites
    for name, pairs in found.items():
        count, most = sum(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
        print(f"{name}: {count} of {total:,} tokens differ; bits of an equal frame differ by {most:.1e} at most")


def difference(step: Step, other: Step) -> tuple[int, float]:
    """How many tokens differ, and by how much the bits of frames that are equal do."""
    changed = (step.tokens != other.tokens).flatten(1)
    bits = (step.bits - other.bits)[~changed.any(1)].abs()
    return int(changed.sum()), float(bits.max()) if len(bits) else 0.0


def others(world: WorldModel, state: DreamState, actions: np.ndarray) -> dict[str, Step]:
    """The same step, from the same past, in other ways."""
    kinds = (SamplerConfig("cached"), SamplerConfig("predictive"))
    steps = {f"{config.kind} against compiled": world.step(state, actions, config)[1] for config in kinds}
    for config in (SamplerConfig("compiled"), SamplerConfig("cached")):
        alone = [world.step(state.select(torch.tensor([i])), actions[i : i + 1], config)[1] for i in range(DREAMS)]
        joined = [torch.cat([getattr(each, name) for each in alone]) for name in ("frames", "tokens", "bits", "passes")]
        steps[f"{config.kind} alone against compiled among {DREAMS}"] = Step(joined[0], joined[1], joined[2], joined[3])
    return steps


if __name__ == "__main__":
    main()

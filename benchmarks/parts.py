"""Where the milliseconds of a dream step go: each of its parts by itself, then the whole step."""

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from measure import machine, typical
from sampling import beginning, demo_world

from worldmodel.backends.cpu.prior import next_context
from worldmodel.backends.cpu.tokenizer import next_frames
from worldmodel.prior import SamplerConfig, sample, uniform
from worldmodel.world import WorldModel


@torch.no_grad()
def parts(world: WorldModel, b: int) -> Iterator[tuple[str, float]]:
    """Milliseconds of each part of a step of b dreams."""
    core, actions, repeats = world.prior.core, np.ones(b, int), 200 if b == 1 else 20
    state, _ = world.step(beginning(world, b), actions)
    lead = world._encode(actions, b, 1)[:, 0]
    features, _ = next_context(world.prior, state.tokens, lead, state.context)
    sites = state.tokens[0].numel()
    noise = uniform(0, state.dreams, state.steps, sites)
    config, cold = SamplerConfig("fused"), SamplerConfig("fused", temperature=0)
    work = {
        "actions → vectors": lambda: world._encode(actions, b, 1),
        "context of the next latent": lambda: next_context(world.prior, state.tokens, lead, state.context),
        "noise": lambda: uniform(0, state.dreams, state.steps, sites),
        "tokens": lambda: sample(core, features, lead, noise, config),
        "  of which without drawing: the likeliest token": lambda: sample(core, features, lead, noise, cold),
        "frames": lambda: next_frames(world.tokenizer, state.tokens, state.decoder),
        "the whole step": lambda: world.step(state, actions),
    }
    for name, part in work.items():
        yield name, 1e3 * typical(part, repeats)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    world = demo_world()
    print(machine())
    for b in (1, 64):
        print(f"\nbatch {b}: milliseconds a step")
        for name, value in parts(world, b):
            print(f"  {value:8.3f}  {name}")


if __name__ == "__main__":
    main()

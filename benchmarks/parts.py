"""The time of a dream step in milliseconds: each part by itself, then the whole step."""

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from measure import machine, typical
from sampling import demo_world, start_state

from worldmodel.backends.cpu.prior import CompiledPrior
from worldmodel.prior import FrameInputs, SamplerConfig, uniform
from worldmodel.world import WorldModel


@torch.no_grad()
def parts(world: WorldModel, b: int) -> Iterator[tuple[str, float]]:
    """Milliseconds of each part of a step of b dreams."""
    prior, actions, repeats = world.predictor(), np.ones(b, int), 200 if b == 1 else 20
    assert isinstance(prior, CompiledPrior)
    state, _ = world.step(start_state(world, b), actions)
    action = world._encode(actions, b, 1)[:, 0]
    features = prior.context.features(state.tokens, action, state.context)[0][:, :, 0]
    sites = state.tokens[0].numel()
    noise = uniform(0, state.dreams, state.steps, sites)
    config, ones = SamplerConfig(), torch.ones(b, dtype=torch.float64)
    warm, cold = (FrameInputs(features, action, noise, each, state.tokens) for each in (ones, 0 * ones))
    work = {
        "actions → vectors": lambda: world._encode(actions, b, 1),
        "context of the next latent": lambda: prior.context.features(state.tokens, action, state.context),
        "noise": lambda: uniform(0, state.dreams, state.steps, sites),
        "tokens": lambda: prior.core.sample(warm, config),
        "tokens, the likeliest ones, without sampling": lambda: prior.core.sample(cold, config),
        "frames": lambda: world.coder().decode_chunk(state.tokens[:, None], state.decoder),
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

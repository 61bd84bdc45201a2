"""How large the models of the presets are, and what memory training them takes: the table in docs/guides/presets.md."""

import argparse
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any

import torch
from measure import extra_memory, machine, preset
from torch import nn

from worldmodel.io.config import from_mapping
from worldmodel.prior import PixelCNN, PriorConfig
from worldmodel.tokenizer import VQVAE, TokenizerConfig
from worldmodel.training.fit import FitConfig
from worldmodel.training.optim import Ema, adamw

PRESETS = ("tiny", "small", "base")
ACTIONS, FRAME = 8, (64, 64, 3)  # as in ViZDoom's HealthGathering
PARTS = ("tokenizer", "prior")


def tokenizer_of(name: str) -> VQVAE:
    """The tokenizer of a preset, untrained."""
    return VQVAE(from_mapping(TokenizerConfig, preset("train_tokenizer", name)["tokenizer"]), FRAME)


def prior_of(name: str) -> PixelCNN:
    """The prior of a preset for the tokens of its tokenizer, untrained."""
    tokenizer = tokenizer_of(name)
    config = from_mapping(PriorConfig, preset("train_prior", name)["prior"])
    return PixelCNN(config, tokenizer.codes, tokenizer.grid, ACTIONS, (0.0, 1.0))


def built(part: str, name: str) -> nn.Module:
    """One of the two models of a preset."""
    return tokenizer_of(name) if part == "tokenizer" else prior_of(name)


def random_batch(model: nn.Module, b: int, length: int) -> SimpleNamespace:
    """A batch of `b` clips of `length` latents, as each model's loss wants it."""
    if isinstance(model, VQVAE):
        frames = 1 + model.config.time_stride * (length - 1)
        return SimpleNamespace(frames=torch.randint(0, 256, (b, frames, *FRAME), dtype=torch.uint8))
    assert isinstance(model, PixelCNN)
    return SimpleNamespace(
        tokens=torch.randint(0, model.codes, (b, length, *model.grid)),
        actions=torch.randn(b, length, model.actions),
        rewards=torch.zeros(b, length),
        terminated=torch.zeros(b, length, dtype=torch.bool),
        mask=torch.ones(b, length, dtype=torch.bool),
    )


def training_memory(part: str, name: str) -> float:
    """Bytes that two training steps take at most: weights, averages of them, AdamW, gradients, activations, a batch."""
    values = preset(f"train_{part}", name)
    fit: FitConfig = from_mapping(FitConfig, values["fit"])

    def work() -> None:
        model = built(part, name).train()
        averages, optimizer = Ema(model, fit.ema_decay), adamw(model, fit)
        batch: Any = random_batch(model, fit.batch_size, values["clip_latents"])
        for _ in range(2):
            model.loss(batch)[0].backward()  # pyright: ignore
            optimizer.step()
            optimizer.zero_grad()
        del averages

    return extra_memory(work)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(machine(), end="\n\n")
    print("| preset | tokenizer | prior | memory of their trainings |\n|---|---|---|---|")
    for name in PRESETS:
        sizes = [f"{sum(p.numel() for p in built(part, name).parameters()):,}" for part in PARTS]
        taken = []
        for part in PARTS:
            with get_context("spawn").Pool(
                1
            ) as alone:  # in a process of its own: memory that is free already would not be counted
                taken.append(f"{alone.apply(training_memory, (part, name)) / 2**30:.1f}")
        print(f"| `{name}` | {sizes[0]} | {sizes[1]} | {taken[0]} and {taken[1]} GB |", flush=True)


if __name__ == "__main__":
    main()

"""All figures of a world on held-out episodes, in one flat report."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from worldmodel.data.clips import ClipBatches, split
from worldmodel.data.store import EpisodeStore
from worldmodel.data.tokens import TokenBatches, TokenStore
from worldmodel.evaluate.metrics import copy_accuracy, likelihood, marginal_bits, open_loop, outcomes, reconstruction
from worldmodel.prior import SamplerConfig
from worldmodel.world import WorldModel

CLIP = 8  # latents of the clips for reconstruction and likelihood


@dataclass
class ReportConfig:
    """How much is measured: `batches` of 8 clips for likelihood and reconstruction, `clips` dreams of the largest of
    `horizons` frames after `context` real ones."""

    batches: int = 48
    clips: int = 32
    context: int = 6
    horizons: tuple[int, ...] = (1, 5, 10, 30)
    seed: int = 0
    sampler: SamplerConfig = field(default_factory=SamplerConfig)


def measure(world: WorldModel, store: EpisodeStore, tokens: TokenStore, config: ReportConfig) -> dict[str, float]:
    """Every figure by name: decibels, bits, shares and counts.

    Raises: ValueError when no held-out episode is long enough.
    """
    train, held_out = split(store)
    stride = world.tokenizer.config.time_stride
    shape = {"batch_size": 8, "seed": config.seed}
    clips = ClipBatches(store, held_out, length=1 + stride * (CLIP - 1), **shape)
    latents = TokenBatches(tokens, store, held_out, length=CLIP, **shape)
    figures = {f"tokenizer/{k}": v for k, v in reconstruction(world.tokenizer, clips, config.batches).items()}
    figures |= {f"prior/{k}": v for k, v in likelihood(world.prior, latents, config.batches).items()}
    figures |= {f"outcome/{k}": v for k, v in outcomes(world.prior, latents, config.batches).items()}
    figures["prior/bits_per_token_marginal_coder"] = marginal_bits(tokens, train, held_out)
    figures["tokens/copy_last_frame_accuracy"] = copy_accuracy(tokens, held_out)
    return figures | dreams(world, store, held_out, config)


def dreams(world: WorldModel, store: EpisodeStore, held_out: Sequence[int], config: ReportConfig) -> dict[str, float]:
    """Open-loop PSNR at each horizon, of the dream and of what it has to beat."""
    horizon = -(-max(config.horizons) // world.tokenizer.config.time_stride) * world.tokenizer.config.time_stride
    curves = open_loop(
        world,
        store,
        held_out,
        context=world.whole(config.context),
        horizon=horizon,
        clips=config.clips,
        sampler=config.sampler,
        seed=config.seed,
    )
    at = np.asarray(config.horizons) - 1
    return {
        f"open_loop_psnr/{name}@{h}": float(v)
        for name, curve in curves.items()
        for h, v in zip(config.horizons, curve[at], strict=True)
    }

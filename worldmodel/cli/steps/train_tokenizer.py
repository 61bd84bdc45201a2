"""Train the causal 3-D VQ-VAE on RUN/episodes. Weights, logs and checkpoints go to RUN/tokenizer.

If it is stopped or killed, the same command continues the training.
"""

import copy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from worldmodel.cli.command import RunConfig, command
from worldmodel.cli.models import format_metrics, load_matching, parameters
from worldmodel.data.clips.clips import ClipBatches
from worldmodel.data.clips.split import split_for_training
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.data.open import open_episodes
from worldmodel.evaluate import reconstruction
from worldmodel.io.config import LARGEST, POSITIVE, check_range, to_dict
from worldmodel.io.video import log_video
from worldmodel.tokenizer import VQVAE, TokenizerConfig, fingerprint, load_tokenizer, save_tokenizer
from worldmodel.training.fit import FitConfig, FitResult, fit, on_rank_zero, sole_training
from worldmodel.training.fresh import move_other_run

INIT_BATCHES, CHECKS = 16, 16  # batches that initialise the tokenizer, and that measure it


@dataclass
class TrainTokenizerConfig(RunConfig):
    """Settings of `worldmodel train-tokenizer`."""

    episodes: str = "${run}/episodes"
    """Folder or URL of the episodes, such as s3://bucket/folder."""
    init: Path | None = None
    """Folder of an earlier run whose tokenizer is trained further (null: none)."""
    minutes: float | None = None
    """Time for the training; its number of steps is measured at the start (null: fit.steps says how many)."""
    fresh: bool = False
    """Move another training that is there to NAME.old-1 and start anew (false: refuse it)."""
    clip_latents: int = 8
    """Latent frames of each training clip."""
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    """Shape of the tokenizer."""
    fit: FitConfig = field(default_factory=partial(FitConfig, steps=1600, weight_decay=1e-4))
    """How it is trained."""

    def __post_init__(self) -> None:
        check_range(self, 1, LARGEST, "clip_latents")
        check_range(self, POSITIVE, LARGEST, "minutes")


@command(TrainTokenizerConfig)
def main(config: TrainTokenizerConfig) -> None:
    store = open_episodes(config.episodes)  # before the lock, which makes the folder
    with sole_training(config.run / "tokenizer"):
        train_tokenizer(config, store)


def train_tokenizer(config: TrainTokenizerConfig, store: EpisodeStore) -> None:
    """Train, and save the tokenizer."""
    train, held_out = split_for_training(store)
    torch.manual_seed(config.fit.seed)
    tokenizer = VQVAE(config.tokenizer, store.info.frame_shape)
    frames = 1 + config.tokenizer.time_stride * (config.clip_latents - 1)
    shape = {"length": frames, "batch_size": config.fit.batch_size, "seed": config.fit.seed}
    batches, checks = (ClipBatches(store, episodes, **shape) for episodes in (train, held_out))
    tokenizer.init_from_data(torch.cat([batches[step].frames for step in range(INIT_BATCHES)]))
    if config.init is not None:
        load_matching(tokenizer, load_tokenizer(config.init / "tokenizer"))

    def evaluate(model: VQVAE, step: int, writer: SummaryWriter) -> dict[str, float]:
        frames = checks[0].frames[:4].to(model.device)
        tokens = model.encode(frames)
        both = torch.cat([frames, model.decode(tokens)], dim=2)  # real above decoded
        log_video(writer, "reconstruction", torch.cat(list(both), dim=2).cpu().numpy(), step, fps=8)
        writer.add_histogram("codebook/use", tokens.flatten(), step, bins="auto")
        return {f"held_out/{name}": value for name, value in reconstruction(model, checks, count=CHECKS).items()}

    signature = {"tokenizer": to_dict(config.tokenizer), "data": store.fingerprint(), "clip": frames}
    signature["init"] = None if config.init is None else fingerprint(load_tokenizer(config.init / "tokenizer"))
    start = copy.deepcopy(tokenizer)
    how: dict[str, Any] = {"evaluate": evaluate, "signature": signature, "minutes": config.minutes}
    if config.fresh:
        move_other_run(config.run / "tokenizer", config.fit, signature, config.minutes)
    result = fit(tokenizer, batches, config.fit, config.run / "tokenizer", **how)

    def finish() -> None:
        kept, metrics = better(start, result, checks)
        save_tokenizer(kept, config.run / "tokenizer")
        print(f"tokenizer: {config.run / 'tokenizer'}, {parameters(tokenizer):,} parameters; {format_metrics(metrics)}")

    on_rank_zero(finish, config.fit)


def better(start: VQVAE, result: FitResult[VQVAE], checks: ClipBatches) -> tuple[VQVAE, dict[str, float]]:
    """The trained tokenizer, or its start where that decodes held-out clips better, and the metrics of it.

    Where frames have few different patches, the codebook of the start is exact already, and training can only blur it.
    """
    device = result.model.device
    before = reconstruction(start.to(device).eval(), checks, count=CHECKS)
    if not before["psnr"] > result.metrics["held_out/psnr"]:
        return result.model, result.metrics
    after = result.metrics["held_out/psnr"]
    print(
        f"tokenizer: its start is kept, as it decodes at {before['psnr']:.1f} dB, and after training at {after:.1f} dB"
    )
    return start, {f"held_out/{name}": value for name, value in before.items()}

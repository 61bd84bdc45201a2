"""Train the causal VQ-VAE on RUN/episodes; its weights and logs go to RUN/tokenizer."""

from _run import format_metrics, load_matching, parameters, script

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from worldmodel.data.clips.clips import ClipBatches
from worldmodel.data.clips.split import split_for_training
from worldmodel.data.open import open_episodes
from worldmodel.evaluate import reconstruction
from worldmodel.io.config import to_dict
from worldmodel.io.video import log_video
from worldmodel.tokenizer import VQVAE, TokenizerConfig, fingerprint, load_tokenizer, save_tokenizer
from worldmodel.training.fit import FitConfig, fit, on_rank_zero, sole_training

BEGIN = 16  # batches whose patches the tokenizer begins with


@dataclass
class TrainTokenizerConfig:
    """The keys of configs/train_tokenizer.yaml, explained there."""

    run: Path
    episodes: str
    init: Path | None
    clip_latents: int
    tokenizer: TokenizerConfig
    fit: FitConfig


@script(TrainTokenizerConfig)
def main(config: TrainTokenizerConfig) -> None:
    with sole_training(config.run / "tokenizer"):
        train_tokenizer(config)


def train_tokenizer(config: TrainTokenizerConfig) -> None:
    """Train, and save what was trained."""
    store = open_episodes(config.episodes)
    train, held_out = split_for_training(store)
    torch.manual_seed(config.fit.seed)
    tokenizer = VQVAE(config.tokenizer, store.info.frame_shape)
    frames = 1 + config.tokenizer.time_stride * (config.clip_latents - 1)
    shape = {"length": frames, "batch_size": config.fit.batch_size, "seed": config.fit.seed}
    batches, checks = (ClipBatches(store, episodes, **shape) for episodes in (train, held_out))
    tokenizer.init_from_data(torch.cat([batches[step].frames for step in range(BEGIN)]))
    if config.init is not None:
        load_matching(tokenizer, load_tokenizer(config.init / "tokenizer"))

    def evaluate(model: VQVAE, step: int, writer: SummaryWriter) -> dict[str, float]:
        frames = checks[0].frames[:4].to(model.device)
        tokens = model.encode(frames)
        both = torch.cat([frames, model.decode(tokens)], dim=2)  # real above decoded
        log_video(writer, "reconstruction", torch.cat(list(both), dim=2).cpu().numpy(), step, fps=8)
        writer.add_histogram("codebook/use", tokens.flatten(), step, bins="auto")
        return {f"held_out/{name}": value for name, value in reconstruction(model, checks, count=16).items()}

    identity = {"tokenizer": to_dict(config.tokenizer), "data": store.fingerprint(), "clip": frames}
    identity["init"] = None if config.init is None else fingerprint(load_tokenizer(config.init / "tokenizer"))
    result = fit(tokenizer, batches, config.fit, config.run / "tokenizer", evaluate=evaluate, identity=identity)

    def finish() -> None:
        save_tokenizer(result.model, config.run / "tokenizer")
        print(
            f"tokenizer: {config.run / 'tokenizer'}, {parameters(tokenizer):,} parameters; "
            f"{format_metrics(result.metrics)}"
        )

    on_rank_zero(finish, config.fit)


if __name__ == "__main__":
    main()

"""Train the action-conditioned PixelCNN prior on the tokens of RUN/episodes.

The tokens are made with RUN/tokenizer and kept in RUN/tokens. Logs and checkpoints go to RUN/prior, the finished world
model to RUN/world. If it is stopped or killed, the same command continues the training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gymnasium.spaces import Box
from torch.utils.tensorboard import SummaryWriter

from worldmodel.cli.command import RunConfig, command
from worldmodel.cli.models import format_metrics, load_matching, parameters
from worldmodel.data.clips.clips import ClipSampler
from worldmodel.data.clips.split import split_for_training
from worldmodel.data.clips.start_contexts import choose_start_contexts
from worldmodel.data.clips.token_batches import TokenBatches
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.data.open import open_episodes
from worldmodel.evaluate import likelihood
from worldmodel.evaluate.sections.horizon import kept_horizon
from worldmodel.io.config import FINITE, LARGEST, POSITIVE, check_range, to_dict
from worldmodel.io.json_files import read_checked_json
from worldmodel.io.model_folder import read_config
from worldmodel.io.video import log_video
from worldmodel.nn.action_scale import Scale, fit_action_scale
from worldmodel.nn.actions import ActionEncoder, space_to_json
from worldmodel.prior import PixelCNN, PriorConfig, SamplerConfig, reward_values
from worldmodel.tokenizer import VQVAE, load_tokenizer, tokenize
from worldmodel.training.fit import FitConfig, fit, on_rank_zero, sole_training
from worldmodel.training.fresh import move_other_run
from worldmodel.world import WorldInfo, WorldModel

CONTEXT, HORIZON = 5, 24  # frames of the video in TensorBoard: whole latents at any time stride


@dataclass
class TrainPriorConfig(RunConfig):
    """Settings of `worldmodel train-prior`."""

    episodes: str = "${run}/episodes"
    """Folder or URL of the episodes, such as s3://bucket/folder."""
    init: Path | None = None
    """Folder of an earlier run whose prior is trained further (null: none)."""
    minutes: float | None = None
    """Time for the training; its number of steps is measured at the start (null: fit.steps says how many)."""
    fresh: bool = False
    """Move another training that is there to NAME.old-1 and start anew (false: refuse it)."""
    clip_latents: int = 12
    """Latent frames of each training clip."""
    starts: int = 128
    """Start contexts that the world keeps: this many from the starts of episodes, and this many from anywhere."""
    temperature: float = 1.0
    """Default sampling temperature of the world's dreams; to change it, run this command again."""
    temperature_until: int = 0
    """Latent of a dream from which on the temperature is 1 (0: never)."""
    prior: PriorConfig = field(default_factory=PriorConfig)
    """Shape of the prior."""
    fit: FitConfig = field(default_factory=partial(FitConfig, steps=6000))
    """How it is trained."""

    def __post_init__(self) -> None:
        check_range(self, 1, LARGEST, "clip_latents")
        check_range(self, POSITIVE, LARGEST, "minutes")
        check_range(self, 0, LARGEST, "starts", "temperature_until")
        check_range(self, 0, FINITE, "temperature")


@command(TrainPriorConfig)
def main(config: TrainPriorConfig) -> None:
    store, tokenizer = open_episodes(config.episodes), load_tokenizer(config.run / "tokenizer")
    with sole_training(config.run / "prior"):  # after the lines above, as it makes the folder
        train_prior(config, store, tokenizer)


def train_prior(config: TrainPriorConfig, store: EpisodeStore, tokenizer: VQVAE) -> None:
    """Make tokens, train on them, and save the world."""
    on_rank_zero(lambda: tokenize(tokenizer, store, config.run / "tokens"), config.fit)
    tokens = tokenize(tokenizer, store, config.run / "tokens")  # they are there
    train, held_out = split_for_training(store)
    shape = {"length": config.clip_latents, "batch_size": config.fit.batch_size, "seed": config.fit.seed}
    info = world_info(config, store, train)
    encoder = ActionEncoder(info.action_space, info.action_scale)
    batches, checks = (TokenBatches(tokens, store, each, encoder=encoder, **shape) for each in (train, held_out))
    prior = new_prior(config, store, tokenizer, batches)
    longest = max(store.length(index) for index in held_out)
    horizon = min(HORIZON, (longest - CONTEXT) // 4 * 4)
    starts = choose_start_contexts(tokens, store, train, count=config.starts, seed=config.fit.seed, encoder=encoder)

    def figures(model: PixelCNN) -> dict[str, float]:
        return {f"held_out/{name}": value for name, value in likelihood(model, checks, count=16).items()}

    def evaluate(model: PixelCNN, step: int, writer: SummaryWriter) -> dict[str, float]:
        world = WorldModel(tokenizer.to(model.device), model, info)
        if horizon < 4:  # the episodes are too short to show anything
            return figures(model)
        clips = ClipSampler(store, held_out, length=CONTEXT + horizon, seed=config.fit.seed, setting="")
        real = clips.sample_distinct(2)
        dream = world.imagine(real.frames[:, :CONTEXT], real.actions, horizon, SamplerConfig(), config.fit.seed)
        both = torch.cat([real.frames[:, CONTEXT:], dream], dim=2)  # real above imagined
        log_video(writer, "dream", torch.cat(list(both), dim=2).numpy(), step, fps=8)
        return figures(model)

    signature = {"prior": to_dict(config.prior), "tokens": tokens.info.key, "clip": config.clip_latents}
    signature["actions"] = action_coding(info)
    signature["init"] = None if config.init is None else read_config(config.init / "world")[1]
    how: dict[str, Any] = {"evaluate": evaluate, "signature": signature, "minutes": config.minutes}
    if config.fresh:
        move_other_run(config.run / "prior", config.fit, signature, config.minutes, config.run / "world")
    result = fit(prior, batches, config.fit, config.run / "prior", **how)

    def finish() -> None:
        world = WorldModel(tokenizer.cpu(), result.model.cpu(), info, starts)
        info.trained = {"tokenizer": course_of(config.run / "tokenizer"), "prior": result.course}
        info.trust_horizon = kept_horizon(config.run / "world", world)  # measured already, when this is run again
        world.save(config.run / "world")
        print(
            f"world: {config.run / 'world'}, {parameters(prior):,} parameters in its prior; "
            f"{format_metrics(result.metrics)}"
        )

    on_rank_zero(finish, config.fit)


def new_prior(config: TrainPriorConfig, store: EpisodeStore, tokenizer: VQVAE, batches: TokenBatches) -> PixelCNN:
    """The prior before training: from the code vectors and outcome frequencies, or from an earlier run."""
    torch.manual_seed(config.fit.seed)
    actions = ActionEncoder(store.info.action_space).width * tokenizer.time_stride
    rewards, ends = batches.all_outcomes()
    codes = tokenizer.codes
    prior = PixelCNN(config.prior, codes, tokenizer.grid, actions, reward_values(rewards))
    prior.init_embedding(tokenizer.embed(torch.arange(codes)[:, None])[:, 0])
    if prior.outcome is not None:
        prior.outcome.set_frequencies(prior.outcome.targets(torch.from_numpy(rewards), torch.from_numpy(ends)).sum(0))
    if config.init is not None:
        earlier = WorldModel.load(config.init / "world").prior
        if not isinstance(earlier, PixelCNN):
            raise ValueError(f"init: expected a world with a PixelCNN, got one with a {type(earlier).__name__}")
        load_matching(prior, earlier)
    return prior


def action_coding(info: WorldInfo) -> Any:
    """What decides how real-valued actions are encoded, since no tensor's shape shows it; None for other actions."""
    space = info.action_space
    return [space_to_json(space), info.action_scale] if isinstance(space, Box) else None


def course_of(folder: Path) -> list[dict[str, Any]]:
    """The loss and metrics during a training, see `FitResult`; empty if none are recorded."""
    try:
        return read_checked_json(folder / "metrics.json").get("course", [])
    except ValueError:
        return []


def world_info(config: TrainPriorConfig, store: EpisodeStore, train: Sequence[int]) -> WorldInfo:
    """The description of the environment, and how the world's dreams are sampled by default."""
    about = store.info
    how: dict[str, Any] = {"temperature": config.temperature, "temperature_until": config.temperature_until}
    longest = max(store.length(index) for index in train) - 1
    how |= {"action_scale": scale_for(config, store, train), "max_steps": about.max_steps}
    return WorldInfo(about.frame_shape, about.action_space, about.action_names, dict(about.env), longest, **how)


def scale_for(config: TrainPriorConfig, store: EpisodeStore, train: Sequence[int]) -> Scale | None:
    """The scale of actions without finite bounds: that of the world in `init`, or one fitted to the episodes."""
    if config.init is not None:
        earlier = WorldModel.load(config.init / "world").info
        if earlier.action_space == store.info.action_space and earlier.action_scale is not None:
            return earlier.action_scale
    return fit_action_scale(store.info.action_space, (store.actions(index) for index in train))

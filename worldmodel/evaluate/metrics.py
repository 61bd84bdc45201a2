"""Numbers that say how good a tokenizer, a prior and a dream are, on held-out episodes, from arrays alone."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from worldmodel.data.clips import ClipBatches
from worldmodel.data.store import EpisodeStore
from worldmodel.data.tokens import TokenBatches, TokenStore
from worldmodel.prior import PixelCNN, SamplerConfig
from worldmodel.tokenizer import VQVAE, perplexity
from worldmodel.world import WorldModel

COUNT_SMOOTHING = 1.0  # added to each code's count, so that a code unseen in training keeps a finite price


def psnr(error: float | np.ndarray) -> float | np.ndarray:
    """Decibels of a mean squared error of 8-bit pixels. Averages are taken of errors, never of decibels: one
    perfectly predicted frame would have infinitely many."""
    return 10 * np.log10(255.0**2 / np.maximum(error, 1e-10))


def squared_error(a: UInt8[Tensor, "b t h w c"], b: UInt8[Tensor, "b t h w c"]) -> Float[np.ndarray, "b t"]:
    """Mean squared error of each frame, in squared grey levels."""
    return (a.double() - b.double()).square().mean((2, 3, 4)).cpu().numpy()


@torch.no_grad()
def reconstruction(tokenizer: VQVAE, batches: ClipBatches, count: int) -> dict[str, float]:
    """PSNR of decoded against real clips, by all frames and the first alone, and how the codebook is used."""
    device = tokenizer.quantizer.codebook.device
    errors, uses = [], torch.zeros(tokenizer.config.quantizer.codes, device=device)
    for step in range(count):
        frames = batches[step].frames.to(device)
        tokens = tokenizer.encode(frames)
        errors.append(squared_error(tokenizer.decode(tokens), frames))
        uses += torch.bincount(tokens.flatten(), minlength=len(uses))
    error = np.concatenate(errors)
    return {
        "psnr": float(psnr(error.mean())),
        "psnr_first_frame": float(psnr(error[:, 0].mean())),
        "perplexity": perplexity(uses),
        "codes_used": int((uses > 0).sum()),
    }


@torch.no_grad()
def likelihood(prior: PixelCNN, batches: TokenBatches, count: int) -> dict[str, float]:
    """Bits per token and per frame under the true actions, and under those of another clip.

    The first latent of a clip, which has no past to go by, is left out.
    """
    device, nats, shuffled = prior.start.device, [], []
    for step in range(count):
        clip = batches[step].to(device)
        told = clip.real[:, 1:]
        nats.append(prior.nats(clip.tokens, clip.actions)[:, 1:][told].mean())
        shuffled.append(prior.nats(clip.tokens, clip.actions.roll(1, 0))[:, 1:][told].mean())
    bits = float(torch.stack(nats).mean()) / math.log(2)
    return {
        "bits_per_token": bits,
        "bits_per_frame": bits * math.prod(prior.grid),
        "bits_per_token_shuffled_actions": float(torch.stack(shuffled).mean()) / math.log(2),
    }


@torch.no_grad()
def outcomes(prior: PixelCNN, batches: TokenBatches, count: int) -> dict[str, float]:
    """How well rewards and ends are told of real tokens: both as events, and the reward as a number.

    A reward counts as an event where it is not the commonest one. `rmse` has the reward's own unit; `explained` is
    the share of its variance. Without the head: nothing.
    """
    if (head := prior.outcome) is None:
        return {}
    tables, rewards, ends = [], [], []
    for step in range(count):
        clip = batches[step].to(prior.start.device)
        told = clip.real[:, 1:]
        tables.append(head.calibrated(prior.outcomes(clip)[:, 1:][told]))
        rewards.append(clip.rewards[:, 1:][told])
        ends.append(clip.ends[:, 1:][told])
    table, reward = torch.cat(tables).cpu().numpy(), torch.cat(rewards).cpu().double().numpy()
    values = head.rewards.cpu().numpy()
    expected = table.sum(1) @ values
    nearest = np.abs(reward[:, None] - values).argmin(1)
    common = np.bincount(nearest).argmax()
    figures = {"reward_rmse": float(np.sqrt(np.square(expected - reward).mean()))}
    if reward.var() > 0:
        figures["reward_explained"] = 1 - float(np.square(expected - reward).mean() / reward.var())
    chances = {"end": table[:, 1].sum(-1), "rare_reward": 1 - table[:, :, common].sum(1)}
    happened = {"end": torch.cat(ends).cpu().numpy(), "rare_reward": nearest != common}
    for name, chance in chances.items():
        figures |= {f"{name}_{k}": v for k, v in event_figures(chance, happened[name]).items()}
    return figures


def event_figures(chance: Float[np.ndarray, "n"], happened: Bool[np.ndarray, "n"]) -> dict[str, float]:
    """How well probabilities foretell an event: precision and recall at one half (where they are defined), and their
    calibration: the mean chance beside the rate, and the mean gap between the two over ten equal groups by chance
    (expected calibration error)."""
    said = chance > 0.5
    hits = float((said & happened).sum())
    figures = {"count": float(happened.sum()), "rate": float(happened.mean()), "mean_chance": float(chance.mean())}
    if said.any():
        figures["precision"] = hits / float(said.sum())
    if happened.any():
        figures["recall"] = hits / float(happened.sum())
    groups = np.array_split(np.argsort(chance, kind="stable"), 10)
    gaps = [abs(chance[g].mean() - happened[g].mean()) * len(g) for g in groups if len(g)]
    return figures | {"calibration_error": float(sum(gaps)) / len(chance)}


def marginal_bits(tokens: TokenStore, train: Sequence[int], held_out: Sequence[int]) -> float:
    """Bits per token of a coder that knows only how often each code occurs in the training episodes."""
    counts = np.full(tokens.info.codes, COUNT_SMOOTHING)
    for index in train:
        counts += np.bincount(tokens.tokens(index).ravel(), minlength=len(counts))
    bits = -np.log2(counts / counts.sum())
    return float(np.concatenate([bits[tokens.tokens(index).ravel()] for index in held_out]).mean())


def copy_accuracy(tokens: TokenStore, held_out: Sequence[int]) -> float:
    """Share of tokens that equal the one at the same place a latent earlier."""
    same = [(tokens.tokens(i)[1:] == tokens.tokens(i)[:-1]).ravel() for i in held_out]
    return float(np.concatenate(same).mean())


def open_loop(
    world: WorldModel,
    store: EpisodeStore,
    episodes: Sequence[int],
    *,
    context: int,
    horizon: int,
    clips: int,
    sampler: SamplerConfig,
    seed: int,
) -> dict[str, Float[np.ndarray, "n"]]:
    """PSNR by horizon of one dream per clip under the true actions, of the last real frame held still, and of dreams
    under the actions of another clip."""
    frames, actions = real_clips(store, episodes, length=context + horizon, clips=clips, seed=seed)
    truth, given = frames[:, context:], frames[:, :context]
    others = np.concatenate([actions[:, : context - 1], np.roll(actions, 1, axis=0)[:, context - 1 :]], axis=1)
    dream: Callable[[np.ndarray], Tensor] = lambda a: world.imagine(given, a, horizon, sampler, seed)  # noqa: E731
    still = given[:, -1:].expand_as(truth)
    videos = {"dream": dream(actions), "copy_last_frame": still, "shuffled_actions": dream(others)}
    return {name: np.asarray(psnr(squared_error(video, truth).mean(0))) for name, video in videos.items()}


def real_clips(
    store: EpisodeStore, episodes: Sequence[int], *, length: int, clips: int, seed: int
) -> tuple[UInt8[Tensor, "b t h w c"], np.ndarray]:
    """Frames, and the actions between them in the env's own terms, of clips at random places of the episodes.

    Raises: ValueError when no episode is so long.
    """
    rng = np.random.default_rng(seed)
    places = [(i, start) for i in episodes for start in range(store.length(i) - length + 1)]
    if not places:
        longest = max((store.length(i) for i in episodes), default=0)
        raise ValueError(f"no held-out episode has {length} frames (the longest has {longest}): lower the horizon")
    chosen = [places[i] for i in rng.choice(len(places), min(clips, len(places)), replace=False)]
    frames = np.stack([store.frames(i, start, start + length) for i, start in chosen])
    return torch.from_numpy(frames), np.stack([store.actions(i)[start : start + length - 1] for i, start in chosen])

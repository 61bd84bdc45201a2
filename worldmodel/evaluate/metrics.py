"""Quick numbers for training to watch on held-out clips, and real clips to dream beside."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from worldmodel.data.clips.clips import ClipBatches
from worldmodel.data.clips.token_batches import TokenBatches
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.evaluate.measures.images import psnr, squared_error
from worldmodel.interfaces import Prior, Tokenizer
from worldmodel.tokenizer import perplexity


@torch.no_grad()
def reconstruction(tokenizer: Tokenizer, batches: ClipBatches, count: int) -> dict[str, float]:
    """PSNR of decoded against real clips, by all frames and the first alone, and how the codebook is used."""
    device = tokenizer.device
    errors, uses = [], torch.zeros(tokenizer.codes, device=device)
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
def likelihood(prior: Prior, batches: TokenBatches, count: int) -> dict[str, float]:
    """Bits per token and per frame under the true actions, and under those of another clip.

    The first latent of a clip, which has no past to go by, is left out.
    """
    device, nats, shuffled = prior.device, [], []
    for step in range(count):
        clip = batches[step].to(device)
        mask = clip.mask[:, 1:]
        nats.append(prior.nats(clip.tokens, clip.actions)[:, 1:][mask].mean())
        shuffled.append(prior.nats(clip.tokens, clip.actions.roll(1, 0))[:, 1:][mask].mean())
    bits = float(torch.stack(nats).mean()) / math.log(2)
    return {
        "bits_per_token": bits,
        "bits_per_frame": bits * math.prod(prior.grid),
        "bits_per_token_shuffled_actions": float(torch.stack(shuffled).mean()) / math.log(2),
    }


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

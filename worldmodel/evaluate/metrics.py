"""Quick numbers of held-out clips, for training to log."""

import math

import numpy as np
import torch

from worldmodel.data.clips.clips import ClipBatches
from worldmodel.data.clips.token_batches import TokenBatches
from worldmodel.evaluate.measures.images import psnr, squared_error
from worldmodel.interfaces import Prior, Tokenizer
from worldmodel.tokenizer import perplexity


@torch.no_grad()
def reconstruction(tokenizer: Tokenizer, batches: ClipBatches, count: int) -> dict[str, float]:
    """PSNR of decoded against real clips, over all frames and the first frames alone, and the use
    of the codebook."""
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

    The first latent of a clip, which has no past, is left out.
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

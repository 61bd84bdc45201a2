"""Where dreams begin: a small set of real contexts, as tokens, that travels with the world."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from worldmodel.data.clips.token_store import TokenStore, latent_actions
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.nn.actions import ActionEncoder

CONTEXT = 6  # latents of a context within an episode


@dataclass(frozen=True)
class StartContexts:
    """n contexts of at most s latents: the first `lengths[i]` of row i.

    `actions` are encoded, those that lead into each latent. The first `resets` rows are beginnings of episodes, one
    latent each, as a real reset shows no more than that; the others come from anywhere within.
    """

    tokens: Int64[Tensor, "n s y x"]
    actions: Float32[Tensor, "n s a"]
    lengths: Int64[Tensor, "n"]
    resets: int

    def __len__(self) -> int:
        return len(self.tokens)

    def tensors(self) -> dict[str, Tensor]:
        """What `from_tensors` makes the same starts of; tokens in as few bytes as they need."""
        largest = int(self.tokens.max()) if len(self) else 0
        kind = next(t for t in (torch.uint8, torch.int16, torch.int32) if largest <= torch.iinfo(t).max)
        return {
            "tokens": self.tokens.to(kind),
            "actions": self.actions,
            "lengths": self.lengths,
            "resets": torch.tensor(self.resets),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "StartContexts":
        """Raises: ValueError when one is missing, or they do not belong together."""
        try:
            tokens, actions, lengths, resets = (tensors[name] for name in ("tokens", "actions", "lengths", "resets"))
        except KeyError as error:
            raise ValueError(f"starts: {error} is missing; train the prior again to write them anew") from error
        starts = cls(tokens.long(), actions.float(), lengths, int(resets))
        n, s = len(tokens), tokens.shape[1]
        if actions.shape[:2] != (n, s) or lengths.shape != (n,) or not 0 <= starts.resets <= n:
            raise ValueError(f"starts: {n} contexts of {s} latents do not go with actions of shape {actions.shape}")
        if not starts.actions.isfinite().all():
            raise ValueError("starts: expected finite actions; train the prior again to write them anew")
        if n and not 1 <= int(lengths.min()) <= int(lengths.max()) <= s:
            raise ValueError(f"starts: expected lengths of 1 to {s}, got {lengths.min()} to {lengths.max()}")
        return starts


def choose_start_contexts(
    tokens: TokenStore,
    store: EpisodeStore,
    episodes: tuple[int, ...] | list[int],
    *,
    count: int,
    seed: int,
    encoder: ActionEncoder | None = None,
) -> StartContexts:
    """Up to `count` beginnings of these episodes and `count` contexts from anywhere within, the last latent aside:
    where an episode has ended, nothing follows."""
    rng = np.random.default_rng(seed)
    stride, encoder = tokens.info.time_stride, encoder or ActionEncoder(store.info.action_space)
    some = rng.permutation(np.asarray(episodes))[:count].tolist()
    places = [(index, 1) for index in sorted(some)]
    resets = len(places)
    ends = np.array([max(len(tokens.tokens(index)) - 1, 0) for index in episodes])
    if ends.sum():
        for place in np.sort(rng.choice(ends.sum(), min(count, int(ends.sum())), replace=False)):
            which = int(np.searchsorted(np.cumsum(ends), place, side="right"))
            places.append((episodes[which], int(place - np.cumsum(ends)[which] + ends[which]) + 1))
    n, width = len(places), encoder.width * stride
    rows = np.zeros((n, CONTEXT, *tokens.info.grid), np.int64)
    lead, lengths = np.zeros((n, CONTEXT, width), np.float32), np.zeros(n, np.int64)
    for row, (index, stop) in enumerate(places):
        first = max(0, stop - CONTEXT)
        lengths[row] = stop - first
        rows[row, : stop - first] = tokens.tokens(index)[first:stop]
        encoded = encoder.encode(store.actions(index)[: stride * (stop - 1)])
        lead[row, : stop - first] = latent_actions(encoded, stride, stop)[first:]
    return StartContexts(torch.from_numpy(rows), torch.from_numpy(lead), torch.from_numpy(lengths), resets)

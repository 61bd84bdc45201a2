"""Contexts for dreams to start from: a small set of real ones, as tokens, stored with the world's weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from worldmodel.data.clips.token_batches import latent_actions
from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.nn.actions import ActionEncoder

CONTEXT = 6  # latents of a context from within an episode
RETRAIN = "run `worldmodel train-prior` again to write them anew"


@dataclass(frozen=True)
class StartContexts:
    """n contexts of at most s latents: the first `lengths[i]` latents of row i.

    `actions` are the encoded actions that lead into each latent. The first `resets` rows are the first latents of
    episodes, one latent each, because a real reset shows one frame. The other rows come from any place in an episode.
    """

    tokens: Int64[Tensor, "n s y x"]
    actions: Float32[Tensor, "n s a"]
    lengths: Int64[Tensor, "n"]
    resets: int

    def __len__(self) -> int:
        return len(self.tokens)

    def tensors(self) -> dict[str, Tensor]:
        """The contexts as tensors, for `from_tensors`; tokens take the smallest integer type that holds them."""
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
        """Raises ValueError if a tensor is missing, or if they do not fit together."""
        try:
            tokens, actions, lengths, resets = (tensors[name] for name in ("tokens", "actions", "lengths", "resets"))
        except KeyError as error:
            raise ValueError(f"starts: {error} is missing; {RETRAIN}") from error
        starts = cls(tokens.long(), actions.float(), lengths, int(resets))
        n, s = len(tokens), tokens.shape[1]
        if actions.shape[:2] != (n, s) or lengths.shape != (n,) or not 0 <= starts.resets <= n:
            raise ValueError(f"starts: {n} contexts of {s} latents do not fit actions of shape {actions.shape}")
        if not starts.actions.isfinite().all():
            raise ValueError(f"starts: expected finite actions; {RETRAIN}")
        if n and not 1 <= int(lengths.min()) <= int(lengths.max()) <= s:
            raise ValueError(f"starts: expected lengths of 1 to {s}, got {lengths.min()} to {lengths.max()}")
        return starts


def choose_start_contexts(
    tokens: TokenStore,
    store: EpisodeStore,
    episodes: Sequence[int],
    *,
    count: int,
    seed: int,
    encoder: ActionEncoder | None = None,
) -> StartContexts:
    """Up to `count` first latents of these episodes, and up to `count` contexts from any place in them.

    No context ends at an episode's last latent, because no dream can go on after the end of an episode.
    """
    encoder = encoder or ActionEncoder(store.info.action_space)
    resets, within = _choose_places(tokens, episodes, count, seed)
    places = resets + within
    n, stride = len(places), tokens.info.time_stride
    rows = np.zeros((n, CONTEXT, *tokens.info.grid), np.int64)
    action_inputs = np.zeros((n, CONTEXT, encoder.width * stride), np.float32)
    lengths = np.zeros(n, np.int64)
    for row, (index, stop) in enumerate(places):
        first = max(0, stop - CONTEXT)
        lengths[row] = stop - first
        rows[row, : stop - first] = tokens.tokens(index)[first:stop]
        encoded = encoder.encode(store.actions(index)[: stride * (stop - 1)])
        action_inputs[row, : stop - first] = latent_actions(encoded, stride, stop)[first:]
    arrays = (torch.from_numpy(each) for each in (rows, action_inputs, lengths))
    return StartContexts(*arrays, resets=len(resets))


Places = list[tuple[int, int]]  # (episode, number of its latents up to the end of the context)


def _choose_places(tokens: TokenStore, episodes: Sequence[int], count: int, seed: int) -> tuple[Places, Places]:
    """Where contexts end: after the first latent of some episodes, and anywhere."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(np.asarray(episodes))[:count].tolist()
    resets = [(index, 1) for index in sorted(chosen)]
    ends = np.array([max(len(tokens.tokens(index)) - 1, 0) for index in episodes])
    total, cumulative = int(ends.sum()), np.cumsum(ends)
    within: Places = []
    if total:
        for place in np.sort(rng.choice(total, min(count, total), replace=False)):
            which = int(np.searchsorted(cumulative, place, side="right"))
            within.append((episodes[which], int(place - cumulative[which] + ends[which]) + 1))
    return resets, within

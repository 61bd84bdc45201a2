"""Clips of held-out episodes, each knowing which: what tokenizer, prior and rollouts are measured on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor

from worldmodel.data.clips.token_batches import latent_actions
from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.clips.windows import WindowSampler
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.interfaces import Tokenizer
from worldmodel.nn.actions import ActionEncoder

BATCH = 8  # clips in one pass
FEWEST = 5  # episodes from which on these are what is drawn again; an interval over fewer would say nothing


@dataclass(frozen=True)
class HeldOut:
    """n clips of one length, sorted by episode.

    episodes: that of each clip. actions: between the frames, in the env's own terms; leading: encoded, those that
    lead into each latent. tokens: as the tokenizer made them with all of the episode before in its sight.
    """

    episodes: tuple[int, ...]
    frames: UInt8[Tensor, "n t h w c"]
    actions: np.ndarray  # `n t-1 *space`
    tokens: Int[Tensor, "n s y x"]
    leading: Float32[Tensor, "n s a"]

    def __len__(self) -> int:
        return len(self.episodes)

    def others(self) -> list[int]:
        """For each clip another one, of another episode where there are several: whose actions are the wrong ones."""
        return np.roll(np.arange(len(self)), -(-len(self) // 2)).tolist()

    def samples(self, values: Float[np.ndarray, "n *rest"]) -> Float[np.ndarray, "m *rest"]:
        """What may be drawn again for an interval: the mean of each episode, as its clips are alike; where there are
        fewer than 5 episodes, each clip."""
        rows = draws(self.episodes)
        return np.stack([values[rows == row].mean(0) for row in range(rows.max() + 1)])


def draws(episodes: Sequence[int]) -> Int[np.ndarray, "n"]:
    """Which of m samples each clip belongs to: those of an episode together, where there are 5 episodes or more."""
    found, rows = np.unique(episodes, return_inverse=True)
    return rows if len(found) >= FEWEST else np.arange(len(episodes))


def draw(
    store: EpisodeStore,
    tokens: TokenStore,
    episodes: Sequence[int],
    *,
    latents: int,
    count: int,
    seed: int,
    encoder: ActionEncoder | None = None,
    setting: str = "",
) -> HeldOut:
    """`count` clips of so many latents, uniform over all places in the episodes where one fits.

    Raises: ValueError when no episode is so long; names `setting`, the key to lower, if there is one.
    """
    lengths = {index: len(tokens.tokens(index)) for index in episodes}
    windows = WindowSampler(lengths, latents, seed, item="latents", setting=setting)
    places = sorted(windows.draw(0, count))
    stride, encoder = tokens.info.time_stride, encoder or ActionEncoder(store.info.action_space)
    columns = []
    for index, start in places:
        first, last = stride * start, stride * (start + latents - 1)
        actions = store.actions(index)[first:last]
        leading = latent_actions(encoder.encode(actions), stride, latents)
        code = tokens.tokens(index)[start : start + latents].astype(np.int64)
        columns.append((store.frames(index, first, last + 1), actions, code, leading))
    frames, actions, codes, leading = (np.stack(column) for column in zip(*columns, strict=True))
    numbers = tuple(index for index, _ in places)
    return HeldOut(numbers, torch.from_numpy(frames), actions, torch.from_numpy(codes), torch.from_numpy(leading))


def decode(tokenizer: Tokenizer, clips: HeldOut) -> UInt8[Tensor, "n t h w c"]:
    """The clips' tokens as frames, on the CPU: as good as a dream of them can look."""
    device = tokenizer.device
    return torch.cat([tokenizer.decode(part.to(device)).cpu() for part in clips.tokens.split(BATCH)])


def reach(tokens: TokenStore, episodes: Sequence[int], latents: int) -> int:
    """So many latents, or as many as at least half of the episodes have: few long ones would be a sample of a kind."""
    lengths = sorted(len(tokens.tokens(index)) for index in episodes)
    return min(latents, lengths[len(lengths) // 2])


def same_actions(clips: HeldOut) -> str:
    """Why the actions of another clip are no wrong ones, where all took the same; else nothing."""
    same = not clips.leading.shape[2] or torch.equal(clips.leading, clips.leading[clips.others()])
    return "the other clips took the same actions, or there are none" if same else ""

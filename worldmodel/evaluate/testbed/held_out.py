"""Clips of held-out episodes for tokenizer, prior and rollouts; each clip knows its episode."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor

from worldmodel.data.clips.clips import ClipSampler
from worldmodel.data.clips.token_batches import latent_actions
from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.episodes.store import EpisodeStore
from worldmodel.evaluate.statistics.bootstrap import Resampler
from worldmodel.interfaces import Tokenizer
from worldmodel.nn.actions import ActionEncoder

BATCH = 8  # clips in one pass


@dataclass(frozen=True)
class HeldOut:
    """n clips of one length, sorted by episode.

    episodes: the episode of each clip. actions: raw, as the environment takes them;
    action_inputs: encoded, those that lead into each latent. tokens: encoded with the whole past of the episode,
    not with the clip alone.
    """

    episodes: tuple[int, ...]
    frames: UInt8[Tensor, "n t h w c"]
    actions: np.ndarray  # `n t-1 *space`
    tokens: Int[Tensor, "n s y x"]
    action_inputs: Float32[Tensor, "n s a"]

    def __len__(self) -> int:
        return len(self.episodes)

    def others(self) -> list[int]:
        """For each clip the number of another one, whose actions are wrong for it; of another
        episode if possible."""
        return np.roll(np.arange(len(self)), -(-len(self) // 2)).tolist()

    def unit_means(self, values: Float[np.ndarray, "n *rest"]) -> Float[np.ndarray, "m *rest"]:
        """The mean of each unit that intervals draw: of each episode, or of each clip if there are
        few episodes."""
        unit = Resampler.by_episode(self.episodes).unit
        return np.stack([values[unit == i].mean(0) for i in range(unit.max() + 1)])

    @property
    def resampler(self) -> Resampler:
        """Draws the rows of `unit_means`: all episodes have equal weight, however many clips they
        have."""
        clips = Resampler.by_episode(self.episodes)
        return Resampler.by_row(len(clips), clips.name)


def sample_clips(
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
    """`count` clips of `latents` latents, drawn uniformly from all places in the episodes where one
    fits.

    setting: the key to lower if no episode is long enough; "" if there is none.

    Raises: ValueError if no episode is long enough.
    """
    stride, encoder = tokens.info.time_stride, encoder or ActionEncoder(store.info.action_space)
    sampler = ClipSampler(store, episodes, length=latents, seed=seed, setting=setting, time_stride=stride)
    clips = sampler.read(sorted(sampler.windows.sample(0, count)))
    code = [_tokens(tokens, *place, latents) for place in zip(clips.episodes, clips.starts, strict=True)]
    action_inputs = [latent_actions(encoder.encode(actions), stride, latents) for actions in clips.actions]
    stacked = (torch.from_numpy(np.stack(column)) for column in (code, action_inputs))
    return HeldOut(clips.episodes, clips.frames, clips.actions, *stacked)


def _tokens(tokens: TokenStore, episode: int, frame: int, latents: int) -> Int[np.ndarray, "s y x"]:
    """The tokens of the latents from this frame on."""
    first = frame // tokens.info.time_stride
    return tokens.tokens(episode)[first : first + latents].astype(np.int64)


def decode(tokenizer: Tokenizer, clips: HeldOut) -> UInt8[Tensor, "n t h w c"]:
    """The clips decoded from their tokens, on the CPU: no dream of them can look better."""
    device = tokenizer.device
    return torch.cat([tokenizer.decode(part.to(device)).cpu() for part in clips.tokens.split(BATCH)])


def reach(tokens: TokenStore, episodes: Sequence[int], latents: int) -> int:
    """`latents`, or fewer: as many as at least half of the episodes have. A few long episodes are
    no fair sample."""
    lengths = sorted(len(tokens.tokens(index)) for index in episodes)
    return min(latents, lengths[len(lengths) // 2])


def same_actions(clips: HeldOut) -> str:
    """Why the actions of the other clips are not wrong ones: all clips have the same; "" if they
    differ."""
    same = not clips.action_inputs.shape[2] or torch.equal(clips.action_inputs, clips.action_inputs[clips.others()])
    return "the other clips took the same actions, or there are none" if same else ""

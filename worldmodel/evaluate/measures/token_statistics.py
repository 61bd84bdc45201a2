"""What the tokens of real and of imagined frames look like in numbers: how many change, how varied they are, how often
each code occurs. Entropies and divergences in bits."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer

from worldmodel.data.clips.token_store import TokenStore
from worldmodel.data.clips.windows import WindowSampler


def real_windows(
    tokens: TokenStore, episodes: Sequence[int], length: int, count: int, seed: int
) -> Integer[np.ndarray, "n t y x"]:
    """The tokens of `count` windows of `length` latents at random places of real episodes.

    Raises: ValueError when no episode is so long.
    """
    lengths = {index: len(tokens.tokens(index)) for index in episodes}
    places = WindowSampler(lengths, length, seed, item="latents", setting="the window").draw(0, count)
    return np.stack([tokens.tokens(index)[start : start + length] for index, start in places])


def changing(tokens: Integer[np.ndarray, "n t y x"]) -> Float[np.ndarray, "n"]:
    """The share of tokens that differ from the one at their place a step before: 0 where nothing moves."""
    return (tokens[:, 1:] != tokens[:, :-1]).mean((1, 2, 3))


def histogram(tokens: Integer[np.ndarray, "n *rest"], codes: int) -> Float[np.ndarray, "n k"]:
    """How often each code occurs, as shares, in each of n sets of tokens."""
    flat = tokens.reshape(len(tokens), -1).astype(np.int64)
    own = flat + codes * np.arange(len(flat))[:, None]  # codes of each set in a range of its own
    return np.bincount(own.ravel(), minlength=codes * len(flat)).reshape(-1, codes) / flat.shape[1]


def entropy(share: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n"]:
    """Bits of a distribution: 0 where there is but one code."""
    return -(share * np.log2(share, out=np.zeros_like(share), where=share > 0)).sum(-1)


def within_frames(tokens: Integer[np.ndarray, "n t y x"], codes: int) -> Float[np.ndarray, "n"]:
    """The entropy of the tokens of a frame, mean over frames: 0 where frames are of one code."""
    per_frame = entropy(histogram(tokens.reshape(-1, *tokens.shape[2:]), codes))
    return per_frame.reshape(tokens.shape[:2]).mean(1)


def among(tokens: Integer[np.ndarray, "n y x"], codes: int) -> Float[np.ndarray, "m"]:
    """The entropy of the tokens at each place of the grid over n frames: 0 where all show the same."""
    return entropy(histogram(tokens.reshape(len(tokens), -1).T, codes))


def divergence(shares: Float[np.ndarray, "n k"], reference: Float[np.ndarray, "k"]) -> Float[np.ndarray, "n"]:
    """Jensen–Shannon divergence in bits: 0 for equal distributions, 1 for those that share no code."""
    return entropy((shares + reference) / 2) - (entropy(shares) + entropy(reference[None])) / 2

"""What tokens look like in numbers: how many change, how varied they are, how often each code
occurs.

Entropies and divergences are in bits.
"""

import numpy as np
from jaxtyping import Float, Int, Integer

REAL_SAMPLES, REAL_QUANTILE = 1000, 0.95  # of `real_level`


def changing(tokens: Integer[np.ndarray, "n t y x"]) -> Float[np.ndarray, "n"]:
    """The share of tokens that differ from the token at the same place a step before; 0 if nothing
    moves."""
    return (tokens[:, 1:] != tokens[:, :-1]).mean((1, 2, 3))


def histogram(tokens: Integer[np.ndarray, "n *rest"], codes: int) -> Float[np.ndarray, "n k"]:
    """The share of each code in each of n sets of tokens."""
    flat = tokens.reshape(len(tokens), -1).astype(np.int64)
    own = flat + codes * np.arange(len(flat))[:, None]  # each set's codes in a range of their own
    return np.bincount(own.ravel(), minlength=codes * len(flat)).reshape(-1, codes) / flat.shape[1]


def place_counts(
    tokens: Integer[np.ndarray, "n y x"], unit: Int[np.ndarray, "n"], units: int, codes: int
) -> Float[np.ndarray, "m p k"]:
    """How often each code occurs at each of p places of the grid, in the frames of each of `units`
    units."""
    flat = tokens.reshape(len(tokens), -1).astype(np.int64)
    counts = np.zeros((units, flat.shape[1], codes))
    np.add.at(counts, (unit[:, None], np.arange(flat.shape[1]), flat), 1)
    return counts


def entropy(share: Float[np.ndarray, "*r k"]) -> Float[np.ndarray, "*r"]:
    """Bits of a distribution: 0 if there is only one code."""
    return -(share * np.log2(share, out=np.zeros_like(share), where=share > 0)).sum(-1)


def place_entropy(counts: Float[np.ndarray, "*r p k"]) -> Float[np.ndarray, "*r"]:
    """The entropy of the tokens at one place over frames, mean over the places: 0 if all frames are
    equal."""
    return entropy(counts / counts.sum(-1, keepdims=True)).mean(-1)


def within_frames(tokens: Integer[np.ndarray, "n t y x"], codes: int) -> Float[np.ndarray, "n"]:
    """The entropy of the tokens of a frame, mean over frames: 0 if each frame has only one code."""
    per_frame = entropy(histogram(tokens.reshape(-1, *tokens.shape[2:]), codes))
    return per_frame.reshape(tokens.shape[:2]).mean(1)


def divergence(shares: Float[np.ndarray, "n k"], reference: Float[np.ndarray, "k"]) -> Float[np.ndarray, "n"]:
    """Jensen–Shannon divergence in bits: 0 for equal distributions, 1 for distributions without a
    common code."""
    return entropy((shares + reference) / 2) - (entropy(shares) + entropy(reference[None])) / 2


def set_means(shares: Float[np.ndarray, "n k"], size: int) -> Float[np.ndarray, "s k"]:
    """The mean shares of whole sets of `size` rows; rows that do not fill a set are left out."""
    return shares[: len(shares) // size * size].reshape(-1, size, shares.shape[1]).mean(1)


def real_level(windows: Float[np.ndarray, "w k"], count: int, reference: Float[np.ndarray, "k"], seed: int) -> float:
    """The divergence that 95 of 100 samples of `count` real windows do not exceed."""
    rng = np.random.default_rng(seed)
    samples = [windows[rng.integers(len(windows), size=count)].mean(0) for _ in range(REAL_SAMPLES)]
    return float(np.quantile(divergence(np.stack(samples), reference), REAL_QUANTILE))

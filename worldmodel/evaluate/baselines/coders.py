"""Coders of tokens that know only how often codes occur and how often a token stays; a prior should
beat them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

from worldmodel.data.clips.token_store import TokenStore

COUNT_SMOOTHING = 1.0  # added to each code's count, so a code that is unseen in training has finite bits
WEIGHTS = np.linspace(0, 0.999, 1000)  # weights of copying that are tried


@dataclass(frozen=True)
class CopyCoder:
    """p(z) = w · [z is the token at the same place one latent earlier] + (1 − w) · frequency of z.

    With w = 0 it is the marginal coder.
    """

    frequency: Float[np.ndarray, "k"]
    weight: float

    @classmethod
    def learn(cls, tokens: TokenStore, episodes: Sequence[int]) -> "CopyCoder":
        """The frequencies in these episodes, and the weight that needs the fewest bits for them."""
        counts, kept = np.full(tokens.info.codes, COUNT_SMOOTHING), np.zeros(tokens.info.codes)
        changed = 0
        for index in episodes:
            code = tokens.tokens(index)
            same = code[1:] == code[:-1]
            counts += np.bincount(code.ravel(), minlength=len(counts))
            kept += np.bincount(code[1:][same], minlength=len(counts))
            changed += int((~same).sum())
        frequency = counts / counts.sum()
        copied = np.log2(WEIGHTS[:, None] + (1 - WEIGHTS[:, None]) * frequency)
        likelihood = copied @ kept + changed * np.log2(1 - WEIGHTS)
        return cls(frequency, float(WEIGHTS[likelihood.argmax()]))

    def marginal(self) -> "CopyCoder":
        """The coder that never copies."""
        return CopyCoder(self.frequency, 0.0)

    def bits(self, tokens: Integer[np.ndarray, "n s y x"]) -> Float[np.ndarray, "n s1 y x"]:
        """−log2 p of each token of all latents but the first, which has no latent before it."""
        new, same = tokens[:, 1:], tokens[:, 1:] == tokens[:, :-1]
        return -np.log2(self.weight * same + (1 - self.weight) * self.frequency[new])


@dataclass(frozen=True)
class ResidualCoder:
    """Codes the decoding error of each pixel, by how often such an error occurs."""

    frequency: Float[np.ndarray, "511"]  # of errors of −255 to 255 grey levels

    @classmethod
    def learn(cls, frames: Integer[np.ndarray, "*n"], decoded: Integer[np.ndarray, "*n"]) -> "ResidualCoder":
        """The frequencies of these errors."""
        counts = np.full(511, COUNT_SMOOTHING) + np.bincount(_errors(frames, decoded).ravel(), minlength=511)
        return cls(counts / counts.sum())

    def bits(
        self, frames: Integer[np.ndarray, "n t h w c"], decoded: Integer[np.ndarray, "n t h w c"]
    ) -> Float[np.ndarray, "n t"]:
        """Bits of each frame, given its decoded tokens."""
        prices = -np.log2(self.frequency)
        return np.stack([prices[_errors(a, b)].sum((1, 2, 3)) for a, b in zip(frames, decoded, strict=True)])


def _errors(frames: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """Error of each decoded pixel plus 255: 0 to 510."""
    return frames.astype(np.int64) - decoded + 255

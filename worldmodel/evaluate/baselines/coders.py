"""What a prior has to beat: coders of tokens that know how often codes occur, and that most stay where they are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

from worldmodel.data.clips.token_store import TokenStore

COUNT_SMOOTHING = 1.0  # added to each code's count, so that a code unseen in training keeps a finite price
WEIGHTS = np.linspace(0, 0.999, 1000)  # shares of copying that are tried


@dataclass(frozen=True)
class CopyCoder:
    """p(z) = w · [z is the token at the same place a latent earlier] + (1 − w) · how often z occurs.

    With w = 0 it is the marginal coder.
    """

    frequency: Float[np.ndarray, "k"]
    weight: float

    @classmethod
    def learn(cls, tokens: TokenStore, episodes: Sequence[int]) -> "CopyCoder":
        """The frequencies of these episodes, and the weight that gives them the fewest bits."""
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
        """−log2 p of each token of all latents but the first, which has none before."""
        new, same = tokens[:, 1:], tokens[:, 1:] == tokens[:, :-1]
        return -np.log2(self.weight * same + (1 - self.weight) * self.frequency[new])


@dataclass(frozen=True)
class ResidualCoder:
    """What decoding leaves out of each pixel, at the price of how often such an error occurs."""

    frequency: Float[np.ndarray, "511"]  # of errors of −255 to 255 grey levels

    @classmethod
    def learn(cls, frames: Integer[np.ndarray, "*n"], decoded: Integer[np.ndarray, "*n"]) -> "ResidualCoder":
        """The frequencies of these errors."""
        counts = np.full(511, COUNT_SMOOTHING) + np.bincount(_errors(frames, decoded).ravel(), minlength=511)
        return cls(counts / counts.sum())

    def bits(
        self, frames: Integer[np.ndarray, "n t h w c"], decoded: Integer[np.ndarray, "n t h w c"]
    ) -> Float[np.ndarray, "n t"]:
        """Bits of each frame for whoever has its decoded tokens already."""
        prices = -np.log2(self.frequency)
        return np.stack([prices[_errors(a, b)].sum((1, 2, 3)) for a, b in zip(frames, decoded, strict=True)])


def _errors(frames: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """0 to 510: what is added to the decoded pixels, and 255."""
    return frames.astype(np.int64) - decoded + 255

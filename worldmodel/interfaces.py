"""The contracts of a world's two parts. Worlds, dreams, agents and reports use nothing else.

Axes: `b` batch, `t` frames, `h w c` pixels, `s y x` latent time, row and column, `a` action width, `k` codes. Frames
are uint8, tokens int64. A latent is the first frame, then every `time_stride` frames: `t = 1 + time_stride · (s − 1)`.

Both parts are `torch.nn.Module`s. To be saved, their class needs an entry in `TOKENIZERS` or `PRIORS`.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from worldmodel.nn.causal_conv import Past
from worldmodel.prior.categorical import SamplerConfig
from worldmodel.prior.outcome import SampledFrame


@runtime_checkable
class FrameCoder(Protocol):
    """Frames ⇄ tokens, a few latents at a time: the half of a tokenizer that dreams need."""

    def encode_chunk(self, frames: UInt8[Tensor, "b t h w c"], past: Past) -> tuple[Int[Tensor, "b s y x"], Past]:
        """Tokens of the next frames; `past` is None at the start of a video, then what the last call returned.

        Raises: ValueError for frames of another size, or frames that do not fill whole latents.
        """
        ...

    def decode_chunk(self, tokens: Int[Tensor, "b s y x"], past: Past) -> tuple[UInt8[Tensor, "b t h w c"], Past]:
        """Frames of the next tokens; `past` as in `encode_chunk`.

        Raises: ValueError for tokens of another grid or outside the vocabulary.
        """
        ...


@runtime_checkable
class Tokenizer(FrameCoder, Protocol):
    """Video ⇄ a grid of discrete tokens, causal in both directions."""

    @property
    def codes(self) -> int:
        """Size K of the vocabulary: tokens are in [0, K)."""
        ...

    @property
    def grid(self) -> tuple[int, int]:
        """Rows y and columns x of the tokens of a latent."""
        ...

    @property
    def time_stride(self) -> int:
        """Frames per latent after the first."""
        ...

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Height, width and colors of a frame."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        ...

    def encode(self, frames: UInt8[Tensor, "b t h w c"]) -> Int[Tensor, "b s y x"]:
        """Tokens of whole videos: `encode_chunk` from the start."""
        ...

    def decode(self, tokens: Int[Tensor, "b s y x"]) -> UInt8[Tensor, "b t h w c"]:
        """Frames of whole videos: `decode_chunk` from the start."""
        ...

    def features(self, frames: UInt8[Tensor, "b t h w c"]) -> Float[Tensor, "b d s y x"]:
        """The encoder's outputs for whole videos, for distances between sets of clips."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """All parameters and buffers, as in `torch.nn.Module`."""
        ...

    def embed(self, tokens: Int[Tensor, "*n y x"]) -> Float[Tensor, "*n y x e"]:
        """A vector for each token, where similar codes have similar vectors; each entry has mean 0 and deviation 1."""
        ...


@runtime_checkable
class FramePredictor(Protocol):
    """One latent after the other: the half of a prior that dreams need."""

    def start(self, tokens: Int[Tensor, "b s y x"], actions: Float[Tensor, "b s a"]) -> Past:
        """The state after all of these latents except the newest; `actions` lead into each of them."""
        ...

    def step(
        self,
        state: Past,
        tokens: Int[Tensor, "b y x"],
        action: Float[Tensor, "b a"],
        noise: Float[Tensor, "b n"],
        sampler: SamplerConfig,
        temperature: Float[Tensor, "b"] | None = None,
    ) -> tuple[Past, SampledFrame]:
        """Sample the latent that follows `tokens`, the newest one, under the action that leads into it.

        noise: uniform numbers in [0, 1), one per site and a last one for reward and termination; no other
        randomness is used. temperature: one per dream (None: the sampler's). The state is not changed.
        """
        ...


@runtime_checkable
class Prior(FramePredictor, Protocol):
    """p(next latent, reward, termination | earlier latents, actions), exactly."""

    @property
    def codes(self) -> int:
        """Size K of the vocabulary."""
        ...

    @property
    def grid(self) -> tuple[int, int]:
        """Rows y and columns x of the tokens of a latent."""
        ...

    @property
    def actions(self) -> int:
        """Width a of the encoded actions that lead into one latent."""
        ...

    @property
    def rewards(self) -> tuple[float, ...]:
        """The rewards that a step may bring; empty where neither reward nor termination is predicted."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        ...

    def logits(self, tokens: Int[Tensor, "b s y x"], actions: Float[Tensor, "b s a"]) -> Float[Tensor, "b s y x k"]:
        """Logits of each token given all before it, in one parallel pass."""
        ...

    def nats(self, tokens: Int[Tensor, "b s y x"], actions: Float[Tensor, "b s a"]) -> Float[Tensor, "b s y x"]:
        """−log p of each token given all before it, in one parallel pass."""
        ...

    def score(
        self,
        state: Past,
        tokens: Int[Tensor, "b y x"],
        action: Float[Tensor, "b a"],
        following: Int[Tensor, "b y x"],
    ) -> tuple[Past, Float[Tensor, "b"]]:
        """−log p in nats of the latent `following` after `tokens` under this action, and the next state."""
        ...

    def outcome_probabilities(self, clip: Any) -> Float[Tensor, "b s 2 r"]:
        """Probabilities of each reward, if the episode goes on and if it ends, of each latent of a clip."""
        ...

    def loss(self, clip: Any) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """What training minimizes, and metrics to log."""
        ...

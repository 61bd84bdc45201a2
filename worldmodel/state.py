"""The state of dreams, and the result of a step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from worldmodel.nn.causal_conv import Past, join_pasts, map_past
from worldmodel.prior.outcome import Outcome

PER_DREAM = ("tokens", "frame", "steps", "dreams")  # fields of a DreamState with one entry per dream


@dataclass(frozen=True)
class DreamState:
    """The state of b dreams: a value that is never changed in place, so it can be kept, branched and restored.

    context, decoder: pasts of the prior's context and of the decoder. tokens: the newest latent; frame: what it shows
    (the last of its frames). steps: latents so far. dreams and seed: the keys of the noise, which
    does not depend on the place in the batch.
    """

    context: Past
    decoder: Past
    tokens: Int[Tensor, "b y x"]
    frame: UInt8[Tensor, "b h w c"]
    steps: Int[Tensor, "b"]
    dreams: Int[Tensor, "b"]
    seed: int

    def select(self, index: Int[Tensor, "m"]) -> "DreamState":
        """The states of the dreams at these places; a place may be named more than once to branch it."""
        past = {name: map_past(lambda x: x[index], getattr(self, name)) for name in ("context", "decoder")}
        return replace(self, **past, **{name: getattr(self, name)[index] for name in PER_DREAM})

    def scatter(self, index: Int[Tensor, "m"], other: "DreamState") -> "DreamState":
        """The same dreams with those of `other` at these places.

        Raises: ValueError for states of different seeds.
        """
        order = torch.arange(len(self.tokens), device=self.tokens.device)
        order[index] = torch.arange(len(order), len(order) + len(index), device=order.device)
        return DreamState.join([self, other]).select(order)

    @staticmethod
    def join(states: "Sequence[DreamState]") -> "DreamState":
        """The dreams of these states side by side.

        Raises: ValueError for states of different seeds.
        """
        if len({state.seed for state in states}) != 1:
            raise ValueError(f"expected states of one seed, got {sorted({state.seed for state in states})}")
        past = {name: join_pasts([getattr(s, name) for s in states]) for name in ("context", "decoder")}
        rest = {name: torch.cat([getattr(s, name) for s in states]) for name in PER_DREAM}
        return DreamState(**past, **rest, seed=states[0].seed)


@dataclass(frozen=True)
class Step:
    """The result of one latent step: `time_stride` frames, their tokens, and −log2 p of outcome and tokens under
    the prior.

    passes: how many passes over the frame the sampler made. outcome: reward and termination; None if the prior
    does not predict them.
    """

    frames: UInt8[Tensor, "b t h w c"]
    tokens: Int[Tensor, "b y x"]
    bits: Float[Tensor, "b"]
    passes: Int[Tensor, "b"]
    outcome: Outcome | None = None

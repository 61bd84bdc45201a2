"""Exact ancestral sampling of one frame's tokens from counter-based noise: four ways to the same tokens.

- `naive`: the whole core at every token. The plain statement of what the others compute.
- `cached`: each activation once, in plain PyTorch (after Ramachandran et al. 2017, arXiv 1704.06001: the context
  once per frame, the vertical stack once per row, the horizontal stack once per token).
- `fused`: the same without an operator's overhead per token: compiled, on the CPU.
- `predictive`: guess the frame, draw all its tokens in one parallel pass, take these as the next guess, until they
  stay (fixed-point iteration on shared noise, Wiggers & Hoogeboom 2020, arXiv 2002.09928).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodel.backends.cpu.packed_weights import available
from worldmodel.prior.categorical import Draw, Given, SamplerConfig
from worldmodel.prior.pixelcnn import SpatialCore
from worldmodel.prior.sampling_loops import cached, naive, predictive


@torch.no_grad()
def sample(
    core: SpatialCore,
    context: Float[Tensor, "b c y x"],
    actions: Float[Tensor, "b a"],
    noise: Float[Tensor, "b n"],
    config: SamplerConfig,
    guess: Int[Tensor, "b y x"] | None = None,
) -> Draw:
    """Draw the tokens of one frame, in raster order, from one uniform number per site.

    `guess` changes no token: the closer it is, the sooner `predictive` is done. The frame before is a good one.
    """
    if guess is None:
        guess = torch.zeros(len(context), *context.shape[2:], dtype=torch.long, device=context.device)
    given = Given(context, actions, noise, guess)
    return SAMPLERS[resolve(config.kind, context.device)](core, given, config)


def resolve(kind: str, device: torch.device) -> str:
    """The sampler that runs there: `auto` decided, and `fused` only where it can be had.

    On a GPU that is `cached`: nobody has measured the others there.
    """
    if kind not in ("auto", "fused"):
        return kind
    return "fused" if device.type == "cpu" and available() else "cached"


def fused(core: SpatialCore, given: Given, config: SamplerConfig) -> Draw:
    """`cached` without an operator's overhead per token."""
    from worldmodel.backends.cpu.prior import draw  # imported where it runs: it needs numba

    return draw(core, given, config)


SAMPLERS = {"naive": naive, "cached": cached, "fused": fused, "predictive": predictive}

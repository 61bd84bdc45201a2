"""The spaces of a dream, and values in and out of it."""

import copy
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from torch import Tensor

from worldmodel.interfaces import Tokenizer
from worldmodel.world import WorldModel

Observation = Literal["frames", "tokens", "latent"]


def observation_space(tokenizer: Tokenizer, obs: Observation) -> spaces.Box:
    """The space of one observation.

    Args:
        obs: "frames", uint8 `h w c` as in the real environment; "tokens", int64 `y x`; or "latent", the
            standardized code vectors of the tokens, float32 `y x d`.

    Raises:
        ValueError: `obs` is another word.
    """
    if obs == "frames":
        return spaces.Box(0, 255, tokenizer.frame_shape, np.uint8)
    if obs == "tokens":
        return spaces.Box(0, tokenizer.codes - 1, tokenizer.grid, np.int64)
    if obs == "latent":
        tokens = torch.zeros(tokenizer.grid, dtype=torch.long, device=tokenizer.device)
        return spaces.Box(-np.inf, np.inf, tuple(tokenizer.embed(tokens).shape), np.float32)
    raise ValueError(f"obs: expected frames, tokens or latent, got {obs!r}")


def action_space(world: WorldModel) -> spaces.Space:
    """The real environment's action space; with a time stride of k, k of its actions at once.

    A world without actions takes the single action 0, which has no effect.
    """
    space, stride = world.info.action_space, world.tokenizer.time_stride
    space = spaces.Discrete(1) if space is None else space  # not `space or`: the truth of a space is its length
    return copy.deepcopy(space) if stride == 1 else batch_space(space, stride)


def as_array(values: Any) -> np.ndarray:
    """The values of a tensor, an array (masked arrays stay masked) or a list."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asanyarray(values)

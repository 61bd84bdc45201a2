"""Counter-based noise: a uniform number for each (seed, dream, step, site), whatever else is computed beside it.

The same key gives the same number on any device, in any batch and in any order, so a dream is reproducible alone or
among many. The mixing function is splitmix64's finalizer (Steele, Lea, Flood 2014, "Fast splittable pseudorandom
number generators").
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from worldmodel.kernels import available

GOLDEN = -7046029254386353131  # 2**64 / golden ratio, as a signed 64-bit number
MIX_1 = -4658895280553007687
MIX_2 = -7723592293110705685


def uniform(seed: int, dreams: Int[Tensor, "b"], steps: Int[Tensor, "b"], sites: int) -> Float[Tensor, "b n"]:
    """float64 numbers in [0, 1): one per dream and site at these steps."""
    if dreams.device.type == "cpu" and available():
        from worldmodel.kernels.functions import uniform as compiled  # imported here: it needs numba

        return compiled(seed, dreams, steps, sites)
    return plain_uniform(seed, dreams, steps, sites)


def plain_uniform(seed: int, dreams: Int[Tensor, "b"], steps: Int[Tensor, "b"], sites: int) -> Float[Tensor, "b n"]:
    """`uniform` in PyTorch, on any device."""
    key = mix(torch.full_like(dreams, seed))
    key = mix(key ^ dreams)
    key = mix(key ^ steps)
    site = torch.arange(sites, device=dreams.device)
    return shift(mix(key[:, None] ^ site), 11).double() * 2.0**-53


def mix(x: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """A bijection of 64-bit numbers that spreads each input bit over all output bits."""
    x = x + GOLDEN
    x = (x ^ shift(x, 30)) * MIX_1
    x = (x ^ shift(x, 27)) * MIX_2
    return x ^ shift(x, 31)


def shift(x: Int[Tensor, "*n"], bits: int) -> Int[Tensor, "*n"]:
    """Logical shift to the right (torch's own repeats the sign)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)

"""Whether kernels can be compiled here, and what is made of a module's weights for them."""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor, nn

T = TypeVar("T")

_PACKED: WeakKeyDictionary[nn.Module, tuple[list[Tensor], list[tuple[int, int]], Any]] = WeakKeyDictionary()


@cache
def available() -> bool:
    """Whether `worldmodel.kernels` can be imported; says once why not."""
    try:
        import worldmodel.kernels  # noqa: F401
    except (ImportError, RuntimeError) as error:  # RuntimeError: numba finds no folder to keep what it compiled
        warnings.warn(f"nothing compiled is to be had, plain PyTorch runs instead, slower: {error}", stacklevel=2)
        return False
    return True


def packed(module: nn.Module, build: Callable[[], T]) -> T:
    """What `build` made of this module's weights; made anew when a weight has changed since."""
    if (found := _PACKED.get(module)) is None or _stamps(found[0]) != found[1]:
        weights = [*module.parameters(), *module.buffers()]
        found = _PACKED[module] = (weights, _stamps(weights), build())
    return found[2]


def _stamps(weights: list[Tensor]) -> list[tuple[int, int]]:
    return [(weight.data_ptr(), weight._version) for weight in weights]

"""What is made of a module's weights (packed copies, recordings) and must be made anew when these change."""

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor, nn

T = TypeVar("T")

_PACKED: WeakKeyDictionary[nn.Module, tuple[list[Tensor], list[tuple[int, int]], Any]] = WeakKeyDictionary()


def packed(module: nn.Module, build: Callable[[], T]) -> T:
    """What `build` packed of this module's weights; packed anew when a weight has changed since."""
    if (found := _PACKED.get(module)) is None or _stamps(found[0]) != found[1]:
        weights = [*module.parameters(), *module.buffers()]
        found = _PACKED[module] = (weights, _stamps(weights), build())
    return found[2]


def _stamps(weights: list[Tensor]) -> list[tuple[int, int]]:
    return [(weight.data_ptr(), weight._version) for weight in weights]

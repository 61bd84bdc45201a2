"""Whether kernels can be compiled here, and what is made of a module's weights for them."""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor, nn

T = TypeVar("T")


@cache
def available() -> bool:
    """Whether `worldmodel.backends.cpu.kernels` can be had; says once why not."""
    try:
        import worldmodel.backends.cpu.kernels  # noqa: F401
    except Exception as error:  # no numba, one that has changed within, or no folder to keep what it compiles
        folder = "; set NUMBA_CACHE_DIR to a folder that can be written" if _without_folder(error) else ""
        message = f"nothing can be compiled here ({error}): dreams take sampler=cached, which is slower{folder}"
        warnings.warn(message, stacklevel=2)
        return False
    return True


def _without_folder(error: Exception) -> bool:
    """Whether numba found no place for what it compiles."""
    return isinstance(error, OSError) or "no locator available" in str(error)


class _Packed:
    """Things made of a module's weights, and what these weights looked like then."""

    def __init__(self, module: nn.Module):
        self.places = [each for part in module.modules() for each in (part._parameters, part._buffers)]
        self.stamps = self.look()
        self.made: dict[str, Any] = {}

    def look(self) -> list[tuple[int, int]]:
        return [_stamp(tensor) for place in self.places for tensor in place.values() if tensor is not None]


def _stamp(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), -1 if tensor.is_inference() else tensor._version


_PACKED: WeakKeyDictionary[nn.Module, _Packed] = WeakKeyDictionary()


def packed(module: nn.Module, name: str, build: Callable[[], T]) -> T:
    """What `build` made of this module's weights under that name; made anew when a weight has changed since.

    Changes in place are seen, and tensors put in the place of others; writes through `.data` and exchanged
    submodules are not: call `forget` after these.
    """
    found = _PACKED.get(module)
    if found is None or found.look() != found.stamps:
        found = _PACKED[module] = _Packed(module)
    if name not in found.made:
        found.made[name] = build()
    return found.made[name]


def forget(module: nn.Module) -> None:
    """Make everything anew that was made of the weights of this module and of its parts."""
    for part in module.modules():
        _PACKED.pop(part, None)

"""Faster ways to run the same networks, one folder for each kind of device.

A back end makes, of a tokenizer and a prior, objects with their streaming methods (`FrameCoder` and `FramePredictor`
of `worldmodel.interfaces`). A network that it does not know runs in plain PyTorch, with one warning.
"""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, Generic, Literal, TypeVar

from torch import nn

from worldmodel.kernels import available

T = TypeVar("T")
BackendKind = Literal["auto", "torch"]


class Compiled(Generic[T]):
    """A module compiled by the back end of its device; compiled again when a weight or a layer has changed.

    Changes are noticed if a tensor is changed in place or replaced, or a submodule is exchanged. Writes through
    `tensor.data` are not: call `forget` after them.
    """

    def __init__(self, module: T, compilers: dict[str, Callable[[], Callable[[Any], T]]]):
        self.module, self.compilers = module, compilers
        self.forget()

    def forget(self) -> None:
        """Compile again at the next call."""
        self._places: list[dict[str, Any]] = []
        self._stamps: list[Any] = []
        self._made: T | None = None

    def __call__(self) -> T:
        """The compiled module, or the module itself if the back end cannot compile it."""
        if self._made is None or [_stamp(value) for place in self._places for value in place.values()] != self._stamps:
            self._made = self._compile()
            parts = self.module.modules() if isinstance(self.module, nn.Module) else ()
            self._places = [each for part in parts for each in (part._parameters, part._buffers, part._modules)]
            self._stamps = [_stamp(value) for place in self._places for value in place.values()]
        return self._made

    def __getstate__(self) -> dict[str, Any]:
        """A copy compiles again."""
        return {"module": self.module, "compilers": self.compilers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.module, self.compilers = state["module"], state["compilers"]
        self.forget()

    def _compile(self) -> T:
        compiler = self.compilers.get(self.module.device.type)  # pyright: ignore[reportAttributeAccessIssue]
        if compiler is None or not available():
            return self.module
        from worldmodel.backends.cpu.program import NotCompilable

        try:
            return compiler()(self.module)
        except NotCompilable as reason:
            _warn(f"{type(self.module).__name__} runs in plain PyTorch, which is slower: {reason}")
            return self.module


def _stamp(value: Any) -> Any:
    """A value that changes when the tensor or submodule does."""
    if isinstance(value, nn.Module) or value is None:
        return id(value), type(value)
    return value.data_ptr(), -1 if value.is_inference() else value._version


def compiled_tokenizer(tokenizer: T, backend: BackendKind) -> Compiled[T]:
    """The tokenizer, to be run by that back end."""
    return Compiled(tokenizer, {"cpu": _cpu_tokenizer} if backend == "auto" else {})


def compiled_prior(prior: T, backend: BackendKind) -> Compiled[T]:
    """The prior, to be run by that back end."""
    return Compiled(prior, {"cpu": _cpu_prior} if backend == "auto" else {})


def _cpu_tokenizer() -> Any:
    from worldmodel.backends.cpu.tokenizer import CompiledTokenizer  # imported where it runs: it needs numba

    return CompiledTokenizer


def _cpu_prior() -> Any:
    from worldmodel.backends.cpu.prior import CompiledPrior  # imported where it runs: it needs numba

    return CompiledPrior


@cache
def _warn(message: str) -> None:
    """Warn once for each message."""
    warnings.warn(message, stacklevel=2)

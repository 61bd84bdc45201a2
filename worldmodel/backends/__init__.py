"""Faster ways to run the same networks, one folder for each kind of device.

A back end makes, of a tokenizer and a prior, objects with their streaming methods (`FrameCoder` and `FramePredictor`
of `worldmodel.interfaces`). A network that it does not know runs in plain PyTorch, with one warning.
"""

import operator
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, Generic, Literal, TypeVar

from torch import Tensor, nn

from worldmodel.kernels import available

T = TypeVar("T")
BackendKind = Literal["auto", "torch"]


class Compiled(Generic[T]):
    """A module as the back end of its device runs it, compiled again after a weight or a layer has changed.

    Changes are noticed if a tensor is changed in place or replaced, a submodule is exchanged, or a hook or a `forward`
    of its own is set. Writes through `tensor.data` are not noticed: call `forget` after them.
    """

    def __init__(self, module: T, compilers: dict[str, Callable[[], Callable[[Any], T]]]):
        self.module, self.compilers = module, compilers
        self.forget()

    def forget(self) -> None:
        """Compile again at the next call."""
        self._version: _Version | None = None
        self._compiled: T | None = None

    def __call__(self) -> T:
        """The compiled module, or the module itself if no back end runs it."""
        if self._compiled is None or self._version is None or self._version.is_outdated():
            self._compiled = self._compile()
            self._version = _Version(self.module)
        return self._compiled

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


class _Version:
    """The parts of a module at one moment; checked at each step of a dream, so every line counts."""

    def __init__(self, module: Any):
        parts = [*module.modules()] if isinstance(module, nn.Module) else []
        self.hooks = [hooks for part in parts for hooks in (part._forward_hooks, part._forward_pre_hooks)]
        self.own = [part.__dict__ for part in parts]
        places = (each for part in parts for each in (part._parameters, part._buffers, part._modules))
        self.places = [place for place in places if place]
        self.values = [value for place in self.places for value in place.values()]
        self.types = [*map(type, self.values)]
        self.tensors = [value for value in self.values if isinstance(value, Tensor)]
        self.counted = [tensor for tensor in self.tensors if not tensor.is_inference()]  # the others have no version
        self.state = self._state()

    def is_outdated(self) -> bool:
        """Whether a tensor or a submodule has changed since."""
        values = [value for place in self.places for value in place.values()]
        same = len(values) == len(self.values) and all(map(operator.is_, values, self.values))
        return not same or [*map(type, values)] != self.types or self._state() != self.state

    def _state(self) -> list[int]:
        """Numbers that change with a tensor, a hook, or a `forward` of a module's own."""
        changing = [*map(len, self.hooks), *("forward" in own for own in self.own)]
        versions = [tensor._version for tensor in self.counted]
        return [tensor.data_ptr() for tensor in self.tensors] + versions + changing


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

"""How each type of layer is written into a `LayerProgram`: one function a type, looked up by the exact type.

A subclass is another type, because its `forward` may differ. A network with a layer that is not known here runs in
plain PyTorch. To compile a layer of your own, register a function for it:

    @compiles(MyLayer)
    def _(program, layer, before, after):
        program.convolution(layer.conv, silu=True)
"""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from worldmodel.backends.cpu.program import LayerProgram, NotCompilable
from worldmodel.nn.causal_conv import CausalConv3d
from worldmodel.prior.core import SpatialCore
from worldmodel.prior.layers import ActionLinear, ContextBlock, GatedLayer, Memory
from worldmodel.prior.outcome import OutcomeHead
from worldmodel.tokenizer.layers import (
    Activation,
    DepthToSpace,
    DepthToTime,
    LinearPatches,
    Residual,
    SpaceToDepth,
    StreamingSequential,
)

Write = Callable[[LayerProgram, Any, nn.Module | None, nn.Module | None], int | None]
"""Writes a layer; gets its neighbors before and after it. Returns the number of dimensions of a past that the program
does not read, where the layer has one."""

WRITERS: dict[type[nn.Module], Write] = {}
PARTS = {  # written as parts of others
    *(nn.Conv2d, nn.Conv3d, nn.Embedding, nn.Linear, nn.ModuleList),
    *(ActionLinear, GatedLayer, LinearPatches, OutcomeHead, SpatialCore, StreamingSequential),
}


def compiles(kind: type[nn.Module]) -> Callable[[Write], Write]:
    """Registers the function below as the writer of layers of this type."""

    def register(write: Write) -> Write:
        WRITERS[kind] = write
        return write

    return register


def check_known(module: nn.Module, kind: type[nn.Module]) -> None:
    """Raises: NotCompilable for a module that is not exactly of this type, or has a part that the kernels do not run:
    of another type, with a `forward` of its own, or with hooks."""
    if type(module) is not kind:
        raise NotCompilable(f"the kernels run a {kind.__name__}, not a {type(module).__name__}")
    for name, part in module.named_modules():
        if name and type(part) not in WRITERS and type(part) not in PARTS:
            raise NotCompilable(f"{name} is a layer of type {type(part).__name__}")
        if "forward" in vars(part) or part._forward_hooks or part._forward_pre_hooks:
            raise NotCompilable(f"{name or kind.__name__} has a forward of its own or hooks")
        if isinstance(part, nn.Conv2d | nn.Conv3d):
            _check_convolution(name, part)


def write_layers(program: LayerProgram, layers: Iterable[nn.Module]) -> LayerProgram:
    """Write these layers one after the other; returns the program."""
    row = [*layers]
    for before, layer, after in zip([None, *row], row, [*row[1:], None], strict=False):
        program.end_layer(WRITERS[type(layer)](program, layer, before, after))
    return program


def _check_convolution(name: str, layer: nn.Conv2d | nn.Conv3d) -> None:
    plain = layer.groups == 1 and set(layer.dilation) == {1} and layer.padding_mode == "zeros"
    if not plain or layer.bias is None:
        raise NotCompilable(f"{name} is a convolution with groups, dilation, other padding or no bias")


@compiles(Activation)
def _activation(program: LayerProgram, layer: Activation, before: Any, after: Any) -> None:
    """Written with the convolution behind it."""
    if type(after) is not CausalConv3d:
        raise NotCompilable("only a convolution may follow an activation")


@compiles(CausalConv3d)
def _convolution(program: LayerProgram, layer: CausalConv3d, before: Any, after: Any) -> None:
    patch = after.size if isinstance(after, DepthToSpace) else 1
    program.convolution(layer, silu=isinstance(before, Activation), patch=patch)


@compiles(Residual)
def _residual(program: LayerProgram, layer: Residual, before: Any, after: Any) -> None:
    program.convolution(layer.inner, silu=True, keep=True)
    program.convolution(layer.outer, silu=True, add=True)


@compiles(SpaceToDepth)
def _space_to_depth(program: LayerProgram, layer: SpaceToDepth, before: Any, after: Any) -> None:
    """The patches are the rows of the program's table."""
    if before is not None:
        raise NotCompilable("patches are folded only by the first layer")


@compiles(DepthToSpace)
def _depth_to_space(program: LayerProgram, layer: DepthToSpace, before: Any, after: Any) -> None:
    if type(before) is not CausalConv3d:
        raise NotCompilable("only a convolution puts channels in the order to unfold")
    program.depth_to_space(layer.size)


@compiles(DepthToTime)
def _depth_to_time(program: LayerProgram, layer: DepthToTime, before: Any, after: Any) -> int:
    program.depth_to_time(layer.stride)
    return 1


@compiles(ContextBlock)
def _context_block(program: LayerProgram, layer: ContextBlock, before: Any, after: Any) -> None:
    program.convolution(layer.inner, silu=True, keep=True)
    program.modulate(layer.film.weight, layer.film.bias)
    program.convolution(layer.outer, silu=True, add=True)


@compiles(Memory)
def _memory(program: LayerProgram, layer: Memory, before: Any, after: Any) -> None:
    program.convolution(layer.in_proj, silu=True, keep=True)
    program.memory()
    program.convolution(layer.out_proj, add=True)

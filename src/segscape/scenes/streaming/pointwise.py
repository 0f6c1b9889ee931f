"""Layers that compute each pixel from the same pixel of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from segscape.geometry.receptive_field import pointwise
from segscape.geometry.window import Patch, Window
from segscape.scenes.streaming.layer import Layer, Operation, UnsupportedLayerError, Values, copied, map_size

aten = torch.ops.aten

_WRITING = {
    *(aten.leaky_relu.default, aten.hardtanh.default, aten.sigmoid.default, aten.silu.default),
    *(aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.cat.default),
}
"""Operations that can write their result into a given tensor, by `out`."""
_IN_PLACE = {aten.relu.default: aten.relu_.default, aten.hardtanh.default: aten.hardtanh_.default}
"""The in-place forms of activations, which overwrite the input."""
_FRESH = {aten.conv2d.default, aten.add.Tensor}
"""Operations that return a new tensor, which its reader may overwrite if it has no other."""
_CHANNELS = 1
"""The channels' axis."""


def elementwise(op: Operation) -> Layer:
    """Build the layer of an activation, or of arithmetic of maps, vectors over the channels and numbers."""
    for node in op.call.all_input_nodes:
        shape = node.meta["val"].shape
        if node not in op.inputs and any(side > 1 for side in shape[-2:]):
            raise UnsupportedLayerError(f"{op.name} adds or multiplies a value of its own at each place of the map")
    return _layer(op)


def per_channel(op: Operation) -> Layer:
    """Build the layer of an operation with parameters (C,): PReLU, and batch normalisation that is not folded."""
    op.only_input()
    return _layer(op)


def across_channels(place: int, default: object = None) -> Callable[[Operation], Layer]:
    """Return the rule for an operation that joins, splits, normalises or reduces channels, and along no other axis.

    Args:
        place: The position of the argument that gives the axes.
        default: The default of that argument.
    """

    def build(op: Operation) -> Layer:
        axes: Any = op.call.args[place] if len(op.call.args) > place else default
        if {axis % 4 for axis in (axes if isinstance(axes, Sequence) else [axes])} != {_CHANNELS}:
            raise UnsupportedLayerError(f"{op.name} goes along the rows or columns of a map")
        return _layer(op)

    return build


def repeat(op: Operation) -> Layer:
    """Build the layer of repeated channels."""
    repeats: Any = op.call.args[1]
    if len(repeats) != 4 or [repeats[0], *repeats[2:]] != [1, 1, 1]:
        raise UnsupportedLayerError("a map is repeated beside or below itself")
    return _layer(op)


def expand(op: Operation) -> Layer:
    """Build the layer of a vector expanded to a map, or of a map of one channel expanded to several channels."""
    height, width = map_size(op.result)
    source = op.call.args[0]
    assert isinstance(source, fx.Node)
    if not op.inputs and any(side > 1 for side in source.meta["val"].shape[-2:]):
        raise UnsupportedLayerError("a value of its own for each row or column is spread over a map")
    channels = op.result.meta["val"].shape[1]

    def compute(patches: Sequence[Patch], window: Window, values: Values) -> Tensor:
        spread = patches[0].values if patches else values[source]
        return spread.expand(1, channels, *window.size)

    return Layer(op.result, op.inputs, pointwise(height), pointwise(width), copied(compute))


def _layer(op: Operation) -> Layer:
    height, width = map_size(op.result)
    if any(map_size(x) != (height, width) for x in op.inputs):
        raise UnsupportedLayerError(f"{op.name} joins maps of different sizes")
    target: Any = op.call.target
    # The input may be overwritten: a map with one reader is not kept for later sweeps, nor is its mean gathered.
    overwrites = target in _IN_PLACE and op.inputs[0].target in _FRESH and len(op.inputs[0].users) == 1

    def arguments(patches: Sequence[Patch], values: Values) -> tuple[Any, Any]:
        given = {x: patch.values for x, patch in zip(op.inputs, patches, strict=True)}
        return map_arg((op.call.args, op.call.kwargs), lambda x: given[x] if x in given else values[x])

    def compute(patches: Sequence[Patch], window: Window, values: Values, out: Tensor | None) -> Tensor:
        args, kwargs = arguments(patches, values)
        if out is None:
            return _IN_PLACE[target](*args, **kwargs) if overwrites else op.run(args, kwargs)
        if target == aten.relu.default:
            # ReLU itself has no form with `out`.
            return aten.clamp_min(*args, 0, out=out)
        return (
            target.overloadpacket(*args, **kwargs, out=out) if target in _WRITING else out.copy_(op.run(args, kwargs))
        )

    return Layer(op.result, op.inputs, pointwise(height), pointwise(width), compute)

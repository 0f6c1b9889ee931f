"""The layers of a traced network that act on maps: what each reads, and how it computes some lines of its result.

A layer is given just the lines that it reads, as far as the map has them. What it pads at the edges of the whole map it
pads there and nowhere else, so its results are those of the whole map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg
from torch.nn import functional as F

from segscape.geometry.interval import Patch, Span, interpolation
from segscape.scenes.streaming.receptive_field import Reads, divided, same, windows

aten = torch.ops.aten
Convolution = Callable[[Tensor, tuple[int, int]], Tensor]
"""From (1, C, h, w), and the rows and columns of zeros at its edges, to (1, K, h', w')."""
Values = Mapping[fx.Node, Any]
"""Tensors of the nodes that are no maps: parameters, and what is computed from means; or, in place of the weight of a
convolution, a `Convolution`."""
_Compute = Callable[[Sequence[Patch], Span, Span, Values], Tensor]


class UnsupportedLayerError(Exception):
    """A layer that no rule here tells how to compute by lines; the message names it."""


@dataclass(frozen=True)
class Layer:
    """A node of the graph that makes a map from maps.

    Attributes:
        node: Its place in the graph.
        inputs: The nodes of the maps that it reads, all alike; none where a vector is spread over the map.
        rows: Which of their rows each row of the result reads.
        cols: The same for the columns.
        compute: From the patches read, the wanted rows and columns, the other values and, if the result is to be
            written there, a tensor (1, C, h, w), the result's values.
        macs: Multiply-accumulates for each pixel of the result.
    """

    node: fx.Node
    inputs: tuple[fx.Node, ...]
    rows: Reads
    cols: Reads
    compute: Callable[[Sequence[Patch], Span, Span, Values, Tensor | None], Tensor] = field(repr=False)
    macs: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the whole map."""
        return map_shape(self.node)


def map_shape(node: fx.Node) -> tuple[int, int, int]:
    """(channels, height, width) of a node's whole map."""
    _, channels, height, width = node.meta["val"].shape
    return channels, height, width


def layer_of(node: fx.Node, inputs: Sequence[fx.Node]) -> Layer:
    """The layer of a node that reads the maps `inputs`.

    Raises:
        UnsupportedLayerError: No rule covers it.
    """
    build = _BUILDERS.get(node.target)
    if build is None or node.meta["val"].dim() != 4:
        raise UnsupportedLayerError(f"{node.target} reads more of a map than a few lines at a time")
    return build(node, tuple(inputs))


_IN_PLACE = {aten.relu.default: aten.relu_.default, aten.hardtanh.default: aten.hardtanh_.default}
"""What overwrites its input, by what does not."""


def _pointwise(node: fx.Node, inputs: tuple[fx.Node, ...]) -> Layer:
    _, height, width = map_shape(node)
    if any(map_shape(x)[1:] != (height, width) for x in inputs):
        raise UnsupportedLayerError(f"{node.target} joins maps of different sizes")
    target: Any = node.target
    # A map just computed that nobody else reads may be overwritten.
    fresh = inputs[0].target in (aten.conv2d.default, aten.add.Tensor) and len(inputs[0].users) == 1
    run: Any = _IN_PLACE.get(target, target) if fresh else target

    def compute(patches: Sequence[Patch], rows: Span, cols: Span, values: Values, out: Tensor | None) -> Tensor:
        given = {x: patch.values for x, patch in zip(inputs, patches, strict=True)}
        args, kwargs = map_arg((node.args, node.kwargs), lambda x: given[x] if x in given else values[x])
        if out is None:
            return run(*args, **kwargs)
        if target == aten.relu.default:
            # ReLU itself has no form that writes elsewhere.
            return aten.clamp_min(*args, 0, out=out)
        return target.overloadpacket(*args, **kwargs, out=out)

    return Layer(node, inputs, same(height), same(width), compute)


def _copied(compute: _Compute) -> Callable[[Sequence[Patch], Span, Span, Values, Tensor | None], Tensor]:
    """For layers that cannot write into a given tensor."""

    def into(patches: Sequence[Patch], rows: Span, cols: Span, values: Values, out: Tensor | None) -> Tensor:
        made = compute(patches, rows, cols, values)
        return made if out is None else out.copy_(made)

    return into


def _spread(node: fx.Node, inputs: tuple[fx.Node, ...]) -> Layer:
    if inputs:
        raise UnsupportedLayerError("a map is repeated")
    _, height, width = map_shape(node)
    vector = node.args[0]
    assert isinstance(vector, fx.Node)

    def compute(patches: Sequence[Patch], rows: Span, cols: Span, values: Values) -> Tensor:
        return values[vector].expand(-1, -1, rows.length, cols.length)

    return Layer(node, (), same(height), same(width), _copied(compute))


def _window(
    node: fx.Node,
    inputs: tuple[fx.Node, ...],
    run: Callable[[Tensor, tuple[int, int], Values], Tensor],
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] = (1, 1),
    outside: float = 0.0,
    macs: int = 0,
) -> Layer:
    """A layer of windows; `run` takes what they cover and the padding, alike at both ends, still to be added."""
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    rows_read, cols_read = (
        windows(made, lines, extent=e, stride=s, padding=p)
        for made, lines, e, s, p in zip(
            map_shape(node)[1:], map_shape(inputs[0])[1:], extent, stride, padding, strict=True
        )
    )

    def compute(patches: Sequence[Patch], rows: Span, cols: Span, values: Values) -> Tensor:
        (patch,) = patches
        ends = [
            _missing(wanted, given, e, s, p)
            for wanted, given, e, s, p in zip(
                (rows, cols), (patch.rows, patch.cols), extent, stride, padding, strict=True
            )
        ]
        x = patch.values
        if any(before != after for before, after in ends):
            (top, bottom), (left, right) = ends
            x, ends = F.pad(x, (left, right, top, bottom), value=outside), [(0, 0), (0, 0)]
        return run(x, (ends[0][0], ends[1][0]), values)

    return Layer(node, inputs, rows_read, cols_read, _copied(compute), macs)


def _missing(wanted: Span, given: Span, extent: int, stride: int, padding: int) -> tuple[int, int]:
    """How many lines of the wanted windows lie before and after those given."""
    first = wanted.start * stride - padding
    last = (wanted.stop - 1) * stride - padding + extent
    return max(given.start - first, 0), max(last - given.stop, 0)


def _conv(node: fx.Node, inputs: tuple[fx.Node, ...]) -> Layer:
    weight, bias, stride, padding, dilation, groups = _filled(node, (None, [1, 1], [0, 0], [1, 1], 1), first=2)
    shape = weight.meta["val"].shape

    def run(x: Tensor, pads: tuple[int, int], values: Values) -> Tensor:
        if callable(values[weight]):
            return values[weight](x, pads)
        return F.conv2d(x, values[weight], None if bias is None else values[bias], stride, pads, dilation, groups)

    return _window(
        node,
        inputs,
        run,
        kernel=shape[2:],
        stride=stride,
        padding=padding,
        dilation=dilation,
        macs=math.prod(shape),
    )


def _avg_pool(node: fx.Node, inputs: tuple[fx.Node, ...]) -> Layer:
    kernel, stride, padding, ceil_mode, count_padding, divisor = _filled(node, ([], [0, 0], False, True, None), first=2)
    if ceil_mode or divisor is not None or (any(padding) and not count_padding):
        raise UnsupportedLayerError("a mean of windows that counts neither all nor none of its padding")
    step = stride or kernel
    return _window(
        node,
        inputs,
        lambda x, pads, _: F.avg_pool2d(x, kernel, step, pads),
        kernel=kernel,
        stride=step,
        padding=padding,
    )


def _max_pool(node: fx.Node, inputs: tuple[fx.Node, ...]) -> Layer:
    kernel, stride, padding, dilation, ceil_mode = _filled(node, ([], [0, 0], [1, 1], False), first=2)
    if ceil_mode:
        raise UnsupportedLayerError("a maximum over windows that reach beyond the padding")
    step = stride or kernel
    return _window(
        node,
        inputs,
        lambda x, pads, _: F.max_pool2d(x, kernel, step, pads, dilation),
        kernel=kernel,
        stride=step,
        padding=padding,
        dilation=dilation,
        outside=-math.inf,
    )


def _filled(node: fx.Node, defaults: Sequence[Any], *, first: int) -> list[Any]:
    """A node's arguments after the map, those left out from the defaults, which begin with argument `first`."""
    assert not node.kwargs
    return [*node.args[1:], *defaults[len(node.args) - first :]]


def _gathered(node: fx.Node, inputs: tuple[fx.Node, ...], rows: Reads, cols: Reads) -> Layer:
    """A layer whose every line is a line of its input."""

    def compute(patches: Sequence[Patch], wanted_rows: Span, wanted_cols: Span, values: Values) -> Tensor:
        (patch,) = patches
        x = _taken(patch.values, 2, rows, wanted_rows, patch.rows)
        return _taken(x, 3, cols, wanted_cols, patch.cols)

    return Layer(node, inputs, rows, cols, _copied(compute))


def _taken(x: Tensor, dim: int, reads: Reads, wanted: Span, given: Span) -> Tensor:
    lines = torch.from_numpy(reads.first[wanted.start : wanted.stop] - given.start)
    if len(lines) == given.length and bool((lines == torch.arange(len(lines))).all()):
        return x
    return x.index_select(dim, lines.to(x.device))


def _nearest(node: fx.Node, inputs: tuple[fx.Node, ...]) -> Layer:
    rows, cols = (
        _nearest_reads(made, lines, scale)
        for made, lines, scale in zip(map_shape(node)[1:], map_shape(inputs[0])[1:], _scales(node, 2), strict=True)
    )
    return _gathered(node, inputs, rows, cols)


def _scales(node: fx.Node, place: int) -> Sequence[float | None]:
    """The factors by which a resize is said to enlarge, if it is: argument `place`."""
    scales: Any = node.args[place]
    return scales or (None, None)


@lru_cache(maxsize=64)
def _nearest_reads(made: int, lines: int, scale: float | None) -> Reads:
    # PyTorch itself tells which line it takes: in float32 the quotient may slip by one.
    every = torch.arange(lines, dtype=torch.float32)[None, None]
    chosen = (
        F.interpolate(every, size=made)
        if scale is None
        else F.interpolate(every, scale_factor=scale, recompute_scale_factor=False)
    )
    source = chosen[0, 0].long().numpy()
    return Reads(source, source, lines)


def _padded(node: fx.Node, inputs: tuple[fx.Node, ...]) -> Layer:
    pads: Any
    mode: Any
    _, pads, mode = node.args[:3]
    if mode not in ("reflect", "replicate"):
        raise UnsupportedLayerError(f"padding of the kind {mode}")
    _, height, width = map_shape(inputs[0])
    left, right, top, bottom = (*pads, 0, 0, 0, 0)[:4]
    return _gathered(node, inputs, _pad_reads(height, top, bottom, mode), _pad_reads(width, left, right, mode))


@lru_cache(maxsize=64)
def _pad_reads(lines: int, before: int, after: int, mode: str) -> Reads:
    every = torch.arange(lines, dtype=torch.float64)[None, None]
    source = F.pad(every, (before, after), mode=mode)[0, 0].long().numpy()
    return Reads(source, source, lines)


def _bilinear(node: fx.Node, inputs: tuple[fx.Node, ...]) -> Layer:
    align_corners = bool(node.args[2])
    dtype = node.meta["val"].dtype
    axes = [
        _Mixture.of(made, lines, dtype, align_corners, scale)
        for made, lines, scale in zip(map_shape(node)[1:], map_shape(inputs[0])[1:], _scales(node, 3), strict=True)
    ]

    def compute(patches: Sequence[Patch], rows: Span, cols: Span, values: Values) -> Tensor:
        (patch,) = patches
        # The columns first: they are still few rows.
        x = axes[1].mixed(patch.values, 3, cols, patch.cols)
        return axes[0].mixed(x, 2, rows, patch.rows)

    return Layer(node, inputs, axes[0].reads, axes[1].reads, _copied(compute))


@dataclass(frozen=True)
class _Mixture:
    """Each line of a resized map as a mixture of two neighbouring lines.

    Attributes:
        reads: The two.
        weight: (n,), the share of the second.
    """

    reads: Reads
    weight: Tensor

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, made: int, lines: int, dtype: torch.dtype, align_corners: bool, scale: float | None) -> _Mixture:
        low, high, weight = interpolation(Span.whole(made), lines, dtype, align_corners=align_corners, scale=scale)
        return cls(Reads(low, high, lines), torch.from_numpy(weight))

    def mixed(self, x: Tensor, dim: int, wanted: Span, given: Span) -> Tensor:
        """The wanted lines of the result along one axis of a patch."""
        chosen = slice(wanted.start, wanted.stop)
        weight = self.weight[chosen].to(x).reshape((-1, 1) if dim == 2 else (-1,))
        low, high = (
            x.index_select(dim, torch.from_numpy(lines[chosen] - given.start).to(x.device))
            for lines in (self.reads.first, self.reads.last)
        )
        return low.lerp_(high, weight)


def _shuffled(node: fx.Node, inputs: tuple[fx.Node, ...]) -> Layer:
    factor = node.args[1]
    assert isinstance(factor, int)
    rows_read, cols_read = (
        divided(made, lines, factor=factor)
        for made, lines in zip(map_shape(node)[1:], map_shape(inputs[0])[1:], strict=True)
    )

    def compute(patches: Sequence[Patch], rows: Span, cols: Span, values: Values) -> Tensor:
        (patch,) = patches
        shuffled = F.pixel_shuffle(patch.values, factor)
        inside = [
            slice(wanted.start - given.start * factor, wanted.stop - given.start * factor)
            for wanted, given in ((rows, patch.rows), (cols, patch.cols))
        ]
        return shuffled[..., inside[0], inside[1]]

    return Layer(node, inputs, rows_read, cols_read, _copied(compute))


def _unshuffled(node: fx.Node, inputs: tuple[fx.Node, ...]) -> Layer:
    factor = node.args[1]
    assert isinstance(factor, int)
    rows_read, cols_read = (
        windows(made, lines, extent=factor, stride=factor, padding=0)
        for made, lines in zip(map_shape(node)[1:], map_shape(inputs[0])[1:], strict=True)
    )

    def compute(patches: Sequence[Patch], rows: Span, cols: Span, values: Values) -> Tensor:
        return F.pixel_unshuffle(patches[0].values, factor)

    return Layer(node, inputs, rows_read, cols_read, _copied(compute))


_BUILDERS: dict[Any, Callable[[fx.Node, tuple[fx.Node, ...]], Layer]] = {
    **dict.fromkeys(
        (
            aten.relu.default,
            aten.leaky_relu.default,
            aten.hardtanh.default,
            aten.sigmoid.default,
            aten.silu.default,
            aten.add.Tensor,
            aten.sub.Tensor,
            aten.mul.Tensor,
            aten.cat.default,
        ),
        _pointwise,
    ),
    aten.expand.default: _spread,
    aten.conv2d.default: _conv,
    aten.avg_pool2d.default: _avg_pool,
    aten.max_pool2d.default: _max_pool,
    aten.upsample_nearest2d.vec: _nearest,
    aten.upsample_bilinear2d.vec: _bilinear,
    aten.pad.default: _padded,
    aten.pixel_shuffle.default: _shuffled,
    aten.pixel_unshuffle.default: _unshuffled,
}

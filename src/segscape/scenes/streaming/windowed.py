"""Layers of windows: convolutions, poolings, transposed convolutions and pixel shuffles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from segscape.geometry.interval import Interval
from segscape.geometry.receptive_field import repeated, strided, transposed
from segscape.geometry.window import Patch, Window
from segscape.scenes.streaming.layer import Layer, Operation, UnsupportedLayerError, Values, copied, map_size


def conv(op: Operation) -> Layer:
    """Build the layer of a convolution, with its padding in pixels or as "same" or "valid"."""
    weight, bias, stride, padding, dilation, groups = op.arguments(None, None, [1, 1], [0, 0], [1, 1], 1)
    shape = weight.meta["val"].shape
    if isinstance(padding, str):
        # PyTorch adds the odd pixel of an even kernel's padding at the end.
        sames = [d * (k - 1) // 2 for k, d in zip(shape[2:], dilation, strict=True)]
        padding = sames if padding == "same" else [0, 0]

    def run(x: Tensor, pads: tuple[int, int], values: Values) -> Tensor:
        if callable(values[weight]):
            # A `Convolution` replaces the weight; see `layer.Values`.
            return values[weight](x, pads)
        return F.conv2d(x, values[weight], None if bias is None else values[bias], stride, pads, dilation, groups)

    return _windowed(
        op, run, kernel=shape[2:], stride=stride, padding=padding, dilation=dilation, macs=math.prod(shape)
    )


def max_pool(op: Operation) -> Layer:
    """Build the layer of a maximum over windows; the last windows may reach beyond the padding."""
    if op.output:
        raise UnsupportedLayerError(f"{op.name} gives the places of its maxima, counted over the whole map")
    kernel, stride, padding, dilation = op.arguments([], [], [0, 0], [1, 1])[:4]
    step = stride or kernel
    return _windowed(
        op,
        lambda x, pads, _: F.max_pool2d(x, kernel, step, pads, dilation),
        kernel=kernel,
        stride=step,
        padding=padding,
        dilation=dilation,
        outside=-math.inf,
    )


def avg_pool(op: Operation) -> Layer:
    """Build the layer of a mean over windows, over all pixels of a window or only those inside the map."""
    kernel, stride, padding, ceil_mode, counts_padding, divisor = op.arguments([], [], [0, 0], False, True, None)
    step = stride or kernel
    if divisor is not None or (not ceil_mode and (counts_padding or not any(padding))):
        return _windowed(
            op,
            lambda x, pads, _: F.avg_pool2d(x, kernel, step, pads, divisor_override=divisor),
            kernel=kernel,
            stride=step,
            padding=padding,
        )
    # The divisors differ near the edges: sums over the windows are divided by the number of pixels that count in each.
    sums = _windowed(
        op,
        lambda x, pads, _: F.avg_pool2d(x, kernel, step, pads, divisor_override=1),
        kernel=kernel,
        stride=step,
        padding=padding,
    )
    counted = [
        _counted(count, size, k, s, p, p if counts_padding else 0)
        for count, size, k, s, p in zip(map_size(op.result), map_size(op.inputs[0]), kernel, step, padding, strict=True)
    ]

    def compute(patches: Sequence[Patch], window: Window, values: Values) -> Tensor:
        rows, cols = (
            count[part.slice].to(patches[0].values)
            for count, part in zip(counted, (window.rows, window.cols), strict=True)
        )
        return sums.compute(patches, window, values, None) / torch.outer(rows, cols)

    return Layer(op.result, op.inputs, sums.rows, sums.cols, copied(compute))


def adaptive_avg_pool(op: Operation) -> Layer:
    """Build the layer of a mean over windows that divide the map evenly."""
    factors = [size / count for size, count in zip(map_size(op.only_input()), map_size(op.result), strict=True)]
    if not all(factor.is_integer() for factor in factors):
        raise UnsupportedLayerError(f"{op.name} takes means over windows of different sizes")
    kernel = [int(factor) for factor in factors]
    return _windowed(op, lambda x, pads, _: F.avg_pool2d(x, kernel), kernel=kernel, stride=kernel, padding=[0, 0])


def conv_transpose(op: Operation) -> Layer:
    """Build the layer of a transposed convolution: each pixel of the input is spread over a window of the result."""
    weight, bias, stride, padding, _, groups, dilation = op.arguments(None, None, [1, 1], [0, 0], [0, 0], 1, [1, 1])
    source = op.only_input()
    shape = weight.meta["val"].shape
    extent = [d * (k - 1) + 1 for k, d in zip(shape[2:], dilation, strict=True)]
    rows, cols = (
        transposed(count, size, extent=e, stride=s, padding=p)
        for count, size, e, s, p in zip(map_size(op.result), map_size(source), extent, stride, padding, strict=True)
    )

    def compute(patches: Sequence[Patch], window: Window, values: Values) -> Tensor:
        (patch,) = patches
        y = F.conv_transpose2d(patch.values, values[weight], None, stride, 0, 0, groups, dilation)
        # The place of the patch's results in the whole map. Padding brings them to the window: it cuts off what lies
        # outside, and rows and columns over which no pixel is spread become 0.
        placed = [
            Interval(given.start * s - p, (given.stop - 1) * s - p + e)
            for given, s, p, e in zip((patch.window.rows, patch.window.cols), stride, padding, extent, strict=True)
        ]
        (top, bottom), (left, right) = (
            (made.start - wanted.start, wanted.stop - made.stop)
            for made, wanted in zip(placed, (window.rows, window.cols), strict=True)
        )
        y = F.pad(y, (left, right, top, bottom))
        return y if bias is None else y + values[bias][:, None, None]

    # Every pixel of the input is multiplied with the whole kernel, and there are stride x stride times fewer of them.
    macs = math.prod(shape) / math.prod(stride)
    return Layer(op.result, op.inputs, rows, cols, copied(compute), macs)


def pixel_shuffle(op: Operation) -> Layer:
    """Build the layer that lays channels out as pixels."""
    factor = op.call.args[1]
    assert isinstance(factor, int)
    rows, cols = (
        repeated(count, size, factor=factor)
        for count, size in zip(map_size(op.result), map_size(op.only_input()), strict=True)
    )

    def compute(patches: Sequence[Patch], window: Window, values: Values) -> Tensor:
        (patch,) = patches
        # Every pixel of the patch becomes factor x factor pixels, of which the window may take a part.
        read = patch.window
        shuffled = Window(read.row * factor, read.col * factor, read.height * factor, read.width * factor)
        return Patch(F.pixel_shuffle(patch.values, factor), shuffled).cut(window).values

    return Layer(op.result, op.inputs, rows, cols, copied(compute))


def pixel_unshuffle(op: Operation) -> Layer:
    """Build the layer that lays pixels out as channels."""
    factor = op.call.args[1]
    assert isinstance(factor, int)
    return _windowed(
        op,
        lambda x, pads, _: F.pixel_unshuffle(x, factor),
        kernel=(factor, factor),
        stride=(factor, factor),
        padding=(0, 0),
    )


def _windowed(
    op: Operation,
    run: Callable[[Tensor, tuple[int, int], Values], Tensor],
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] = (1, 1),
    outside: float = 0.0,
    macs: int = 0,
) -> Layer:
    """Build a layer of windows; `run` takes the values inside the map and the padding (rows, columns) of both ends."""
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    rows, cols = (
        strided(count, size, extent=e, stride=s, padding=p)
        for count, size, e, s, p in zip(
            map_size(op.result), map_size(op.only_input()), extent, stride, padding, strict=True
        )
    )

    def compute(patches: Sequence[Patch], window: Window, values: Values) -> Tensor:
        (patch,) = patches
        ends = [
            _missing(wanted, given, e, s, p)
            for wanted, given, e, s, p in zip(
                (window.rows, window.cols), (patch.window.rows, patch.window.cols), extent, stride, padding, strict=True
            )
        ]
        x = patch.values
        # `run` pads both ends alike; windows at one edge of the map need padding at that end only, which is added here.
        if any(before != after for before, after in ends):
            (top, bottom), (left, right) = ends
            x, ends = F.pad(x, (left, right, top, bottom), value=outside), [(0, 0), (0, 0)]
        return run(x, (ends[0][0], ends[1][0]), values)

    return Layer(op.result, op.inputs, rows, cols, copied(compute), macs)


def _missing(wanted: Interval, given: Interval, extent: int, stride: int, padding: int) -> tuple[int, int]:
    """Return how many positions of the wanted windows lie before and after those given."""
    # The given positions are all that are read within the map, so the others are padding.
    first = wanted.start * stride - padding
    last = (wanted.stop - 1) * stride - padding + extent
    return max(given.start - first, 0), max(last - given.stop, 0)


def _counted(count: int, size: int, kernel: int, stride: int, padding: int, counted_padding: int) -> Tensor:
    """Return for each window how many of its positions count: those inside the map, and some of the padding."""
    first = torch.arange(count) * stride - padding
    return (first + kernel).clamp(max=size + counted_padding) - first.clamp(min=-counted_padding)

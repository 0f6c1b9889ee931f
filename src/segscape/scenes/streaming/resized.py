"""Layers that resize, pad or crop: each row and column of the result is one of the input's, or a mixture of two."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.nn import functional as F

from segscape.geometry.interval import Interval
from segscape.geometry.receptive_field import ReceptiveField
from segscape.geometry.resample import Interpolation, interpolation, resample
from segscape.geometry.window import Patch, Window
from segscape.scenes.streaming.layer import Layer, Operation, UnsupportedLayerError, Values, copied, map_size
from segscape.scenes.streaming.pointwise import across_channels


def bilinear(op: Operation) -> Layer:
    """Build the layer of a bilinear resize, of a map or of means over its parts."""
    align_corners = bool(op.call.args[2])
    source = _source(op)
    mixtures = [
        _mixture(count, size, op.result.meta["val"].dtype, align_corners, scale)
        for count, size, scale in zip(map_size(op.result), map_size(source), _scales(op, 3), strict=True)
    ]
    rows, cols = (
        ReceptiveField(mixture.low, mixture.high, size)
        for mixture, size in zip(mixtures, map_size(source), strict=True)
    )

    def compute(patches: Sequence[Patch], window: Window, values: Values) -> Tensor:
        # Means over bins come without a patch: they are a small map that is always known whole.
        patch = patches[0] if patches else Patch(values[source], Window.whole(map_size(source)))
        by_row, by_col = (
            mixture.part(wanted).relative_to(given)
            for mixture, wanted, given in zip(
                mixtures, (window.rows, window.cols), (patch.window.rows, patch.window.cols), strict=True
            )
        )
        # The columns first: an enlargement has the fewest rows before its rows are resized.
        return resample(resample(patch.values, 3, by_col), 2, by_row)

    return Layer(op.result, op.inputs, rows, cols, copied(compute))


def nearest(op: Operation) -> Layer:
    """Build the layer of a nearest-neighbour resize, of a map or of means over its parts."""
    exact = "exact" in op.name
    rows, cols = (
        _nearest(count, size, scale, exact)
        for count, size, scale in zip(map_size(op.result), map_size(_source(op)), _scales(op, 2), strict=True)
    )
    return _gathered(op, rows, cols)


def padded(op: Operation) -> Layer:
    """Build the layer of a border that mirrors or repeats the edge or holds one value; a negative border crops."""
    pads, mode, value = op.arguments(None, "constant", None)
    height, width = map_size(op.only_input())
    left, right, top, bottom = (*pads, 0, 0, 0, 0)[:4]
    if len(pads) > 4:
        raise UnsupportedLayerError("channels are padded")
    if mode in ("reflect", "replicate"):
        return _gathered(op, _border(height, top, bottom, mode), _border(width, left, right, mode))
    if mode != "constant":
        raise UnsupportedLayerError(f"padding of the kind {mode!r} reads the other edge of the map")
    # The border reads nothing; the clip assigns it the nearest position, so that the window to read lies in the map.
    rows, cols = (
        ReceptiveField(places, places, size)
        for places, size in (
            ((np.arange(count) - before).clip(0, size - 1), size)
            for count, size, before in zip(map_size(op.result), (height, width), (top, left), strict=True)
        )
    )

    def compute(patches: Sequence[Patch], window: Window, values: Values) -> Tensor:
        (patch,) = patches
        # The part of the window that lies within the input, in the input's coordinates; all else is border.
        inside = window.shifted(-top, -left).intersection(Window.whole((height, width)))
        if not (inside.height and inside.width):
            return patch.values.new_full((1, patch.values.shape[1], *window.size), value or 0)
        above, before = inside.row + top - window.row, inside.col + left - window.col
        below, behind = window.height - above - inside.height, window.width - before - inside.width
        return F.pad(patch.cut(inside).values, (before, behind, above, below), value=value or 0)

    return Layer(op.result, op.inputs, rows, cols, copied(compute))


def sliced(op: Operation) -> Layer:
    """Build the layer of a slice: some of the channels, or a part of the rows or columns."""
    # The end of the slice is not used: the size of the result implies it.
    axis, start, _, step = op.arguments(0, None, None, 1)
    if axis % 4 < 2:
        return across_channels(1, 0)(op)
    size = map_size(op.only_input())
    fields = [ReceptiveField(places, places, side) for places, side in ((np.arange(side), side) for side in size)]
    first, side, count = start or 0, size[axis % 4 - 2], map_size(op.result)[axis % 4 - 2]
    places = (first if first >= 0 else side + first) + step * np.arange(count)
    fields[axis % 4 - 2] = ReceptiveField(places, places, side)
    return _gathered(op, *fields)


def _source(op: Operation) -> fx.Node:
    """Return the node that is resized: a map, or a vector with a few rows and columns."""
    if op.inputs:
        return op.only_input()
    source = op.call.args[0]
    assert isinstance(source, fx.Node)
    return source


def _scales(op: Operation, place: int) -> Sequence[float | None]:
    """Return the scale factors of a resize, argument `place`; None for each axis if there are none."""
    scales: Any = op.call.args[place] if len(op.call.args) > place else None
    return scales or (None, None)


def _gathered(op: Operation, rows: ReceptiveField, cols: ReceptiveField) -> Layer:
    """Build a layer each of whose rows and columns is a copy of one of its input's."""
    source = _source(op)

    def compute(patches: Sequence[Patch], window: Window, values: Values) -> Tensor:
        patch = patches[0] if patches else Patch(values[source], Window.whole(map_size(source)))
        x = _taken(patch.values, 2, rows, window.rows, patch.window.rows)
        return _taken(x, 3, cols, window.cols, patch.window.cols)

    return Layer(op.result, op.inputs, rows, cols, copied(compute))


def _taken(x: Tensor, axis: int, read: ReceptiveField, wanted: Interval, given: Interval) -> Tensor:
    places = torch.from_numpy(read.first[wanted.slice] - given.start)
    if len(places) == given.length and bool((places == torch.arange(len(places))).all()):
        # All that is at hand is taken, in order: no copy is needed.
        return x
    return x.index_select(axis, places.to(x.device))


@lru_cache(maxsize=64)
def _mixture(count: int, size: int, dtype: torch.dtype, align_corners: bool, scale: float | None) -> Interpolation:
    return interpolation(Interval(0, count), count, size, dtype, align_corners=align_corners, scale=scale)


@lru_cache(maxsize=64)
def _nearest(count: int, size: int, scale: float | None, exact: bool) -> ReceptiveField:
    # PyTorch itself resizes the positions: recomputed here, a float32 quotient could be rounded to a neighbour.
    places = torch.arange(size, dtype=torch.float32)[None, None]
    mode = "nearest-exact" if exact else "nearest"
    chosen = (
        F.interpolate(places, size=count, mode=mode)
        if scale is None
        else F.interpolate(places, scale_factor=scale, mode=mode, recompute_scale_factor=False)
    )
    source = chosen[0, 0].long().numpy()
    return ReceptiveField(source, source, size)


@lru_cache(maxsize=64)
def _border(size: int, before: int, after: int, mode: str) -> ReceptiveField:
    places = torch.arange(size, dtype=torch.float64)[None, None]
    source = F.pad(places, (before, after), mode=mode)[0, 0].long().numpy()
    return ReceptiveField(source, source, size)

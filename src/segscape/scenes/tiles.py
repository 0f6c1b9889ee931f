"""The places of the tiles of a scene, and how neighbouring tiles are blended."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segscape.geometry.interval import Interval
from segscape.geometry.window import Window

_FADE_DIVISOR = 4
"""Tiles are blended within this part of their overlap, in its middle: a tile is least reliable at its edges."""


class AxisBlend(NamedTuple):
    """Rows (or columns) that come from one tile, or from two that are blended linearly.

    Attributes:
        interval: The rows (or columns).
        tiles: The indices of the tiles along this axis, one or two.
    """

    interval: Interval
    tiles: tuple[int, ...]

    def weights(self, wanted: Interval) -> npt.NDArray[np.float32]:
        """Return the weight of each tile at some of the rows, (tiles, n); the weights of a row are 1 in sum."""
        if len(self.tiles) == 1:
            return np.ones((1, wanted.length), np.float32)
        place = np.arange(wanted.start, wanted.stop, dtype=np.float32) + 0.5
        second = (place - self.interval.start) / self.interval.length
        return np.stack([1 - second, second])


class Blend(NamedTuple):
    """A rectangle of the scene that comes from the same one, two or four tiles.

    Attributes:
        window: The rectangle.
        tiles: The numbers of the tiles.
        fades: The weights of each tile by rows, (window.height,), and by columns, (window.width,).
    """

    window: Window
    tiles: tuple[int, ...]
    fades: tuple[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]], ...]

    @property
    def weights(self) -> Iterator[npt.NDArray[np.float32]]:
        """The weight of each tile at each pixel, (window.height, window.width); those of a pixel are 1 in sum."""
        return (np.outer(rows, cols) for rows, cols in self.fades)


@dataclass(frozen=True)
class TilingPlan:
    """Tiles of one size, evenly spread; a scene of a tile's size is a single tile.

    Attributes:
        size: (height, width) of the scene, in pixels.
        tile: (height, width) of a tile, no larger than the scene.
        overlap: The least number of rows or columns that two neighbouring tiles share, in pixels.
    """

    size: tuple[int, int]
    tile: tuple[int, int]
    overlap: int

    @property
    def count(self) -> int:
        """The number of tiles."""
        return len(self._starts(0)) * len(self._starts(1))

    @cached_property
    def tiles(self) -> list[Window]:
        """The tiles, row by row."""
        rows, cols = (self._starts(axis) for axis in (0, 1))
        return [Window(row, col, *self.tile) for row in rows for col in cols]

    def blends(self, window: Window) -> Iterator[Blend]:
        """Divide a rectangle of the scene, row by row, into parts that come from the same tiles throughout."""
        across = len(self._starts(1))
        cols = list(self._within(1, window.cols))
        for (rows_inside, row), (cols_inside, col) in itertools.product(self._within(0, window.rows), cols):
            pairs = list(
                itertools.product(
                    zip(row.tiles, row.weights(rows_inside), strict=True),
                    zip(col.tiles, col.weights(cols_inside), strict=True),
                )
            )
            yield Blend(
                Window.of(rows_inside, cols_inside),
                tuple(row_tile * across + col_tile for (row_tile, _), (col_tile, _) in pairs),
                tuple((by_row, by_col) for (_, by_row), (_, by_col) in pairs),
            )

    @cached_property
    def _axes(self) -> tuple[list[AxisBlend], list[AxisBlend]]:
        """The blends of all rows, and of all columns."""
        return self._axis_blends(0), self._axis_blends(1)

    def _starts(self, axis: int) -> list[int]:
        side, length = self.size[axis], self.tile[axis]
        if length == side:
            return [0]
        steps = -(-(side - length) // (length - self.overlap))
        return [place * (side - length) // steps for place in range(steps + 1)]

    def _axis_blends(self, axis: int) -> list[AxisBlend]:
        starts, length = self._starts(axis), self.tile[axis]
        fade = self.overlap // _FADE_DIVISOR
        first = 0
        blends = []
        for place, (left, right) in enumerate(itertools.pairwise(starts)):
            # The blended rows start here, centred in the overlap, which reaches from `right` to `left + length`.
            middle = (right + left + length) // 2 - fade // 2
            passage = Interval(middle, middle + fade)
            blends += [AxisBlend(Interval(first, passage.start), (place,)), AxisBlend(passage, (place, place + 1))]
            first = passage.stop
        return [*blends, AxisBlend(Interval(first, self.size[axis]), (len(starts) - 1,))]

    def _within(self, axis: int, wanted: Interval) -> Iterator[tuple[Interval, AxisBlend]]:
        """Yield the blends of some rows (or columns), each with those of the rows that lie in it."""
        blends = self._axes[axis]
        for blend in blends[bisect.bisect_right(blends, wanted.start, key=lambda blend: blend.interval.stop) :]:
            if blend.interval.start >= wanted.stop:
                return
            inside = blend.interval.intersection(wanted)
            if inside.length:
                yield inside, blend

"""Where the tiles of a scene lie, and how one passes over into the next."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segscape.geometry.window import Window

_FADE = 4
"""A tile passes over into the next within this part of what they share, in its middle: least is known at the edges."""


class Zone(NamedTuple):
    """Lines of one axis that come from one tile, or from two between which there is a gradual passage.

    Attributes:
        start: The first line.
        stop: One past the last line.
        tiles: The places of the tiles on this axis, one or two.
    """

    start: int
    stop: int
    tiles: tuple[int, ...]

    def weights(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """(tiles, n), how much each tile counts at the lines from `start` to `stop`; 1 in sum."""
        if len(self.tiles) == 1:
            return np.ones((1, stop - start), np.float32)
        second = (np.arange(start, stop, dtype=np.float32) + 0.5 - self.start) / (self.stop - self.start)
        return np.stack([1 - second, second])


class Cell(NamedTuple):
    """A rectangle of the scene that comes from the same one, two or four tiles.

    Attributes:
        window: The rectangle.
        tiles: The numbers of the tiles.
        fades: For each tile how much it counts by rows, (window.height,), and by columns, (window.width,).
    """

    window: Window
    tiles: tuple[int, ...]
    fades: tuple[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]], ...]

    @property
    def weights(self) -> Iterator[npt.NDArray[np.float32]]:
        """For each tile how much it counts at each pixel, (window.height, window.width), 1 in sum."""
        return (np.outer(rows, cols) for rows, cols in self.fades)


@dataclass(frozen=True)
class TilingPlan:
    """Tiles of one size, evenly spread; a scene of a tile's size is a single tile.

    Attributes:
        size: (height, width) of the scene, in pixels.
        tile: (height, width) of a tile, no larger than the scene.
        overlap: How many lines two neighbouring tiles share at least, in pixels.
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

    def cells(self, window: Window) -> Iterator[Cell]:
        """The cells of a rectangle of the scene, row by row."""
        across = len(self._starts(1))
        cols = list(self._zones(1, window.col, window.stop_col))
        for (top, bottom, row), (left, right, col) in itertools.product(
            self._zones(0, window.row, window.stop_row), cols
        ):
            pairs = list(
                itertools.product(
                    zip(row.tiles, row.weights(top, bottom), strict=True),
                    zip(col.tiles, col.weights(left, right), strict=True),
                )
            )
            yield Cell(
                Window(top, left, bottom - top, right - left),
                tuple(row_tile * across + col_tile for (row_tile, _), (col_tile, _) in pairs),
                tuple((rows, columns) for (_, rows), (_, columns) in pairs),
            )

    @cached_property
    def _axes(self) -> tuple[list[Zone], list[Zone]]:
        """The zones of the rows and of the columns."""
        return self._zones_of(0), self._zones_of(1)

    def _starts(self, axis: int) -> list[int]:
        side, length = self.size[axis], self.tile[axis]
        if length == side:
            return [0]
        steps = -(-(side - length) // (length - self.overlap))
        return [place * (side - length) // steps for place in range(steps + 1)]

    def _zones_of(self, axis: int) -> list[Zone]:
        starts, length = self._starts(axis), self.tile[axis]
        fade = self.overlap // _FADE
        first = 0
        zones = []
        for place, (left, right) in enumerate(itertools.pairwise(starts)):
            middle = (right + left + length) // 2
            passage = Zone(middle - fade // 2, middle - fade // 2 + fade, (place, place + 1))
            zones += [Zone(first, passage.start, (place,)), passage]
            first = passage.stop
        return [*zones, Zone(first, self.size[axis], (len(starts) - 1,))]

    def _zones(self, axis: int, start: int, stop: int) -> Iterator[tuple[int, int, Zone]]:
        """The zones that meet some lines, each with the first and one past the last of those lines inside."""
        zones = self._axes[axis]
        for zone in zones[bisect.bisect_right(zones, start, key=lambda zone: zone.stop) :]:
            if zone.start >= stop:
                return
            inside = max(zone.start, start), min(zone.stop, stop)
            if inside[0] < inside[1]:
                yield *inside, zone

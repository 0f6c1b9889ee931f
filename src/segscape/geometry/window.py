"""Windows: rectangles of a raster or of a map that may be too large for memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from segscape.geometry.interval import Interval

if TYPE_CHECKING:
    from torch import Tensor


class Window(NamedTuple):
    """A rectangle of pixels.

    Attributes:
        row: The first row.
        col: The first column.
        height: The number of rows.
        width: The number of columns.
    """

    row: int
    col: int
    height: int
    width: int

    @classmethod
    def of(cls, rows: Interval, cols: Interval) -> Window:
        """Return the window of some rows and columns."""
        return cls(rows.start, cols.start, rows.length, cols.length)

    @classmethod
    def whole(cls, size: tuple[int, int]) -> Window:
        """Return the window of a whole raster of `size` (height, width)."""
        return cls(0, 0, *size)

    def __str__(self) -> str:
        return f"rows {self.row} to {self.stop_row - 1}, columns {self.col} to {self.stop_col - 1}"

    @property
    def stop_row(self) -> int:
        """The row below the last one."""
        return self.row + self.height

    @property
    def stop_col(self) -> int:
        """The column to the right of the last one."""
        return self.col + self.width

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @property
    def rows(self) -> Interval:
        """Its rows."""
        return Interval(self.row, self.stop_row)

    @property
    def cols(self) -> Interval:
        """Its columns."""
        return Interval(self.col, self.stop_col)

    @property
    def slices(self) -> tuple[slice, slice]:
        """The slices that cut the window out of an array (H, W, ...) of the whole raster."""
        return slice(self.row, self.stop_row), slice(self.col, self.stop_col)

    def intersection(self, other: Window) -> Window:
        """Return the pixels that lie in both; a window with a height or width of 0 where there are none."""
        return Window.of(self.rows.intersection(other.rows), self.cols.intersection(other.cols))

    def union(self, other: Window) -> Window:
        """Return the least window that holds both."""
        return Window.of(self.rows.union(other.rows), self.cols.union(other.cols))

    def shifted(self, rows: int, cols: int) -> Window:
        """Return the window moved down by `rows` and to the right by `cols`."""
        return Window(self.row + rows, self.col + cols, self.height, self.width)

    def relative_to(self, outer: Window) -> Window:
        """Return the same pixels, counted from the upper left corner of another window."""
        return self.shifted(-outer.row, -outer.col)

    def check_inside(self, size: tuple[int, int]) -> None:
        """Refuse a window that is empty or reaches beyond a raster.

        Args:
            size: (height, width) of the raster.

        Raises:
            ValueError: The window is empty or reaches beyond the raster.
        """
        inside_rows = 0 <= self.row < self.stop_row <= size[0]
        if not (inside_rows and 0 <= self.col < self.stop_col <= size[1]):
            raise ValueError(f"{self!r} is empty or reaches beyond the raster's {size[0]} rows and {size[1]} columns.")


class Patch(NamedTuple):
    """The values of a window of a map.

    Attributes:
        values: (1, C, window.height, window.width).
        window: Their place in the whole map.
    """

    values: Tensor
    window: Window

    def cut(self, window: Window) -> Patch:
        """Return the values of a window that lies inside, without a copy."""
        return Patch(self.values[(..., *window.relative_to(self.window).slices)], window)


class Readable(Protocol):
    """A raster of 8-bit values that can be read window by window."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""

    def read(self, window: Window) -> npt.NDArray[np.uint8]:
        """Read a window that lies inside: (h, w) or (h, w, C) uint8."""


def windows(size: tuple[int, int], step: tuple[int, int]) -> Iterator[Window]:
    """Yield windows that cover a raster once, row by row; the last ones of a row or column may be smaller.

    Args:
        size: (height, width) of the raster.
        step: (height, width) of a window, in pixels.
    """
    for row in range(0, size[0], step[0]):
        for col in range(0, size[1], step[1]):
            yield Window(row, col, min(step[0], size[0] - row), min(step[1], size[1] - col))

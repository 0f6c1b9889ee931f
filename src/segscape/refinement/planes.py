"""The images and masks that the stages read: kept once, at the size in which they came."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segscape.geometry.interval import Interpolation, Span, interpolation

_CHUNK_ROWS = 256
ABSENT = -1
"""In a plane's `rows` or `cols`: this line is not kept."""


@dataclass(frozen=True)
class Plane:
    """A map of which only some lines are stored, or some stand for several.

    Attributes:
        values: (h, w, C), any type.
        rows: (H,) int64, for each row of the map where it stands in `values`, or `ABSENT`.
        cols: (W,) int64, the same for the columns.
    """

    values: Tensor
    rows: npt.NDArray[np.int64]
    cols: npt.NDArray[np.int64]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the map."""
        return len(self.rows), len(self.cols)

    @property
    def complete(self) -> bool:
        """Whether no line is absent."""
        return bool((self.rows != ABSENT).all() and (self.cols != ABSENT).all())

    def resized(self, rows: Span, cols: Span, dtype: torch.dtype) -> Tensor:
        """Part of the map resized bilinearly, with `align_corners=True`, to the size that the spans tell.

        Args:
            rows: The wanted rows of the resized map.
            cols: The wanted columns.
            dtype: Of the result.

        Returns:
            (rows, cols, C), in the values' own range.
        """
        return self._mixed(
            interpolation(rows, len(self.rows), dtype), interpolation(cols, len(self.cols), dtype), dtype
        )

    def at(self, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64], dtype: torch.dtype) -> Tensor:
        """The values of some lines of the map, (rows, cols, C)."""
        return _gathered(_gathered(self.values, 0, self.rows[rows]), 1, self.cols[cols]).to(dtype)

    def total(self) -> float:
        """The sum over the map, over its stored lines alone if it is not `complete`, in float64."""
        rows, cols = (
            torch.from_numpy(np.bincount(lines[lines != ABSENT], minlength=stored)).to(self.values.device).double()
            for lines, stored in zip((self.rows, self.cols), self.values.shape[:2], strict=True)
        )
        total = 0.0
        for start in range(0, len(rows), _CHUNK_ROWS):
            chunk = slice(start, start + _CHUNK_ROWS)
            total += float(rows[chunk] @ self.values[chunk].double().sum(-1) @ cols)
        return total

    def _mixed(self, rows: Interpolation, cols: Interpolation, dtype: torch.dtype) -> Tensor:
        # Rows that nobody reads are left behind before the columns are mixed.
        first, last = _extent(self.rows, rows)
        mixed = self.values.narrow(0, first, last - first + 1)
        for dim, stored, lines in ((1, self.cols, cols), (0, self.rows - first, rows)):
            low = _gathered(mixed, dim, stored[lines.low])
            if lines.weight.any():
                low, high = low.to(dtype), _gathered(mixed, dim, stored[lines.high]).to(dtype)
                weight = torch.from_numpy(lines.weight).to(low)
                low = low.lerp_(high, weight.reshape((-1, 1, 1) if dim == 0 else (1, -1, 1)))
            mixed = low
        return mixed.to(dtype)


def _extent(stored: npt.NDArray[np.int64], lines: Interpolation) -> tuple[int, int]:
    """The first and the last stored line that a resize reads."""
    read = stored[np.concatenate([lines.low, lines.high])]
    assert read.min() != ABSENT, "a line is read that was not computed"
    return int(read.min()), int(read.max())


def _gathered(values: Tensor, dim: int, lines: npt.NDArray[np.int64]) -> Tensor:
    return values.index_select(dim, torch.from_numpy(lines).to(values.device))

"""The images and masks that the stages read, each stored once and at its original size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segscape.geometry.resample import Interpolation, interpolation, resample
from segscape.geometry.window import Window

_MOST_CHUNK_ROWS = 256
ABSENT = -1
"""The value in `StoredMap.rows` or `cols` of a row or column that is not stored."""


@dataclass(frozen=True)
class StoredMap:
    """A map of which only some rows and columns are stored, or in which a stored one stands for several.

    Attributes:
        values: (h, w, C), any type.
        rows: (H,) int64, for each row of the map its index in `values`, or `ABSENT`.
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
        """Whether every row and column is stored."""
        return bool((self.rows != ABSENT).all() and (self.cols != ABSENT).all())

    def resized(self, size: tuple[int, int], window: Window, dtype: torch.dtype) -> Tensor:
        """Compute a window of the map resized bilinearly, with `align_corners=True`.

        Args:
            size: (height, width) of the whole resized map.
            window: The wanted part of it.
            dtype: The type of the result.

        Returns:
            (window.height, window.width, C), in the values' own range.
        """
        rows = interpolation(window.rows, size[0], len(self.rows), dtype)
        cols = interpolation(window.cols, size[1], len(self.cols), dtype)
        # Rows that are not read are dropped before the columns are mixed.
        first, last = _stored(self.rows, rows)
        values = self.values.narrow(0, first, last - first + 1)
        for axis, stored, mixture in ((1, self.cols, cols), (0, self.rows - first, rows)):
            if mixture.weight.any():
                values = resample(values, axis, _looked_up(mixture, stored), dtype)
            else:
                values = _gathered(values, axis, stored[mixture.low])
        return values.to(dtype)

    def at(self, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64], dtype: torch.dtype) -> Tensor:
        """Return the values of some rows and columns of the map, (rows, cols, C)."""
        return _gathered(_gathered(self.values, 0, self.rows[rows]), 1, self.cols[cols]).to(dtype)

    def total(self) -> float:
        """Return the sum over the map, in float64; only over the stored rows and columns if it is not `complete`."""
        # Each stored row and column counts as often as it stands for one of the map.
        rows, cols = (
            torch.from_numpy(np.bincount(places[places != ABSENT], minlength=count)).to(self.values.device).double()
            for places, count in zip((self.rows, self.cols), self.values.shape[:2], strict=True)
        )
        total = 0.0
        for start in range(0, len(rows), _MOST_CHUNK_ROWS):
            chunk = slice(start, start + _MOST_CHUNK_ROWS)
            total += float(rows[chunk] @ self.values[chunk].double().sum(-1) @ cols)
        return total


def _stored(places: npt.NDArray[np.int64], mixture: Interpolation) -> tuple[int, int]:
    """Return the first and the last stored row that a resize reads."""
    read = places[np.concatenate([mixture.low, mixture.high])]
    assert read.min() != ABSENT, "a row is read that was not computed"
    return int(read.min()), int(read.max())


def _looked_up(mixture: Interpolation, places: npt.NDArray[np.int64]) -> Interpolation:
    """Return the mixture with the map's rows or columns replaced by the indices at which they are stored."""
    return mixture._replace(low=places[mixture.low], high=places[mixture.high])


def _gathered(values: Tensor, dim: int, places: npt.NDArray[np.int64]) -> Tensor:
    return values.index_select(dim, torch.from_numpy(places).to(values.device))

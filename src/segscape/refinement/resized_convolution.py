"""A 3x3 convolution of a bilinearly resized map, applied before the resize: both are linear, so their order is free.

Each of the nine taps of the convolution's kernel, called shifts here, is a matrix from input to output channels. It is
multiplied with the map at its own size, which has fewer pixels. The nine results are then resized and added, each
shifted by its place in the kernel, columns first. Since a resized row is a weighted sum of two source rows, a row of
the result is a weighted sum of rows of the shifted results, given by a table of places and weights. Where a shift
leaves the resized map, the weights are 0, as is the convolution's padding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from segscape.geometry.interval import Interval
from segscape.geometry.resample import interpolation
from segscape.geometry.window import Patch, Window


class ShiftedRows(NamedTuple):
    """The source rows (or columns) of each wanted row of a resized map and of the two rows beside it.

    Attributes:
        places: (n, 3, 2) int64: for each wanted row the row before it, itself and the row behind it, and for each of
            these two rows of the source, ascending.
        weights: (n, 3, 2), the weights of these rows of the source.
    """

    places: Tensor
    weights: Tensor

    @classmethod
    def of(cls, wanted: Interval, size: int, source: int, dtype: torch.dtype) -> ShiftedRows:
        """Compute the table for some rows of a map that is resized from `source` rows to `size`."""
        inside = wanted.grown(1, size)
        low, high, share = (torch.from_numpy(x) for x in interpolation(inside, size, source, dtype))
        places, weights = torch.stack([low, high], dim=1), torch.stack([1 - share, share], dim=1).to(dtype)
        row = torch.arange(wanted.start - 1, wanted.stop + 1)
        # Rows outside the resized map are the convolution's zero padding: they may read any row, with weight 0.
        nearest = (row - inside.start).clamp(0, inside.length - 1)
        weights = weights[nearest].masked_fill(((row < 0) | (row >= size))[:, None], 0)
        neighbours = torch.arange(wanted.length)[:, None] + torch.arange(3)
        return cls(places[nearest][neighbours], weights[neighbours])

    def part(self, chosen: Interval) -> tuple[ShiftedRows, Interval]:
        """Return the table of some wanted rows, with places counted from the first row read, and the rows read."""
        places = self.places[chosen.slice]
        read = Interval(int(places.min()), int(places.max()) + 1)
        return ShiftedRows(places - read.start, self.weights[chosen.slice]), read


class ResizedConvolution:
    """One branch's part of the fusion's 3x3 convolution, at the convolution's size.

    Args:
        branch: The branch's result.
        weight: (out, in, 3, 3), the convolution's weight for the branch's channels.
        source: (height, width) of the branch's whole map.
        size: (height, width) to which it is resized.
        wanted: The window of the result from which parts are computed.
    """

    def __init__(
        self, branch: Patch, weight: Tensor, *, source: tuple[int, int], size: tuple[int, int], wanted: Window
    ) -> None:
        self._map, self._held = branch.values[0].movedim(0, -1), branch.window
        # The nine shifts side by side: (in, row shift, column shift, out).
        self._weight = weight.permute(1, 2, 3, 0).reshape(weight.shape[1], -1)
        self._out = weight.shape[0]
        self._rows = ShiftedRows.of(wanted.rows, size[0], source[0], weight.dtype)
        self._cols = ShiftedRows.of(wanted.cols, size[1], source[1], weight.dtype)

    def __call__(self, part: Window) -> Tensor:
        """Compute the convolution for a part of `wanted`, counted from its corner: (height * width, out)."""
        by_row, rows = self._rows.part(part.rows)
        by_col, cols = self._cols.part(part.cols)
        source = self._map[Window.of(rows, cols).relative_to(self._held).slices]
        # Read as a table of vectors (out,), the entry of a pixel and a shift is number 9 * pixel + shift.
        shifted = source.reshape(-1, source.shape[-1]) @ self._weight
        return self._mix_rows(self._mix_cols(shifted, source.shape[1], by_col), by_row)

    def _mix_cols(self, shifted: Tensor, width: int, by_col: ShiftedRows) -> Tensor:
        """Interpolate and add along columns: (h * w, shifts of 3x3 * out) -> (h * row shifts, columns, out)."""
        # Each sum stays within one source row and one row shift; `first` is that pair's entry at column 0 and shift 0.
        first = torch.arange(0, len(shifted) * 9, width * 9)[:, None] + torch.tensor([0, 3, 6])
        places = by_col.places * 9 + torch.arange(3)[:, None]
        return self._mix(shifted, first.flatten(), places.flatten(1), by_col.weights.flatten(1))

    def _mix_rows(self, mixed: Tensor, by_row: ShiftedRows) -> Tensor:
        """Interpolate and add along rows: (h * row shifts, columns, out) -> (rows * columns, out)."""
        count = mixed.shape[1]
        places = (by_row.places * 3 + torch.arange(3)[:, None]).flatten(1)[:, None] * count
        # Every column mixes the same rows, each at its own column.
        places = (places + torch.arange(count)[:, None]).flatten(0, 1)
        weights = by_row.weights.flatten(1).repeat_interleave(count, dim=0)
        return self._mix(mixed, torch.zeros(1, dtype=torch.long), places, weights)[0]

    def _mix(self, table: Tensor, first: Tensor, places: Tensor, weights: Tensor) -> Tensor:
        """Compute sums (m, n, out) of k weighted table entries, at places (n, k) counted from each of `first` (m,)."""
        places = first[:, None, None] + places
        # In float32 this is one fused operator, which needs no copy of the gathered entries.
        sums = F.embedding_bag(
            places.flatten(0, 1),
            table.view(-1, self._out),
            mode="sum",
            per_sample_weights=weights.expand(places.shape).flatten(0, 1),
        )
        return sums.view(len(first), -1, self._out)

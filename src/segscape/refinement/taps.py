"""A 3x3 convolution of a resized map without resizing its channels: both are linear, so they change places.

Each of the convolution's nine taps is a matrix, applied where the map has few cells. The results are then resized,
each shifted by its tap, columns first: a line of the wanted map is a sum of lines of the taps' results, and the table
of those lines and their weights is all that a resize is here. Where a shift leaves the wanted map the weights are 0, as
the convolution's padding is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from segscape.geometry.interval import Patch, Span, interpolation


class TapLines(NamedTuple):
    """Which lines of a map three neighbouring lines of the resized map are mixed from.

    Attributes:
        lines: (n, 3, 2) int64, for each wanted line: the line before it, itself and the line behind, two of the source
            for each of them, ascending.
        weights: (n, 3, 2), their shares.
    """

    lines: Tensor
    weights: Tensor

    @classmethod
    def of(cls, wanted: Span, source: int, dtype: torch.dtype) -> TapLines:
        """The table of some lines of a map resized from so many lines."""
        around = Span(wanted.start - 1, wanted.stop + 1, wanted.total)
        inside = wanted.grow(1)
        low, high, share = (torch.from_numpy(x) for x in interpolation(inside, source, dtype))
        lines, weights = torch.stack([low, high], dim=1), torch.stack([1 - share, share], dim=1).to(dtype)
        place = torch.arange(around.start, around.stop)
        missing = (place < 0) | (place >= wanted.total)
        nearest = (place - inside.start).clamp(0, inside.length - 1)
        weights = weights[nearest].masked_fill(missing[:, None], 0)
        neighbours = torch.arange(wanted.length)[:, None] + torch.arange(3)
        return cls(lines[nearest][neighbours], weights[neighbours])

    def part(self, chosen: slice) -> tuple[TapLines, Span]:
        """The table of some of the wanted lines, counted from the first that they read, and the lines they read."""
        lines = self.lines[chosen]
        first, last = int(lines.min()), int(lines.max())
        return TapLines(lines - first, self.weights[chosen]), Span(first, last + 1, last + 1)


class TapResize:
    """One branch's part of the fusion's 3x3 convolution, at the convolution's size.

    Args:
        branch: The branch's result.
        weight: (out, in, 3, 3), of the convolution, for the branch's channels.
        rows: All rows that are wanted.
        cols: All columns that are wanted.
    """

    def __init__(self, branch: Patch, weight: Tensor, rows: Span, cols: Span) -> None:
        self._map = branch.values[0].movedim(0, -1)
        self._origin = branch.rows.start, branch.cols.start
        # The nine taps side by side: (in, row tap, column tap, out).
        self._weight = weight.permute(1, 2, 3, 0).reshape(weight.shape[1], -1)
        self._out = weight.shape[0]
        self._rows = TapLines.of(rows, branch.rows.total, weight.dtype)
        self._cols = TapLines.of(cols, branch.cols.total, weight.dtype)

    def __call__(self, rows: slice, cols: slice) -> Tensor:
        """The convolution's sum for some of the wanted rows and columns: (rows * cols, out)."""
        by_row, read_rows = self._rows.part(rows)
        by_col, read_cols = self._cols.part(cols)
        top, left = read_rows.start - self._origin[0], read_cols.start - self._origin[1]
        source = self._map[top : top + read_rows.length, left : left + read_cols.length]
        taps = source.reshape(-1, source.shape[-1]) @ self._weight
        return self._mix_rows(self._mix_cols(taps, source.shape[1], by_col), by_row)

    def _mix_cols(self, taps: Tensor, width: int, by_col: TapLines) -> Tensor:
        """(h * w, taps of 3x3 * out) -> (h * row taps, columns, out)."""
        first = torch.arange(0, len(taps) * 9, width * 9)[:, None] + torch.tensor([0, 3, 6])
        places = by_col.lines * 9 + torch.arange(3)[:, None]
        return self._mix(taps, first.flatten(), places.flatten(1), by_col.weights.flatten(1))

    def _mix_rows(self, mixed: Tensor, by_row: TapLines) -> Tensor:
        """(h * row taps, columns, out) -> (rows * columns, out)."""
        count = mixed.shape[1]
        places = (by_row.lines * 3 + torch.arange(3)[:, None]).flatten(1)[:, None] * count
        places = (places + torch.arange(count)[:, None]).flatten(0, 1)
        weights = by_row.weights.flatten(1).repeat_interleave(count, dim=0)
        return self._mix(mixed, torch.zeros(1, dtype=torch.long), places, weights)[0]

    def _mix(self, table: Tensor, first: Tensor, places: Tensor, weights: Tensor) -> Tensor:
        """Weighted sums (m, n, out) of entries of a table, at the places (n, k) counted from each of `first` (m,)."""
        places = first[:, None, None] + places
        sums = F.embedding_bag(
            places.flatten(0, 1),
            table.view(-1, self._out),
            mode="sum",
            per_sample_weights=weights.expand(places.shape).flatten(0, 1),
        )
        return sums.view(len(first), -1, self._out)

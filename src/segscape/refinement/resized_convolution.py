"""A 3x3 convolution of a resized map without resizing its channels: both are linear, so they change places.

Each of the nine shifts of the convolution's kernel is a matrix, applied where the map has few pixels. The results are
then resized, each shifted by its place in the kernel, columns first: a row of the wanted map is a sum of rows of the
shifted results, and the table of those rows and their weights is all that a resize is here. Where a shift leaves the
wanted map the weights are 0, as the convolution's padding is.
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
    """Which rows (or columns) of a map three neighbouring ones of the resized map are mixed from.

    Attributes:
        places: (n, 3, 2) int64, for each wanted row: the row before it, itself and the row behind, two rows of the
            source for each of them, ascending.
        weights: (n, 3, 2), their shares.
    """

    places: Tensor
    weights: Tensor

    @classmethod
    def of(cls, wanted: Interval, size: int, source: int, dtype: torch.dtype) -> ShiftedRows:
        """The table of some rows of a map that is resized from `source` rows to `size`."""
        inside = wanted.grown(1, size)
        low, high, share = (torch.from_numpy(x) for x in interpolation(inside, size, source, dtype))
        places, weights = torch.stack([low, high], dim=1), torch.stack([1 - share, share], dim=1).to(dtype)
        row = torch.arange(wanted.start - 1, wanted.stop + 1)
        nearest = (row - inside.start).clamp(0, inside.length - 1)
        weights = weights[nearest].masked_fill(((row < 0) | (row >= size))[:, None], 0)
        neighbours = torch.arange(wanted.length)[:, None] + torch.arange(3)
        return cls(places[nearest][neighbours], weights[neighbours])

    def part(self, chosen: Interval) -> tuple[ShiftedRows, Interval]:
        """The table of some of the wanted rows, counted from the first that they read, and the rows they read."""
        places = self.places[chosen.slice]
        read = Interval(int(places.min()), int(places.max()) + 1)
        return ShiftedRows(places - read.start, self.weights[chosen.slice]), read


class ResizedConvolution:
    """One branch's part of the fusion's 3x3 convolution, at the convolution's size.

    Args:
        branch: The branch's result.
        weight: (out, in, 3, 3), of the convolution, for the branch's channels.
        source: (height, width) of the branch's whole map.
        size: (height, width) that it is resized to.
        wanted: All that is wanted of the result.
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
        """The convolution's sum for a part of what is wanted, counted from its corner: (height * width, out)."""
        by_row, rows = self._rows.part(part.rows)
        by_col, cols = self._cols.part(part.cols)
        source = self._map[Window.of(rows, cols).relative_to(self._held).slices]
        shifted = source.reshape(-1, source.shape[-1]) @ self._weight
        return self._mix_rows(self._mix_cols(shifted, source.shape[1], by_col), by_row)

    def _mix_cols(self, shifted: Tensor, width: int, by_col: ShiftedRows) -> Tensor:
        """(h * w, shifts of 3x3 * out) -> (h * row shifts, columns, out)."""
        first = torch.arange(0, len(shifted) * 9, width * 9)[:, None] + torch.tensor([0, 3, 6])
        places = by_col.places * 9 + torch.arange(3)[:, None]
        return self._mix(shifted, first.flatten(), places.flatten(1), by_col.weights.flatten(1))

    def _mix_rows(self, mixed: Tensor, by_row: ShiftedRows) -> Tensor:
        """(h * row shifts, columns, out) -> (rows * columns, out)."""
        count = mixed.shape[1]
        places = (by_row.places * 3 + torch.arange(3)[:, None]).flatten(1)[:, None] * count
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

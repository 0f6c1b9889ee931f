"""The parts of the implicit decoder that depend on a grid of points alone, not on features."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from segscape.networks.crm import Axis, ImplicitDecoder


class Tables(NamedTuple):
    """The parts of the decoder that depend on its points alone, by row and by column.

    Attributes:
        row_cells: (2, H) int64, the rows of the neighbouring features before and behind each row of points.
        col_cells: (2, W) int64, the same for the columns.
        row_terms: (2, H, width), the part of the first layer that depends on a point's row and on the neighbour's.
        col_terms: (2, W, width), the part that depends on the columns, plus the part that depends on neither.
        row_sides: (2, H), the heights of the areas that weight the neighbours before and behind.
        col_sides: (2, W), the widths of these areas.
    """

    row_cells: Tensor
    col_cells: Tensor
    row_terms: Tensor
    col_terms: Tensor
    row_sides: Tensor
    col_sides: Tensor

    @classmethod
    def of(cls, decoder: ImplicitDecoder, rows: Axis, cols: Axis, dtype: torch.dtype) -> Tables:
        """Compute the tables of a grid.

        The first layer's inputs besides the feature are, in this order, the offsets by row and column, the positions by
        row and column, and the steps by row and column.
        """
        by_place = decoder.first.weight[:, decoder.channels :].T.double()
        row_terms = rows.offsets[..., None] * by_place[0] + rows.positions[:, None] * by_place[2]
        col_terms = cols.offsets[..., None] * by_place[1] + cols.positions[:, None] * by_place[3]
        everywhere = decoder.first.bias + rows.step * by_place[4] + cols.step * by_place[5]
        return cls(
            rows.cells,
            cols.cells,
            row_terms.to(dtype),
            (col_terms + everywhere).to(dtype),
            rows.offsets.flip(0).abs().to(dtype),  # of the rectangle opposite to a neighbour
            cols.offsets.flip(0).abs().to(dtype),
        )

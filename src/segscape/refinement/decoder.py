"""The implicit decoder at the points of one block; decoding and features take all of a stage's time.

Equal to `ImplicitDecoder.decode` up to rounding. Points are decoded in strips of rows whose activations stay in the
cache, for the four neighbours at once. Terms that depend only on a point's row, or only on its column, are computed
once for each row or column.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from segscape.networks.crm import AREA_FLOOR, Axis, ImplicitDecoder
from segscape.refinement.decoder_tables import Tables
from segscape.refinement.workers import share_out

# Points whose activations a thread holds at a time, a KiB each: few enough for the cache of a CPU, or enough to keep a
# GPU busy.
_STRIP_POINTS = {"cpu": 1 << 12, "other": 1 << 16}


def decode_block(
    decoder: ImplicitDecoder, projected: Tensor, rows: Axis, cols: Axis, out: Tensor | None = None
) -> Tensor:
    """Compute the logits at the points of a grid, without gradients.

    Args:
        decoder: Provides the layers, in the precision of `projected`.
        projected: (h, w, width), the features of the block after `decoder.project`; float32, or on the CPU float64.
        rows: The rows of the grid, with offsets and positions in float64 and cells that count from the block's first
            row of features.
        cols: The columns, likewise.
        out: The tensor to write to, (H, W); may be a part of a larger map.

    Returns:
        (H, W), `out` if it was given.
    """
    height, width = rows.cells.shape[1], cols.cells.shape[1]
    if out is None:
        out = torch.empty(height, width, dtype=projected.dtype, device=projected.device)
    tables = Tables.of(decoder, rows, cols, projected.dtype)
    if projected.is_cuda and importlib.util.find_spec("triton") is not None:
        from segscape.refinement.decoder_triton import decode_tiles

        decode_tiles(decoder, projected, tables, out)
        return out
    step = max(_STRIP_POINTS["cpu" if projected.device.type == "cpu" else "other"] // width, 1)
    strips = [slice(start, min(start + step, height)) for start in range(0, height, step)]
    # Each thread has buffers of its own and strips are disjoint rows of `out`, so threads need no lock.
    share_out(lambda: _Strips(decoder, projected, tables, out, step).decode, strips)
    return out


class _Strips:
    """A decoder of strips of a grid's rows, one after another, in the same buffers.

    Args:
        decoder: Provides the layers.
        projected: (h, w, width).
        tables: The tables of the grid.
        out: The tensor to write to, (H, W).
        rows: The maximal number of rows of a strip.
    """

    def __init__(self, decoder: ImplicitDecoder, projected: Tensor, tables: Tables, out: Tensor, rows: int) -> None:
        self._projected, self._tables, self._out = projected, tables, out
        self._layers = [(layer.bias, layer.weight.T) for layer in cast("Iterable[nn.Linear]", decoder.hidden)]
        self._last = decoder.last
        shape = 4 * rows * tables.col_sides.shape[1], projected.shape[-1]
        self._hidden = projected.new_empty(shape), projected.new_empty(shape)
        self._rows = projected.new_empty(rows, *projected.shape[1:])
        self._logits = projected.new_empty(shape[0])

    def decode(self, strip: slice) -> None:
        """Write the logits of the points of some rows."""
        tables, count = self._tables, strip.stop - strip.start
        shape = 2, 2, count, tables.col_sides.shape[1]
        points = 4 * count * shape[-1]
        hidden, spare = (buffer[:points] for buffer in self._hidden)
        self._first(hidden.view(*shape, -1), strip)
        for bias, weight in self._layers:
            torch.addmm(bias, hidden, weight, out=spare)
            # The next layer overwrites this one's input, so two buffers serve all layers.
            hidden, spare = spare.relu_(), hidden
        logits = torch.mv(hidden, self._last.weight[0], out=self._logits[:points]).view(shape)
        areas = tables.row_sides[:, None, strip, None] * tables.col_sides[:, None] + AREA_FLOOR
        out = torch.sum(logits.mul_(areas), dim=(0, 1), out=self._out[strip])
        # The last layer's bias is the same for all four neighbours, so it is added to their weighted mean.
        out.div_(areas.sum(dim=(0, 1))).add_(self._last.bias)

    def _first(self, hidden: Tensor, strip: slice) -> None:
        """Write the first layer, (2, 2, rows, W, width): the neighbour before or behind by row, and by column."""
        tables = self._tables
        taken = self._rows[: hidden.shape[2]]
        for row in (0, 1):
            torch.index_select(self._projected, 0, tables.row_cells[row, strip], out=taken)
            # Before the columns are gathered: once for each feature of a row instead of for each point.
            taken += tables.row_terms[row, strip, None]
            for col in (0, 1):
                torch.index_select(taken, 1, tables.col_cells[col], out=hidden[row, col])
                hidden[row, col] += tables.col_terms[col]
        hidden.relu_()

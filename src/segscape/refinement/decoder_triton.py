"""The implicit decoder as one kernel: everything between the projected features and a logit stays in registers.

Triton comes with PyTorch's builds for CUDA on Linux; import this module only where Triton is installed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from segscape.networks.crm import AREA_FLOOR, ImplicitDecoder
from segscape.refinement.decoder_tables import Tables

_BLOCK = 64


def decode_tiles(decoder: ImplicitDecoder, projected: Tensor, tables: Tables, out: Tensor) -> None:
    """Write the logits at the points of a grid; each program of the kernel computes a block of points of one row.

    Args:
        decoder: Provides the layers; their width is a power of two and at least 16.
        projected: (h, w, width) float32, the features after `decoder.project`.
        tables: The tables of the points.
        out: The tensor to write to, (H, W) float32.
    """
    height, width = out.shape
    hidden = list(cast("Iterable[nn.Linear]", decoder.hidden))
    _decode[(height, triton.cdiv(width, _BLOCK))](
        projected.contiguous(),
        tables.row_cells.int(),
        tables.col_cells.int(),
        tables.row_terms,
        tables.col_terms,
        tables.row_sides.contiguous(),
        tables.col_sides.contiguous(),
        torch.stack([layer.weight.T for layer in hidden]).contiguous(),
        torch.stack([layer.bias for layer in hidden]),
        decoder.last.weight,
        decoder.last.bias,
        out,
        *out.stride(),
        projected.shape[1],
        height,
        width,
        area_floor=AREA_FLOOR,
        layers=len(hidden),
        channels=projected.shape[-1],
        block=_BLOCK,
    )


@triton.jit
def _decode(
    projected: tl.tensor,
    row_cells: tl.tensor,
    col_cells: tl.tensor,
    row_terms: tl.tensor,
    col_terms: tl.tensor,
    row_sides: tl.tensor,
    col_sides: tl.tensor,
    weights: tl.tensor,
    biases: tl.tensor,
    last_weight: tl.tensor,
    last_bias: tl.tensor,
    out: tl.tensor,
    out_row_stride: int,
    out_col_stride: int,
    cells_across: int,
    height: int,
    width: int,
    area_floor: tl.constexpr,
    layers: tl.constexpr,
    channels: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Compute and store the logits of `block` points of row `program_id(0)`."""
    # 64 bits, because offsets into a large map exceed 32.
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * block + tl.arange(0, block)
    inside = cols < width
    channel = tl.arange(0, channels)[None, :]
    square = tl.arange(0, channels)[:, None] * channels + channel
    last = tl.load(last_weight + channel)
    total = tl.zeros((block,), tl.float32)
    area = tl.zeros((block,), tl.float32)
    for row_neighbour in tl.static_range(2):
        cell_row = tl.load(row_cells + row_neighbour * height + row).to(tl.int64)
        row_term = tl.load(row_terms + (row_neighbour * height + row) * channels + channel)
        row_side = tl.load(row_sides + row_neighbour * height + row)
        for col_neighbour in tl.static_range(2):
            place = col_neighbour * width + cols
            # Points beyond the row's end read column 0, so that every load stays inside; their logits are not stored.
            cell = cell_row * cells_across + tl.load(col_cells + place, mask=inside, other=0)
            hidden = tl.load(projected + cell[:, None] * channels + channel) + row_term
            hidden += tl.load(col_terms + place[:, None] * channels + channel, mask=inside[:, None], other=0.0)
            hidden = tl.maximum(hidden, 0.0)
            for layer in tl.static_range(layers):
                weight = tl.load(weights + layer * channels * channels + square)
                # Not in TF32: the rounding of its ten-bit mantissa would be visible in the mask.
                hidden = tl.dot(hidden, weight, input_precision="ieee") + tl.load(biases + layer * channels + channel)
                hidden = tl.maximum(hidden, 0.0)
            # The sides already are those of the rectangle opposite to the neighbour, see `Tables`.
            opposite = row_side * tl.load(col_sides + place, mask=inside, other=0.0) + area_floor
            total += tl.sum(hidden * last, axis=1) * opposite
            area += opposite
    logits = total / area + tl.load(last_bias)
    tl.store(out + row * out_row_stride + cols * out_col_stride, logits, mask=inside)

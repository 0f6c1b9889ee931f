"""Upsampling on CUDA devices, as one kernel: a pixel's logits are interpolated and compared in registers.

Triton comes with PyTorch's builds for CUDA on Linux; import this module only where it does.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from segscape.geometry.resample import Interpolation

# Neighbouring pixels of a row that a program computes; most of them share their four logits.
_BLOCK = 256


def argmax(logits: Tensor, rows: Interpolation, cols: Interpolation) -> Tensor:
    """Compute the class of the largest logit at every pixel.

    Args:
        logits: (K, h, w), floating point, K at most 256, of any strides.
        rows: The rows of the labels.
        cols: Their columns.

    Returns:
        (H, W) uint8, on the logits' device.
    """
    return _fill(logits, rows, cols, confidence=False)


def confidence(logits: Tensor, rows: Interpolation, cols: Interpolation) -> Tensor:
    """Compute the largest softmax probability at every pixel.

    Args:
        logits: As for `argmax`.
        rows: The rows of the labels.
        cols: Their columns.

    Returns:
        (H, W) uint8, 255 times the probability, rounded; on the logits' device.
    """
    return _fill(logits, rows, cols, confidence=True)


def _fill(logits: Tensor, rows: Interpolation, cols: Interpolation, *, confidence: bool) -> Tensor:
    height, width = len(rows.low), len(cols.low)
    filled = torch.empty(height, width, dtype=torch.uint8, device=logits.device)
    # The second dimension of a grid takes no more than 65,535 programs; the first takes 2^31.
    across = triton.cdiv(width, _BLOCK)
    _fill_pixels[(height * across,)](
        logits,
        *logits.stride(),
        *(torch.from_numpy(part).to(logits.device) for part in (*rows, *cols)),
        filled,
        logits.shape[0],
        width,
        across,
        confidence=confidence,
        block=_BLOCK,
    )
    return filled


@triton.jit
def _fill_pixels(
    logits: tl.tensor,
    class_stride: int,
    row_stride: int,
    col_stride: int,
    row_low: tl.tensor,
    row_high: tl.tensor,
    row_weight: tl.tensor,
    col_low: tl.tensor,
    col_high: tl.tensor,
    col_weight: tl.tensor,
    filled: tl.tensor,
    num_classes: int,
    width: int,
    across: int,
    confidence: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Write `block` pixels of a row. Offsets have 64 bits: logits and labels may have more than 2^31 elements."""
    row = (tl.program_id(0) // across).to(tl.int64)
    cols = (tl.program_id(0) % across) * block + tl.arange(0, block)
    # The last program of a row has pixels past its end: they are masked, neither loaded nor stored.
    inside = cols < width
    low_row = tl.load(row_low + row) * row_stride
    high_row = tl.load(row_high + row) * row_stride
    low_col = tl.load(col_low + cols, mask=inside, other=0) * col_stride
    high_col = tl.load(col_high + cols, mask=inside, other=0) * col_stride
    down = tl.load(row_weight + row)
    right = tl.load(col_weight + cols, mask=inside, other=0.0)
    best = tl.full((block,), float("-inf"), tl.float32)
    winner = tl.zeros((block,), tl.int32)
    total = tl.zeros((block,), tl.float32)
    for index in range(num_classes):
        top_left = tl.load(logits + low_row + low_col, mask=inside, other=0.0).to(tl.float32)
        top_right = tl.load(logits + low_row + high_col, mask=inside, other=0.0).to(tl.float32)
        bottom_left = tl.load(logits + high_row + low_col, mask=inside, other=0.0).to(tl.float32)
        bottom_right = tl.load(logits + high_row + high_col, mask=inside, other=0.0).to(tl.float32)
        top = top_left + right * (top_right - top_left)
        bottom = bottom_left + right * (bottom_right - bottom_left)
        value = top + down * (bottom - top)
        if confidence:
            # Softmax in one pass: when a larger logit comes up, the sum so far is rescaled to be relative to it.
            highest = tl.maximum(best, value)
            total = total * tl.exp(best - highest) + tl.exp(value - highest)
            best = highest
        else:
            # Only a larger logit replaces the winner, so the first of equal classes stays.
            winner = tl.where(value > best, index, winner)
            best = tl.maximum(best, value)
        logits += class_stride
    # The sum is relative to the largest probability, which therefore is 1 / total.
    result = tl.floor(255.0 / total + 0.5) if confidence else winner
    tl.store(filled + row * width + cols, result.to(tl.uint8), mask=inside)

"""Upsampling in plain PyTorch, by blocks of rows that fit into a device's cache; on any device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from segscape.geometry.interval import Interval
from segscape.geometry.resample import Interpolation, resample, resample_map

# Bytes of upsampled scores held at a time: within a core's share of the cache, large enough for a GPU to be busy.
_BLOCK_BYTES = {"cpu": 2 * 2**20, "cuda": 256 * 2**20}


def argmax(logits: Tensor, rows: Interpolation, cols: Interpolation) -> Tensor:
    """Compute the class of the largest logit at every pixel, on CPUs to the bit as `cells.argmax` does.

    Args:
        logits: (K, h, w), floating point.
        rows: The rows of the labels.
        cols: Their columns.

    Returns:
        (H, W) uint8.
    """
    # Along the columns first, as `cells` does, and for all source rows at once.
    logits = logits.float()
    wide = resample(logits, 2, cols)
    needed = _needed(logits).index_select(2, torch.from_numpy(cols.low).to(logits.device))

    def of_block(block: Interval) -> Tensor:
        part = rows.part(block)
        kept = needed.index_select(1, torch.from_numpy(part.low).to(logits.device))
        return resample(wide, 1, part).masked_fill_(~kept, -torch.inf).max(dim=0).indices

    return by_row_blocks(len(rows.low), len(cols.low) * logits.shape[0], of_block, device=logits.device)


def _needed(logits: Tensor) -> Tensor:
    """Find the classes that may be best within a cell, the pixels between four neighbouring logits.

    A class that the best one of a corner equals or beats at all four corners cannot be, except by rounding.

    Args:
        logits: (K, h, w) float32.

    Returns:
        (K, h, w) bool, for the cell to the lower right of each logit; those at the last row and column have no extent.
    """
    down, right = (torch.arange(1, side + 1, device=logits.device).clamp(max=side - 1) for side in logits.shape[1:])
    corners = [logits, logits[:, :, right], logits[:, down], logits[:, down][:, :, right]]
    classes = torch.arange(len(logits), device=logits.device)[:, None, None]
    needed = torch.ones_like(logits, dtype=torch.bool)
    for corner in corners:
        winner = corner.max(dim=0).indices[None]
        beaten = classes != winner
        for values in corners:
            beaten &= values <= values.gather(0, winner)
        needed &= ~beaten
    return needed


def confidence(logits: Tensor, rows: Interpolation, cols: Interpolation) -> Tensor:
    """Compute the largest softmax probability at every pixel.

    Args:
        logits: (K, h, w), floating point.
        rows: The rows of the labels.
        cols: Their columns.

    Returns:
        (H, W) uint8, 255 times the probability, rounded.
    """

    def of_block(block: Interval) -> Tensor:
        mixed = resample_map(logits, rows.part(block), cols)
        return (255 * (mixed.max(dim=0).values - mixed.logsumexp(dim=0)).exp()).round()

    return by_row_blocks(len(rows.low), len(cols.low) * logits.shape[0], of_block, device=logits.device)


def by_row_blocks(
    height: int, row_values: int, of_block: Callable[[Interval], Tensor], *, device: torch.device
) -> Tensor:
    """Compute a map by blocks of rows.

    Args:
        height: The height of the map.
        row_values: The number of values, of four bytes each, that are held for each row of a block.
        of_block: Computes the rows of a block, (n, W), whole numbers from 0 to 255.
        device: The device on which the values are held.

    Returns:
        (height, W) uint8.
    """
    budget = _BLOCK_BYTES.get(device.type, _BLOCK_BYTES["cpu"])
    step = max(budget // (4 * row_values), 1)
    starts = range(0, height, step)
    return torch.cat([of_block(Interval(start, min(start + step, height))).to(torch.uint8) for start in starts])

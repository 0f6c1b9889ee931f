"""Upsampling on CPUs, cell by cell; a cell is the pixels between four neighbouring logits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segscape.geometry.resample import Interpolation
from segscape.runtime.machine_code import say_if_compiled_now
from segscape.segmentation.upsampling.cell_kernels import SIDE, Tiles, fill_confidence, fill_labels

say_if_compiled_now(fill_labels)

# Below this number of pixels starting threads takes longer than the work.
_SMALL = 1 << 18
# Shares of the work per thread: several, so that no thread waits long for one whose tiles are difficult.
_SHARES = 4


def argmax(logits: Tensor, rows: Interpolation, cols: Interpolation) -> Tensor:
    """Compute the class of the largest logit at every pixel.

    Args:
        logits: (K, h, w), floating point, K at most 256; not copied if they are float32 and channels-last.
        rows: The rows of the labels.
        cols: Their columns.

    Returns:
        (H, W) uint8.
    """
    return _fill(fill_labels, logits, rows, cols)


def confidence(logits: Tensor, rows: Interpolation, cols: Interpolation) -> Tensor:
    """Compute the largest softmax probability at every pixel.

    Args:
        logits: As for `argmax`.
        rows: The rows of the labels.
        cols: Their columns.

    Returns:
        (H, W) uint8, 255 times the probability, rounded.
    """
    return _fill(fill_confidence, logits, rows, cols)


def _fill(
    kernel: Callable[[npt.NDArray[np.float32], Tiles, Tiles, int, int, npt.NDArray[np.uint8]], None],
    logits: Tensor,
    rows: Interpolation,
    cols: Interpolation,
) -> Tensor:
    """Fill a map in shares of its rows of tiles, with as many threads as PyTorch uses."""
    values, row_tiles, col_tiles = _channels_last(logits), _tiles(rows, 0), _tiles(cols, 1)
    filled = np.empty((len(rows.low), len(cols.low)), np.uint8)
    count, threads = len(row_tiles.low), torch.get_num_threads()
    shares = min(_SHARES * threads, count)

    def fill(share: tuple[int, int]) -> None:
        kernel(values, row_tiles, col_tiles, *share, filled)

    if filled.size < _SMALL:
        fill((0, count))
        return torch.from_numpy(filled)
    # Python's threads, as the kernels release the GIL: Numba's own must not be used by two callers at once, nor after a
    # fork. The shares are rows of their own, so no two threads write to the same place.
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, pairwise(count * share // shares for share in range(shares + 1))))
    return torch.from_numpy(filled)


def _tiles(lines: Interpolation, axis: int) -> Tiles:
    """Cut the rows (axis 0) or columns (axis 1) of a map into tiles."""
    # `low` is in ascending order, so its first occurrence is the first row of the cell.
    in_cell = np.arange(len(lines.low)) - np.searchsorted(lines.low, lines.low)
    starts = np.flatnonzero(in_cell % SIDE == 0)
    # Every tile gets SIDE weights; those beyond a shorter tile are of pixels that the kernels compute but do not write.
    places = np.minimum(starts[:, None] + np.arange(SIDE), len(lines.low) - 1)
    # The weight of a row is the same in all columns of a tile, that of a column in all of its rows.
    weight = np.expand_dims(lines.weight[places], 2 - axis)
    return Tiles(
        lines.low[starts],
        lines.high[starts],
        np.append(starts, len(lines.low)),
        np.broadcast_to(weight, (len(starts), SIDE, SIDE)).reshape(len(starts), -1),
    )


def _channels_last(logits: Tensor) -> npt.NDArray[np.float32]:
    """Return the logits as (h, w, K) float32, contiguous."""
    values = logits.float().permute(1, 2, 0)
    if not values.is_contiguous():
        # PyTorch transposes two dimensions several times faster than it permutes three.
        values = logits.float().flatten(1).t().contiguous().view(values.shape)
    return values.numpy()

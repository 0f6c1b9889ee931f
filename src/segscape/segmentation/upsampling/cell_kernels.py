"""Kernels that compute the pixels of a cell, compiled by Numba when they are first used.

A cell is the pixels between four neighbouring logits, its corners. Bilinear interpolation within it is a convex
combination of the corners. Hence a class that is best at all four is best everywhere between them, and a class that
another one equals or beats at all four is never needed. The remaining classes, mostly two in a few cells, are compared
pixel by pixel, a tile at a time, so that the processor works on several pixels at once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segscape.runtime.machine_code import compiled

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]

SIDE = 8
"""The most rows, and the most columns, of a tile: as many numbers as processors compute at once."""

# A class whose logit lies further than this below the best one's does not change the confidence.
_NEGLIGIBLE = np.float32(20)

# If the other classes' probabilities, divided by the best one's, sum to less, 255 times the best one rounds to 255.
_CERTAIN = 0.5 / 254.5


class Tiles(NamedTuple):
    """The rows or the columns of a map, cut into tiles of at most `SIDE` neighbouring ones within a cell.

    Attributes:
        low: (n,), the source row or column before each tile.
        high: (n,), the source row or column after it.
        edges: (n + 1,), the first row or column of each tile, and one past the last.
        weight: (n, SIDE * SIDE), the weight of `high` for every pixel of a tile, row by row.
    """

    low: Indices
    high: Indices
    edges: Indices
    weight: Floats


@compiled
def fill_labels(logits: Floats, rows: Tiles, cols: Tiles, first: int, stop: int, labels: Bytes) -> None:
    """Write the best class at every pixel of some rows of tiles.

    Args:
        logits: (h, w, K), contiguous.
        rows: The rows of the map.
        cols: Its columns.
        first: The first row of tiles to be written.
        stop: One past the last.
        labels: (H, W), the map to write to.
    """
    width, num_classes = logits.shape[1:]
    above, below = np.empty(width, np.int64), np.empty(width, np.int64)
    kept, corners = np.empty(num_classes, np.int32), np.empty((num_classes, 4), np.float32)
    best, winner = np.empty(SIDE * SIDE, np.float32), np.empty(SIDE * SIDE, np.int32)
    line_above = line_below = -1
    for row in range(first, stop):
        low, high = rows.low[row], rows.high[row]
        # The best classes of two source rows are kept: a cell may have several rows of tiles, and the source row below
        # one cell is the one above the next.
        if low != line_above:
            above, below = below, above
            if low != line_below:
                _find_best(logits[low], cols, above)
            _find_best(logits[high], cols, below)
            line_above, line_below = low, high
        strip = labels[rows.edges[row] : rows.edges[row + 1]]
        col = 0
        while col < len(cols.low):
            end = _end_of_agreement(above, below, cols, col)
            if end > col:
                strip[:, cols.edges[col] : cols.edges[end]] = above[cols.low[col]]
                col = end
                continue
            left, right = cols.low[col], cols.high[col]
            winners = (above[left], above[right], below[left], below[right])
            around = (logits[low, left], logits[low, right], logits[high, left], logits[high, right])
            count = _keep_needed(around, winners, kept, corners)
            _label_tile(corners[:count], kept, rows.weight[row], cols.weight[col], best, winner)
            # The tile may have fewer rows or columns than SIDE; the pixels computed beyond them are dropped.
            for pixel_row in range(strip.shape[0]):
                for pixel in range(cols.edges[col + 1] - cols.edges[col]):
                    strip[pixel_row, cols.edges[col] + pixel] = winner[pixel_row * SIDE + pixel]
            col += 1


@compiled
def _find_best(scores: Floats, cols: Tiles, best: Indices) -> None:
    """Find the best class of every source pixel of a row, (w, K), that the columns need."""
    for col in range(cols.low[0], cols.high[-1] + 1):
        winner, top = 0, scores[col, 0]
        for index in range(1, scores.shape[1]):
            if scores[col, index] > top:
                winner, top = index, scores[col, index]
        best[col] = winner


@compiled
def _end_of_agreement(above: Indices, below: Indices, cols: Tiles, start: int) -> int:
    """Return one past the last of the tiles from `start` on whose corners all have the first corner's best class."""
    best, end = above[cols.low[start]], start
    while (
        end < len(cols.low)
        and above[cols.low[end]] == best
        and above[cols.high[end]] == best
        and below[cols.low[end]] == best
        and below[cols.high[end]] == best
    ):
        end += 1
    return end


@compiled
def _keep_needed(
    around: tuple[Floats, Floats, Floats, Floats], winners: tuple[int, int, int, int], kept: Labels, corners: Floats
) -> int:
    """Gather the classes, with their logits, that no winner of a corner matches at all corners; return their number."""
    # Two winners that discard each other would be equal at all corners, where only the first of them would have won. So
    # at least one class is kept.
    a, b, c, d = around
    count = 0
    for index in range(len(a)):
        needed = True
        for winner in winners:
            if (
                index != winner
                and a[index] <= a[winner]
                and b[index] <= b[winner]
                and c[index] <= c[winner]
                and d[index] <= d[winner]
            ):
                needed = False
                break
        if needed:
            kept[count] = index
            for corner in range(4):
                corners[count, corner] = around[corner][index]
            count += 1
    return count


@compiled
def _label_tile(
    corners: Floats, kept: Labels, row_weight: Floats, col_weight: Floats, best: Floats, winner: Labels
) -> None:
    """Find the best of some classes at every pixel of a tile, the first of equal ones."""
    best[:] = -np.inf
    winner[:] = kept[0]
    for index in range(len(corners)):
        a, c = corners[index, 0], corners[index, 2]
        rise_above, rise_below = corners[index, 1] - a, corners[index, 3] - c
        candidate = kept[index]
        # Selections instead of branches let the compiler vectorise the loop.
        for pixel in range(SIDE * SIDE):
            top = a + col_weight[pixel] * rise_above
            bottom = c + col_weight[pixel] * rise_below
            value = top + row_weight[pixel] * (bottom - top)
            better = value > best[pixel]
            best[pixel] = value if better else best[pixel]
            winner[pixel] = candidate if better else winner[pixel]


@compiled
def fill_confidence(logits: Floats, rows: Tiles, cols: Tiles, first: int, stop: int, confidence: Bytes) -> None:
    """Write 255 times the largest softmax probability at every pixel of some rows of tiles.

    Args:
        logits: (h, w, K), contiguous.
        rows: The rows of the map.
        cols: Its columns.
        first: The first row of tiles to be written.
        stop: One past the last.
        confidence: (H, W), the map to write to.
    """
    corners = np.empty((logits.shape[2], 4), np.float32)
    best, total = np.empty(SIDE * SIDE, np.float32), np.empty(SIDE * SIDE, np.float32)
    for row in range(first, stop):
        low, high = rows.low[row], rows.high[row]
        strip = confidence[rows.edges[row] : rows.edges[row + 1]]
        for col in range(len(cols.low)):
            left, right = cols.low[col], cols.high[col]
            around = (logits[low, left], logits[low, right], logits[high, left], logits[high, right])
            count, certain = _keep_probable(around, corners)
            if certain:
                strip[:, cols.edges[col] : cols.edges[col + 1]] = 255
                continue
            _sum_tile(corners[:count], rows.weight[row], cols.weight[col], best, total)
            for pixel_row in range(strip.shape[0]):
                for pixel in range(cols.edges[col + 1] - cols.edges[col]):
                    # `total` is relative to the largest probability, which therefore is 1 / total.
                    share = np.float32(255) / total[pixel_row * SIDE + pixel]
                    strip[pixel_row, cols.edges[col] + pixel] = np.uint8(share + np.float32(0.5))


@compiled
def _keep_probable(around: tuple[Floats, Floats, Floats, Floats], corners: Floats) -> tuple[int, bool]:
    """Gather the classes that count somewhere in the cell; return their number, and whether all confidences are 255."""
    a, b, c, d = around
    # Interpolated logits never fall below the least corner, so `best` reaches at least `floor` everywhere in the cell.
    floor, best = np.float32(-np.inf), 0
    for index in range(len(a)):
        least = min(min(a[index], b[index]), min(c[index], d[index]))
        if least > floor:
            floor, best = least, index
    count, others = 0, 0.0
    for index in range(len(a)):
        if max(max(a[index], b[index]), max(c[index], d[index])) < floor - _NEGLIGIBLE:
            continue
        for corner in range(4):
            corners[count, corner] = around[corner][index]
        count += 1
        if index != best and others < _CERTAIN:
            # The lead is least at a corner, so `exp(-lead)` bounds the ratio to the best probability in the whole cell.
            lead = min(min(a[best] - a[index], b[best] - b[index]), min(c[best] - c[index], d[best] - d[index]))
            others += math.exp(-lead)
    return count, others < _CERTAIN


@compiled
def _sum_tile(corners: Floats, row_weight: Floats, col_weight: Floats, best: Floats, total: Floats) -> None:
    """Sum the probabilities of some classes at every pixel of a tile, each divided by the largest one."""
    best[:] = -np.inf
    total[:] = 0
    # The largest logits first: relative to them no exponent is positive, as `_exp` requires.
    for index in range(len(corners)):
        a, c = corners[index, 0], corners[index, 2]
        rise_above, rise_below = corners[index, 1] - a, corners[index, 3] - c
        for pixel in range(SIDE * SIDE):
            top = a + col_weight[pixel] * rise_above
            bottom = c + col_weight[pixel] * rise_below
            best[pixel] = max(best[pixel], top + row_weight[pixel] * (bottom - top))
    for index in range(len(corners)):
        a, c = corners[index, 0], corners[index, 2]
        rise_above, rise_below = corners[index, 1] - a, corners[index, 3] - c
        for pixel in range(SIDE * SIDE):
            top = a + col_weight[pixel] * rise_above
            bottom = c + col_weight[pixel] * rise_below
            total[pixel] += _exp(top + row_weight[pixel] * (bottom - top) - best[pixel])


@compiled
def _exp(value: np.float32) -> np.float32:
    """Compute the exponential of a number that is not positive, by arithmetic that the compiler can vectorise."""
    # This is 2 ** whole * exp(z), with |z| up to about ln(2) / 2 and exp(z) as a series. The exponent bits of a float32
    # give 2 ** whole; the bound on `binary` keeps it a normal number.
    binary = max(value * np.float32(1 / math.log(2)), np.float32(-126))
    whole = np.int32(binary - np.float32(0.5))
    z = (binary - np.float32(whole)) * np.float32(math.log(2))
    series = np.float32(1)
    for term in (5, 4, 3, 2, 1):
        series = np.float32(1) + z * np.float32(1 / term) * series
    return series * np.int32((whole + np.int32(127)) << np.int32(23)).view(np.float32)

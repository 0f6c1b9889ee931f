"""The division of a stage into blocks: as few as the memory allows, and none where nothing is to be refined."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from segscape.geometry.interval import Interval
from segscape.geometry.receptive_field import Positions
from segscape.geometry.resample import interpolation
from segscape.networks.crm import Axis
from segscape.refinement.extraction import AxisNeeds, Chain
from segscape.refinement.workload import Counts, Workload, counts

_LEAST_QUERIED = 16
"""The least number of queried rows or columns of a grid's blocks; with fewer, nearly all of the cost would be halo."""
_MOST_WORK_RATIO = 1.5
"""More rows of blocks are not tried once the work exceeds the least work by this factor."""
_MACS_PER_BLOCK = 1.2e9
"""The fixed cost of each block in addition to its own work, measured on a CPU."""
_TILE_SIDE = 16
"""The side of the tiles, in pixels of the stage; a tile with any point to be decoded is covered as a whole."""


class BlockAxis(NamedTuple):
    """A block along one axis, from the queried points down to the pixels.

    Attributes:
        queried: The block's part of the stage's queried rows or columns.
        points: Their places among the features.
        features: The rows or columns of fused features around them.
        needs: The intervals from which these features are computed.
        counts: The number of rows or columns of each of these.
    """

    queried: slice
    points: Axis
    features: Interval
    needs: AxisNeeds
    counts: Counts

    def points_among_features(self, device: torch.device) -> Axis:
        """Return the points for the decoder: on its device, with cells that count from the first of `features`."""
        cells = self.points.cells - self.features.start
        return Axis(
            cells.to(device), self.points.offsets.to(device), self.points.positions.to(device), self.points.step
        )


class BlockPlan(NamedTuple):
    """A rectangle of the queried points.

    Attributes:
        rows: Its rows.
        cols: Its columns.
    """

    rows: BlockAxis
    cols: BlockAxis


class StageAxis:
    """One axis of a stage.

    Args:
        chain: The chain of the extractor.
        full: The number of rows or columns of the padded image.
        size: The number of rows or columns of the image at the stage's scale.
        queried: The rows or columns of the padded image that are decoded, ascending.
        dtype: The type of the features.
    """

    def __init__(self, chain: Chain, *, full: int, size: int, queried: Positions, dtype: torch.dtype) -> None:
        self.queried, self.full, self.size = queried, full, size
        self._chain = chain
        self._dtype = dtype
        self._maps = chain.map_sizes(size)
        self._points = Axis.of(full, self._maps[0]).part(torch.from_numpy(queried))
        # The searches below ask for the same blocks again and again.
        self._known: dict[tuple[int, int], BlockAxis] = {}

    def extent(self, start: int, stop: int) -> BlockAxis:
        """Return the block of the queried rows or columns from `start` to before `stop`."""
        if (start, stop) not in self._known:
            self._known[start, stop] = self._extent(slice(start, stop))
        return self._known[start, stop]

    def cut(self, parts: int) -> list[BlockAxis]:
        """Cut the axis into `parts` blocks of about the same length."""
        edges = np.linspace(0, len(self.queried), parts + 1).round().astype(int).tolist()
        return [self.extent(start, stop) for start, stop in itertools.pairwise(edges)]

    def _extent(self, queried: slice) -> BlockAxis:
        points = self._points.part(queried)
        # Cells ascend, so the first point's neighbour before and the last point's neighbour behind are the outermost.
        features = Interval(int(points.cells[0, 0]), int(points.cells[1, -1]) + 1)
        joined = features.grown(1, self._maps[0])
        finest, *coarser = self._maps
        wanted = [joined, *(interpolation(joined, finest, size, self._dtype).source for size in coarser)]
        needs = self._chain.needs(wanted, self.size)
        return BlockAxis(queried, points, features, needs, counts(needs, features, queried.stop - queried.start))


def grid(rows: StageAxis, cols: StageAxis, workload: Workload, memory: float) -> list[BlockPlan]:
    """Cut a stage into the grid of least work whose blocks fit into the memory.

    Args:
        rows: The stage's rows.
        cols: The stage's columns.
        workload: Computes the cost of a block.
        memory: The bytes that a block may take.

    Raises:
        ValueError: Not even the smallest blocks fit.
    """
    most_down, most_across = (max(len(axis.queried) // _LEAST_QUERIED, 1) for axis in (rows, cols))
    best, least = [], math.inf
    for down in range(1, most_down + 1):
        row_parts = rows.cut(down)
        # Narrower blocks take less memory, so bisection finds the least number of columns of blocks that fits.
        across = 1 + bisect.bisect_left(
            range(1, most_across + 1), True, key=lambda parts: _peak(workload, row_parts, cols.cut(parts)) <= memory
        )
        if across > most_across:
            continue
        col_parts = cols.cut(across)
        # Each term of the work is a product of a row and a column count, so the summed counts give that of all blocks.
        work = workload.macs(*(np.sum([part.counts for part in parts], axis=0) for parts in (row_parts, col_parts)))
        if work < least:
            best, least = [BlockPlan(*pair) for pair in itertools.product(row_parts, col_parts)], work
        # Once whole rows fit, flatter blocks only add halo.
        if across == 1 or work > _MOST_WORK_RATIO * least:
            break
    if not best:
        raise _too_little(_peak(workload, rows.cut(most_down), cols.cut(most_across)), memory)
    return best


def _peak(workload: Workload, rows: Sequence[BlockAxis], cols: Sequence[BlockAxis]) -> float:
    """Return an upper bound of the bytes that any block of a grid takes."""
    return workload.memory(*(np.max([part.counts for part in parts], axis=0) for parts in (rows, cols)))


def around(
    rows: StageAxis, cols: StageAxis, workload: Workload, memory: float, wanted: npt.NDArray[np.bool_]
) -> list[BlockPlan]:
    """Cover some of the queried points with blocks that fit into the memory and take little work in total.

    Args:
        rows: The stage's rows.
        cols: The stage's columns.
        workload: Computes the cost of a block.
        memory: The bytes that a block may take.
        wanted: (H, W) bool, for every queried point whether it is to be decoded.

    Raises:
        ValueError: Not even the smallest blocks fit.
    """
    return _Cover(rows, cols, workload, memory, wanted).blocks()


class _Cover:
    """A rectangle around the wanted points, halved recursively where that saves work or the memory demands it.

    Rectangles are given in tiles: (top, bottom, left, right).
    """

    def __init__(
        self, rows: StageAxis, cols: StageAxis, workload: Workload, memory: float, wanted: npt.NDArray[np.bool_]
    ) -> None:
        self._rows, self._cols, self._workload, self._memory = rows, cols, workload, memory
        self._tops, self._lefts = _tile_edges(rows), _tile_edges(cols)
        by_row = np.logical_or.reduceat(wanted, self._tops[:-1], axis=0)
        self._occupied: npt.NDArray[np.bool_] = np.logical_or.reduceat(by_row, self._lefts[:-1], axis=1)

    def blocks(self) -> list[BlockPlan]:
        """Return the blocks of the cover."""
        height, width = self._occupied.shape
        work, blocks = self._cover(0, height, 0, width)
        if work == math.inf:
            corner = self._block(0, 1, 0, 1)
            raise _too_little(self._workload.memory(corner.rows.counts, corner.cols.counts), self._memory)
        return blocks

    def _cover(self, top: int, bottom: int, left: int, right: int) -> tuple[float, list[BlockPlan]]:
        """Return the work and the blocks for the wanted points of a rectangle."""
        inside = self._occupied[top:bottom, left:right]
        if not inside.any():
            return 0.0, []
        top, bottom = _shrunk(inside.max(axis=1), top)
        left, right = _shrunk(inside.max(axis=0), left)
        block = self._block(top, bottom, left, right)
        work = self._work(block)
        height, width = bottom - top, right - left
        # Two blocks cost at least this much, so halving cannot save work.
        worthless = work <= 2 * _MACS_PER_BLOCK
        if height == width == 1 or worthless or (work < math.inf and self._occupied[top:bottom, left:right].all()):
            return work, [block]
        if height >= width:
            middle = top + height // 2
            halves = self._cover(top, middle, left, right), self._cover(middle, bottom, left, right)
        else:
            middle = left + width // 2
            halves = self._cover(top, bottom, left, middle), self._cover(top, bottom, middle, right)
        halved = halves[0][0] + halves[1][0]
        return (halved, halves[0][1] + halves[1][1]) if halved < work else (work, [block])

    def _block(self, top: int, bottom: int, left: int, right: int) -> BlockPlan:
        tops, lefts = self._tops, self._lefts
        return BlockPlan(self._rows.extent(tops[top], tops[bottom]), self._cols.extent(lefts[left], lefts[right]))

    def _work(self, block: BlockPlan) -> float:
        """Return the work of a block, its fixed cost included; infinite if it does not fit into the memory."""
        sides = block.rows.counts, block.cols.counts
        return (
            self._workload.macs(*sides) + _MACS_PER_BLOCK if self._workload.memory(*sides) <= self._memory else math.inf
        )


def _tile_edges(axis: StageAxis) -> list[int]:
    """Return where the tiles of an axis start among its queried rows or columns, and their end."""
    count = len(axis.queried)
    return [*range(0, count, max(count * _TILE_SIDE // axis.size, 1)), count]


def _shrunk(occupied: npt.NDArray[np.bool_], first: int) -> tuple[int, int]:
    """Return the first occupied tile and one past the last one; `first` is the number of the first tile given."""
    places = np.flatnonzero(occupied)
    return first + int(places[0]), first + int(places[-1]) + 1


def _too_little(need: float, memory: float) -> ValueError:
    return ValueError(
        f"The smallest block of this image takes {math.ceil((need - memory) / 2**20)} MiB more than the memory that "
        "refinement may take; raise max_memory by as much."
    )

"""Arithmetic along one axis of a map: which lines (rows or columns) of it are meant, and which lines a resize reads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Span(NamedTuple):
    """Consecutive lines of a map.

    Attributes:
        start: The first line.
        stop: One past the last line.
        total: How many lines the whole map has.
    """

    start: int
    stop: int
    total: int

    @classmethod
    def whole(cls, lines: int) -> Span:
        """All lines of a map."""
        return cls(0, lines, lines)

    @property
    def length(self) -> int:
        """How many lines these are."""
        return self.stop - self.start

    def grow(self, lines: int) -> Span:
        """The span with that many more lines at each end, as far as the map has them."""
        return Span(max(self.start - lines, 0), min(self.stop + lines, self.total), self.total)

    def union(self, other: Span) -> Span:
        """The least span that holds both."""
        return Span(min(self.start, other.start), max(self.stop, other.stop), self.total)

    def within(self, outer: Span) -> slice:
        """Where these lines stand among those of a span that holds them."""
        return slice(self.start - outer.start, self.stop - outer.start)


class Patch(NamedTuple):
    """A rectangle of a map.

    Attributes:
        values: (1, C, h, w).
        rows: Which rows of the whole map these are.
        cols: Which columns.
    """

    values: Tensor
    rows: Span
    cols: Span

    def cut(self, rows: Span, cols: Span) -> Patch:
        """Some of the rows and columns, without a copy."""
        return Patch(self.values[..., rows.within(self.rows), cols.within(self.cols)], rows, cols)


class Interpolation(NamedTuple):
    """Each line of a resized map as a mixture of two lines of its source.

    Attributes:
        low: (n,) int64, the first of the two.
        high: (n,) int64, the other.
        weight: (n,) floating point, the share of the other, 0 to 1.
    """

    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]
    weight: npt.NDArray[np.floating]

    def counted_from(self, first: int) -> Interpolation:
        """The same with the source's lines counted from another one."""
        return self._replace(low=self.low - first, high=self.high - first)


def interpolation(
    wanted: Span,
    source: int,
    dtype: torch.dtype,
    *,
    align_corners: bool = True,
    scale: float | None = None,
    share: float = 1.0,
) -> Interpolation:
    """How `wanted` lines come from a source of so many lines in a bilinear resize.

    Args:
        wanted: Lines of the resized map.
        source: How many lines the whole source has.
        dtype: Of the maps. PyTorch computes positions in float32, but for float64 maps; so does this, to the bit.
        align_corners: Whether the centres of the outer lines stay the outer ones.
        scale: The factor by which the map is enlarged, where it is given instead of taken from the sizes; for
            `align_corners` it does not count.
        share: How much of the source the resized map shows, from its first line on; with `align_corners` measured
            between the centres of the outer lines.
    """
    real: npt.DTypeLike = np.float64 if dtype == torch.float64 else np.float32
    lines = np.arange(wanted.start, wanted.stop).astype(real)
    if align_corners:
        position = lines * (np.array((source - 1) * share, real) / np.array(max(wanted.total - 1, 1), real))
    else:
        by_sizes = np.array(source * share, real) / np.array(wanted.total, real)
        step = by_sizes if scale is None else np.array(1 / scale, real)
        half = np.array(0.5, real)
        position = np.maximum(step * (lines + half) - half, 0)
    low = np.minimum(np.floor(position).astype(np.int64), source - 1)
    return Interpolation(low, np.minimum(low + 1, source - 1), np.clip(position - low.astype(real), 0, 1))


def mirrored(lines: int, border: int) -> npt.NDArray[np.int64]:
    """Which line each of `border` + `lines` + `border` lines repeats when a map is mirrored at its edge lines.

    Where the border is wider than the map, the mirror image is mirrored again; a single line is repeated.
    """
    return np.pad(np.arange(lines, dtype=np.int64), border, mode="reflect")

"""Bilinear resizing of any part of a map, computed from the part of its source that it reads.

Rounding: positions and weights are computed as PyTorch's `F.interpolate` does, in float32 (float64 for float64 maps),
to the bit. A value is `low + (high - low) * weight`, one axis after the other, each step rounded to the type of the
maps. So it depends neither on the part that is computed nor on the part of the source that is at hand; from
`F.interpolate`, which adds the four neighbours of a pixel in another order, it differs by rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from segscape.geometry.interval import Interval


class Interpolation(NamedTuple):
    """Each position of a resized axis as a mixture of two positions of its source.

    Attributes:
        low: (n,) int64, the first of the two.
        high: (n,) int64, the other.
        weight: (n,) floating point, the share of the other, 0 to 1.
    """

    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]
    weight: npt.NDArray[np.floating]

    @property
    def source(self) -> Interval:
        """The positions of the source that are read, where those wanted are consecutive."""
        return Interval(int(self.low[0]), int(self.high[-1]) + 1)

    def part(self, chosen: Interval) -> Interpolation:
        """Some of the positions, counted among these."""
        low, high, weight = (values[chosen.slice] for values in self)
        return Interpolation(low, high, weight)  # type: ignore[arg-type]

    def relative_to(self, outer: Interval) -> Interpolation:
        """The same, the source's positions counted from the first of an interval."""
        return self._replace(low=self.low - outer.start, high=self.high - outer.start)


def interpolation(
    wanted: Interval,
    size: int,
    source: int,
    dtype: torch.dtype,
    *,
    align_corners: bool = True,
    scale: float | None = None,
    share: float = 1.0,
) -> Interpolation:
    """How some positions of a bilinearly resized axis are mixed from those of its source.

    Args:
        wanted: Positions of the resized axis.
        size: How many positions the whole resized axis has.
        source: How many positions the whole source has.
        dtype: Of the maps. PyTorch computes positions in float32, but for float64 maps in float64.
        align_corners: Whether the centres of the outermost pixels stay the outermost ones.
        scale: The factor by which the map is enlarged, where it is given instead of taken from the sizes; for
            `align_corners` it does not count.
        share: How much of the source the resized map shows, from its first position on; with `align_corners` measured
            between the centres of the outermost pixels.
    """
    real: npt.DTypeLike = np.float64 if dtype == torch.float64 else np.float32
    places = np.arange(wanted.start, wanted.stop).astype(real)
    if align_corners:
        position = places * (np.array((source - 1) * share, real) / np.array(max(size - 1, 1), real))
    else:
        by_sizes = np.array(source * share, real) / np.array(size, real)
        step = by_sizes if scale is None else np.array(1 / scale, real)
        half = np.array(0.5, real)
        position = np.maximum(step * (places + half) - half, 0)
    low = np.minimum(np.floor(position).astype(np.int64), source - 1)
    return Interpolation(low, np.minimum(low + 1, source - 1), np.clip(position - low.astype(real), 0, 1))


def resample(values: Tensor, axis: int, mixture: Interpolation, dtype: torch.dtype | None = None) -> Tensor:
    """Values resized along one axis.

    Args:
        values: Of any shape; along `axis` as many as the mixture reads, counted from its first.
        axis: Which axis, from 0.
        mixture: The result's positions.
        dtype: A floating-point type, of the result; by default that of the values.

    Returns:
        A new tensor, along `axis` as long as the mixture.
    """
    low, high = (
        values.index_select(axis, torch.from_numpy(places).to(values.device)).to(dtype or values.dtype)
        for places in (mixture.low, mixture.high)
    )
    shape = [1] * values.dim()
    shape[axis] = -1
    weight = torch.from_numpy(mixture.weight).to(low).reshape(shape)
    # Not by `lerp`: it rounds some elements otherwise than others, by their place in memory.
    return low.add_(high.sub_(low).mul_(weight))


def resample_map(maps: Tensor, rows: Interpolation, cols: Interpolation) -> Tensor:
    """Maps resized along both axes, the rows first.

    Args:
        maps: (K, h, w), floating point; as many rows and columns as are read, counted from the first.
        rows: The rows of the result.
        cols: Its columns.

    Returns:
        (K, H, W) float32.
    """
    return resample(resample(maps, 1, rows, torch.float32), 2, cols)


def mirrored(size: int, border: int) -> npt.NDArray[np.int64]:
    """Which position each of `border` + `size` + `border` ones repeats when a map is mirrored at its edge positions.

    Where the border is wider than the map, the mirror image is mirrored again; a single position is repeated.
    """
    return np.pad(np.arange(size, dtype=np.int64), border, mode="reflect")

"""Bilinear resizing of any part of a map, computed from no more of the source than that part reads.

Rounding: positions and weights are computed as PyTorch's `F.interpolate` does, in float32 (float64 for float64 maps),
to the bit. A value is `low + (high - low) * weight`, one axis after the other, each step rounded to the type of the
maps. So it depends neither on the part that is computed nor on the part of the source that is in memory; from
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
        high: (n,) int64, the second.
        weight: (n,) floating point, the weight of `high`, 0 to 1.
    """

    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]
    weight: npt.NDArray[np.floating]

    @property
    def source(self) -> Interval:
        """The positions of the source that are read, if the resized positions are consecutive."""
        return Interval(int(self.low[0]), int(self.high[-1]) + 1)

    def part(self, chosen: Interval) -> Interpolation:
        """Return some of the positions, chosen by their index among these."""
        low, high, weight = (values[chosen.slice] for values in self)
        return Interpolation(low, high, weight)  # type: ignore[arg-type]

    def relative_to(self, outer: Interval) -> Interpolation:
        """Return the same mixture with the source's positions counted from the first of an interval."""
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
    """Compute the sources and weights of some positions of a bilinearly resized axis.

    Args:
        wanted: The positions of the resized axis.
        size: The number of positions of the whole resized axis.
        source: The number of positions of the whole source.
        dtype: The dtype of the maps. PyTorch computes positions in float32, but for float64 maps in float64.
        align_corners: As in `F.interpolate`: whether the centres of the outermost pixels of both maps coincide.
        scale: The factor by which the map is enlarged; by default it follows from the sizes. Ignored with
            `align_corners`.
        share: The fraction of the source that the resized map covers, from the first position on; with
            `align_corners` measured between the centres of the outermost pixels.
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
    """Resize values along one axis.

    Args:
        values: Of any shape; along `axis` the mixture's positions count from the first value.
        axis: The axis, from 0.
        mixture: The sources and weights of the positions of the result.
        dtype: The floating-point dtype of the result; by default that of the values.

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
    # Not `lerp`: how it rounds an element depends on the place in memory.
    return low.add_(high.sub_(low).mul_(weight))


def resample_map(maps: Tensor, rows: Interpolation, cols: Interpolation) -> Tensor:
    """Resize maps along both axes, the rows first.

    Args:
        maps: (K, h, w), floating point; the positions of `rows` and `cols` count from the first row and column.
        rows: The sources and weights of the rows of the result.
        cols: The same of its columns.

    Returns:
        (K, H, W) float32.
    """
    return resample(resample(maps, 1, rows, torch.float32), 2, cols)


def mirrored(size: int, border: int) -> npt.NDArray[np.int64]:
    """Return the source position of each of `border` + `size` + `border` positions of a map mirrored at its edges.

    The edge positions themselves are not repeated. Where the border is wider than the map, the mirror image is mirrored
    again; a single position is repeated.
    """
    return np.pad(np.arange(size, dtype=np.int64), border, mode="reflect")

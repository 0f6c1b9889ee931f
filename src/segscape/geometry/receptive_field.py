"""Receptive fields along one axis: the positions of its input from which a layer computes each output position."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from segscape.geometry.interval import Interval

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ReceptiveField:
    """The positions of its input that a layer reads along one axis.

    Attributes:
        first: (n,), for each of the n positions of the result the first position of the input that it reads.
        last: (n,), for each of them the last position that it reads.
        size: The number of positions of the input.
    """

    first: Positions
    last: Positions
    size: int

    def input_interval(self, wanted: Interval) -> Interval:
        """Return the least interval of the input that holds all positions read for the wanted ones."""
        if not wanted.length:
            return Interval(0, 0)
        return Interval(int(self.first[wanted.slice].min()), int(self.last[wanted.slice].max()) + 1)

    def available(self, stop: int) -> int:
        """Return how many leading positions of the result can be computed from the input positions before `stop`."""
        return int(np.searchsorted(self._furthest, stop, side="left"))

    def first_needed(self, position: int) -> int:
        """Return the first position of the input that the results from `position` on read; `size` if there are none."""
        return int(self._earliest[position]) if position < len(self._earliest) else self.size

    @cached_property
    def _furthest(self) -> Positions:
        # `last` need not ascend, as in a mirrored border; its running maximum does and can be searched.
        return np.maximum.accumulate(self.last)

    @cached_property
    def _earliest(self) -> Positions:
        return np.minimum.accumulate(self.first[::-1])[::-1]


@lru_cache(maxsize=256)
def pointwise(size: int) -> ReceptiveField:
    """Return the field of a layer in which each position reads the input at the same position."""
    places = np.arange(size, dtype=np.int64)
    return ReceptiveField(places, places, size)


@lru_cache(maxsize=256)
def strided(count: int, size: int, *, extent: int, stride: int, padding: int) -> ReceptiveField:
    """Return the field of a convolution or a pooling, in which each position reads a window.

    Args:
        count: The number of positions of the result.
        size: The number of positions of the input.
        extent: The length of a window, from its first position to its last, both included.
        stride: The distance from one window to the next.
        padding: How far the first window begins before the input; negative where it begins inside.
    """
    first = np.arange(count, dtype=np.int64) * stride - padding
    return ReceptiveField(first.clip(0, size - 1), (first + extent - 1).clip(0, size - 1), size)


@lru_cache(maxsize=256)
def transposed(count: int, size: int, *, extent: int, stride: int, padding: int) -> ReceptiveField:
    """Return the field of a transposed convolution, in which each position reads those whose windows it lies in.

    Args:
        count: The number of positions of the result.
        size: The number of positions of the input.
        extent: The length of a window of the result, from its first position to its last, both included.
        stride: The distance from one window to the next.
        padding: How many leading positions of the first window are cut off.
    """
    place = np.arange(count, dtype=np.int64) + padding
    first, last = -((extent - 1 - place) // stride), place // stride
    return ReceptiveField(np.minimum(first, last).clip(0, size - 1), last.clip(0, size - 1), size)


@lru_cache(maxsize=256)
def repeated(count: int, size: int, *, factor: int) -> ReceptiveField:
    """Return the field of a layer that repeats each position of the input `factor` times."""
    place = np.arange(count, dtype=np.int64) // factor
    return ReceptiveField(place, place, size)

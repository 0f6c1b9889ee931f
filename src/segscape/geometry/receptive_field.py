"""Receptive fields along one axis: from which positions of its input a layer computes each position of its result."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from segscape.geometry.interval import Interval

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ReceptiveField:
    """What a layer reads along one axis.

    Attributes:
        first: (n,), for each of the n positions of the result the first position of the input that it reads.
        last: (n,), the last one.
        size: How many positions the input has.
    """

    first: Positions
    last: Positions
    size: int

    def input_interval(self, wanted: Interval) -> Interval:
        """The least interval of the input that holds all that the wanted positions read."""
        if not wanted.length:
            return Interval(0, 0)
        return Interval(int(self.first[wanted.slice].min()), int(self.last[wanted.slice].max()) + 1)

    def available(self, stop: int) -> int:
        """How many leading positions of the result can be computed when the input is known before `stop`."""
        return int(np.searchsorted(self._furthest, stop, side="left"))

    def first_needed(self, position: int) -> int:
        """The first position of the input that results from `position` on still read; `size` if they read none."""
        return int(self._earliest[position]) if position < len(self._earliest) else self.size

    @cached_property
    def _furthest(self) -> Positions:
        return np.maximum.accumulate(self.last)

    @cached_property
    def _earliest(self) -> Positions:
        return np.minimum.accumulate(self.first[::-1])[::-1]


@lru_cache(maxsize=256)
def pointwise(size: int) -> ReceptiveField:
    """Each position reads the one at its own place."""
    places = np.arange(size, dtype=np.int64)
    return ReceptiveField(places, places, size)


@lru_cache(maxsize=256)
def strided(count: int, size: int, *, extent: int, stride: int, padding: int) -> ReceptiveField:
    """Each position reads a window, as in a convolution or a pooling.

    Args:
        count: How many positions the result has.
        size: How many positions the input has.
        extent: From the first position of a window to its last, both included.
        stride: From one window to the next.
        padding: How far the first window begins before the input; negative where it begins inside.
    """
    first = np.arange(count, dtype=np.int64) * stride - padding
    return ReceptiveField(first.clip(0, size - 1), (first + extent - 1).clip(0, size - 1), size)


@lru_cache(maxsize=256)
def transposed(count: int, size: int, *, extent: int, stride: int, padding: int) -> ReceptiveField:
    """Each position reads those whose windows it lies in, as in a transposed convolution.

    Args:
        count: How many positions the result has.
        size: How many positions the input has.
        extent: From the first position of a window of the result to its last, both included.
        stride: From one window to the next.
        padding: How many leading positions of the first window are cut off.
    """
    place = np.arange(count, dtype=np.int64) + padding
    first, last = -((extent - 1 - place) // stride), place // stride
    return ReceptiveField(np.minimum(first, last).clip(0, size - 1), last.clip(0, size - 1), size)


@lru_cache(maxsize=256)
def repeated(count: int, size: int, *, factor: int) -> ReceptiveField:
    """Each position of the input becomes `factor` positions of the result."""
    place = np.arange(count, dtype=np.int64) // factor
    return ReceptiveField(place, place, size)

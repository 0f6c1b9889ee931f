"""Intervals: consecutive rows, or consecutive columns, of a map."""

from __future__ import annotations

from typing import NamedTuple


class Interval(NamedTuple):
    """Consecutive positions along one axis of a map: its rows, or its columns.

    Attributes:
        start: The first position.
        stop: One past the last position.
    """

    start: int
    stop: int

    @property
    def length(self) -> int:
        """The number of positions."""
        return self.stop - self.start

    @property
    def slice(self) -> slice:
        """The slice that cuts the interval out of an axis of the whole map."""
        return slice(self.start, self.stop)

    def shifted(self, by: int) -> Interval:
        """Return the interval moved by `by` positions."""
        return Interval(self.start + by, self.stop + by)

    def relative_to(self, outer: Interval) -> Interval:
        """Return the same positions, counted from the first of another interval."""
        return self.shifted(-outer.start)

    def grown(self, by: int, size: int) -> Interval:
        """Return the interval grown by `by` positions at each end, clipped to an axis of `size` positions."""
        return Interval(max(self.start - by, 0), min(self.stop + by, size))

    def union(self, other: Interval) -> Interval:
        """Return the least interval that holds both."""
        return Interval(min(self.start, other.start), max(self.stop, other.stop))

    def intersection(self, other: Interval) -> Interval:
        """Return the positions that lie in both; an interval of length 0 where there are none."""
        start = max(self.start, other.start)
        return Interval(start, max(min(self.stop, other.stop), start))

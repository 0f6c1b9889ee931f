"""Which lines of its input each line of a layer's result is computed from, along one axis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from segscape.geometry.interval import Span

Lines = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reads:
    """How one axis of a layer's result hangs on that of its input.

    Attributes:
        first: (n,), for each of the n lines of the result the first line that it reads.
        last: (n,), the last.
        lines: How many lines the input has.
    """

    first: Lines
    last: Lines
    lines: int

    def hull(self, wanted: Span) -> Span:
        """The lines that the wanted ones read, and what lies between."""
        if not wanted.length:
            return Span(0, 0, self.lines)
        chosen = slice(wanted.start, wanted.stop)
        return Span(int(self.first[chosen].min()), int(self.last[chosen].max()) + 1, self.lines)

    def ready(self, stop: int) -> int:
        """How many leading lines of the result read nothing from line `stop` on."""
        return int(np.searchsorted(self._furthest, stop, side="left"))

    def read_from(self, line: int) -> int:
        """The first line that the result still reads from its own line `line` on; `lines` if there is none."""
        return int(self._earliest[line]) if line < len(self._earliest) else self.lines

    @cached_property
    def _furthest(self) -> Lines:
        return np.maximum.accumulate(self.last)

    @cached_property
    def _earliest(self) -> Lines:
        return np.minimum.accumulate(self.first[::-1])[::-1]


@lru_cache(maxsize=256)
def same(lines: int) -> Reads:
    """Each line reads the one at its own place."""
    every = np.arange(lines, dtype=np.int64)
    return Reads(every, every, lines)


@lru_cache(maxsize=256)
def windows(made: int, lines: int, *, extent: int, stride: int, padding: int) -> Reads:
    """Each of the `made` lines reads a window: `extent` lines, `stride` apart, the first `padding` lines outside."""
    first = np.arange(made, dtype=np.int64) * stride - padding
    return Reads(first.clip(0, lines - 1), (first + extent - 1).clip(0, lines - 1), lines)


@lru_cache(maxsize=256)
def divided(made: int, lines: int, *, factor: int) -> Reads:
    """Each line becomes `factor` lines."""
    source = np.arange(made, dtype=np.int64) // factor
    return Reads(source, source, lines)

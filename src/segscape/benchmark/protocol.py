"""How often something is run, and what is reported of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Protocol:
    """How a figure is measured: some runs that do not count, then a fixed number, all of which do.

    Attributes:
        warm_up: Runs that are not timed; in the first one engines compile and memory is taken.
        repeats: Runs that are timed, one by one.

    Raises:
        ValueError: Nothing would be timed.
    """

    warm_up: int = 10
    repeats: int = 50

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.warm_up < 0:
            raise ValueError(
                f"A benchmark times at least one run after zero or more to warm up, not {self.repeats} after "
                f"{self.warm_up}; give other --repeats and --warm-up."
            )

    @property
    def runs(self) -> int:
        """Of both kinds."""
        return self.warm_up + self.repeats

    def time(
        self, run: Callable[[], object], *, synchronise: Callable[[], None], on_run: Callable[[], None]
    ) -> list[float]:
        """Seconds of every timed run.

        Args:
            run: What is timed.
            synchronise: Waits until the device is done; called before the clock is read.
            on_run: Called after each run, timed or not.
        """
        seconds = []
        for number in range(self.runs):
            synchronise()
            start = time.perf_counter()
            run()
            synchronise()
            taken = time.perf_counter() - start
            if number >= self.warm_up:
                seconds.append(taken)
            on_run()
        return seconds


@dataclass(frozen=True)
class Timing:
    """What is reported of all timed runs of one figure.

    Attributes:
        median_ms: Milliseconds that half of them stayed below.
        p90_ms: Milliseconds that nine of ten stayed below.
    """

    median_ms: float
    p90_ms: float

    @classmethod
    def of(cls, seconds: list[float]) -> Timing:
        """The summary of runs, none left out."""
        median, p90 = 1000 * np.quantile(seconds, (0.5, 0.9))
        return cls(float(median), float(p90))

    @property
    def per_second(self) -> float:
        """Runs a second at the median."""
        return 1000 / self.median_ms

"""The number of runs of a measurement, and the summary of their times."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from segscape.choices import TIMED_RUNS, WARM_UP_RUNS


@dataclass(frozen=True)
class Protocol:
    """The protocol of a measurement: some runs that do not count, then a fixed number, all of which do.

    Attributes:
        warm_up: Number of runs that are not timed; in the first one engines compile and allocate memory.
        repeats: Number of runs that are timed, one by one.

    Raises:
        ValueError: Nothing would be timed, or the number of runs to warm up is negative.
    """

    warm_up: int = WARM_UP_RUNS
    repeats: int = TIMED_RUNS

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.warm_up < 0:
            raise ValueError(
                f"A benchmark times at least one run after zero or more to warm up, not {self.repeats} after "
                f"{self.warm_up}; give other --repeats and --warm-up."
            )

    @property
    def runs(self) -> int:
        """The number of runs of both kinds."""
        return self.warm_up + self.repeats

    def time(
        self, run: Callable[[], object], *, synchronise: Callable[[], None], on_run: Callable[[], None]
    ) -> list[float]:
        """Return the seconds of every timed run.

        Args:
            run: The call that is timed.
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
    """The summary of all timed runs of one figure.

    Attributes:
        median_ms: Median of their times, in milliseconds.
        p90_ms: 90th percentile of their times, in milliseconds.
    """

    median_ms: float
    p90_ms: float

    @classmethod
    def of(cls, seconds: list[float]) -> Timing:
        """Summarise the seconds of all runs, none left out."""
        median, p90 = 1000 * np.quantile(seconds, (0.5, 0.9))
        return cls(float(median), float(p90))

    @property
    def per_second(self) -> float:
        """The runs per second at the median."""
        return 1000 / self.median_ms

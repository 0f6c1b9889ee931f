"""The table of the time that a command took for its images."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.table import Column, Table

from segscape.messages import one_line

_LISTED = 20
"""The number of images with a row of their own."""


@dataclass(frozen=True)
class Timing:
    """The record of an image that is kept when its pixels are written.

    Attributes:
        name: The image's file name.
        size: (height, width).
        seconds: The time of each stage, by its name.
        outcome: The outcome in a few words.
    """

    name: str
    size: tuple[int, int]
    seconds: dict[str, float]
    outcome: str


def timing_table(
    timings: Sequence[Timing],
    stages: dict[str, str],
    *,
    image: str = "image",
    outcome: str,
    unit: Literal["seconds", "milliseconds"] = "seconds",
) -> Table:
    """Return the table of the time per stage: the first images, and medians of milliseconds or sums of seconds of all.

    Args:
        timings: At least one.
        stages: Their names in `Timing.seconds`, each with the head of its column; those that no image has are left out.
        image: The head of the column of file names.
        outcome: The head of the last column.
        unit: The unit of the figures.
    """
    shown = [stage for stage in stages if stage in timings[0].seconds]

    def written(time: float) -> str:
        return f"{1000 * time:.0f}" if unit == "milliseconds" else f"{time:.2f}"

    heads = [stages[stage] for stage in shown]
    table = Table(Column(image, no_wrap=True), "size", *heads, outcome, title=unit)
    for timing in timings[:_LISTED]:
        size = f"{timing.size[1]} x {timing.size[0]}"
        table.add_row(one_line(timing.name), size, *(written(timing.seconds[stage]) for stage in shown), timing.outcome)
    if len(timings) > 1 or unit == "milliseconds":
        joined, of = (statistics.median, "median of") if unit == "milliseconds" else (sum, "all")
        totals = (joined([timing.seconds[stage] for timing in timings]) for stage in shown)
        table.add_section()
        table.add_row(f"{of} {len(timings)}", "", *(written(total) for total in totals), "")
    return table

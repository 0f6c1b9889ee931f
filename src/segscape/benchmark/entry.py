"""What is measured, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from segscape.benchmark.protocol import Protocol, Timing
from segscape.runtime.base import Precision

Figure = Literal["network", "labels", "file"]
"""What is timed: the network from normalised images on the device to logits; the same with upsampling and arg-max; all
from an image file to a label file."""
FIGURES: tuple[Figure, ...] = get_args(Figure)


@dataclass(frozen=True)
class Entry:
    """One row of a benchmark.

    Attributes:
        name: A registered network, which gets random weights, or weights by name or path.
        size: (height, width) of the image, in pixels.
        runtime: As `--runtime` takes it.
        precision: As `--precision` takes it.
        device: As `--device` takes it.
        threads: That PyTorch and other engines use on a CPU.
        protocol: How often everything is run.
    """

    name: str
    size: tuple[int, int]
    runtime: str
    precision: Precision | Literal["auto"]
    device: str | None
    threads: int
    protocol: Protocol


@dataclass(frozen=True)
class Measurement:
    """What was found for an entry.

    Attributes:
        network: The registered name.
        num_classes: K.
        runtime: What computed; of `auto`, what it chose.
        precision: What it computed in.
        reason: Why `auto` chose it.
        parameters: Of the network, without those that only training uses.
        macs: Multiply-accumulates for one image; nothing where they are not counted while running.
        peak_mib: The most memory during the runs, in MiB: on a CPU of the whole process, on a GPU what PyTorch had
            taken there.
        start_mib: The memory of the process before it made the network; on a GPU 0.
        timings: By figure; a network that refines masks has no figure of its own network.
    """

    network: str
    num_classes: int
    runtime: str
    precision: str
    reason: str | None
    parameters: int
    macs: int | None
    peak_mib: float
    start_mib: float
    timings: Mapping[Figure, Timing]


def as_row(entry: Entry, outcome: Measurement | Exception, *, score: float | None) -> dict[str, Any]:
    """A row of the report, as plain JSON.

    Args:
        entry: What was measured.
        outcome: What was found, or why nothing was.
        score: The mIoU that the weights' card states, 0 to 1.
    """
    row: dict[str, Any] = {
        "name": entry.name,
        "size": list(entry.size),
        "asked_runtime": entry.runtime,
        "asked_precision": entry.precision,
    }
    if isinstance(outcome, Exception):
        return {**row, "error": str(outcome)}
    return {**row, **asdict(outcome), "miou": score}

"""The entries of a benchmark and their measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from segscape.benchmark.protocol import Protocol, Timing
from segscape.choices import Precision

Figure = Literal["network", "labels", "file"]
"""The part that is timed: the network from normalised images on the device to logits; the same with upsampling and
arg-max; or everything from an image file to a label file."""
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
        threads: Number of threads that PyTorch and other engines use on a CPU.
        protocol: Number of runs of each figure.
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
    """The measurement of an entry.

    Attributes:
        network: The network's registered name.
        num_classes: K, the number of classes.
        runtime: The runtime that computed; for `auto`, the one that it chose.
        precision: The precision that it computed in.
        reason: Why `auto` chose this runtime; None where nothing was chosen.
        parameters: Number of the network's parameters, without those that only training uses.
        macs: Multiply-accumulates for one image; None where they are not counted while running.
        peak_mib: Peak memory during the runs, in MiB: on a CPU that of the whole process, on a GPU that which PyTorch
            had allocated there.
        start_mib: Peak memory of the process before the network was created, in MiB; 0 on a GPU.
        timings: Timing by figure; a network that refines masks has no figure `"network"`.
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
    """Return a row of the report as plain JSON.

    Args:
        entry: The entry that was measured.
        outcome: Its measurement, or the error that prevented it.
        score: The mIoU on the weights' card, 0 to 1.
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

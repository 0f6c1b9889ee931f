"""`segscape benchmark`: the speed of networks on this machine, beside their accuracy."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from segscape.benchmark.cost import network_cost
from segscape.benchmark.entry import FIGURES, Entry, Measurement, as_row
from segscape.benchmark.measure import MeasurementError, measure_apart
from segscape.benchmark.protocol import Protocol
from segscape.benchmark.report import write_report
from segscape.benchmark.subject import card_of, is_refiner
from segscape.cli.console import PlainConsole
from segscape.cli.output import Output
from segscape.cli.progress import progress, show_error
from segscape.cli.run import status_of
from segscape.segmentation.inputs import usable_device

_WIDTH = 120


def run(arguments: argparse.Namespace) -> int:
    """Run `segscape benchmark`; a row that cannot be measured does not end the others."""
    output = Output(arguments)
    device = usable_device(arguments.device)
    protocol = Protocol(warm_up=arguments.warm_up, repeats=arguments.repeats)
    scores = {name: _score(name) for name in arguments.names}
    plot = _plotter(arguments.plot, scores)
    entries = [
        Entry(name, size, runtime, precision, str(device), torch.get_num_threads(), protocol)
        for name, size, runtime, precision in product(
            dict.fromkeys(arguments.names), arguments.sizes, arguments.runtimes, arguments.precision
        )
    ]
    if arguments.dry_run:
        for entry in entries:
            output.console.print(_title(entry))
            output.record("plan", name=entry.name, size=entry.size, runtime=entry.runtime, precision=entry.precision)
        return 0
    rows: list[dict[str, Any]] = []
    with progress(quiet=output.quiet) as bar:
        task = bar.add_task("measuring", total=sum(map(_runs, entries)))
        for number, entry in enumerate(entries):
            bar.update(task, description=_title(entry))
            outcome = _outcome(entry, lambda: bar.advance(task))
            if isinstance(outcome, MeasurementError):
                show_error(bar, MeasurementError(f"{_title(entry)}: {outcome}"))
            bar.update(task, completed=sum(map(_runs, entries[: number + 1])))
            rows.append(as_row(entry, outcome, score=scores[entry.name]))
            output.record("measurement", **rows[-1])
            if arguments.output:
                write_report(arguments.output, rows, protocol=protocol, device=device)
    # In narrow terminals, wrapped lines are easier to read than truncated cells.
    console = PlainConsole(width=max(PlainConsole().width, _WIDTH), quiet=output.console.quiet)
    measured = [row for row in rows if "error" not in row]
    if measured:
        console.print(time_table(measured, protocol), cost_table(measured))
    failed = len(rows) - len(measured)
    if failed:
        console.print(f"{failed} of {len(rows)} could not be measured; the messages above say why.")
    if plot:
        plot(measured, arguments.plot)
    return status_of(len(measured), failed)


def time_table(rows: Sequence[dict[str, Any]], protocol: Protocol) -> Table:
    """Return the table of the milliseconds of measured rows: the median, and after it the 90th percentile."""
    table = Table(
        *_columns("weights", "size", "runtime", "network", "with labels", "file to file"),
        title=f"milliseconds, median / p90 of {protocol.repeats} runs after {protocol.warm_up} to warm up",
        box=SIMPLE_HEAD,
    )
    for row in rows:
        timings = row["timings"]
        table.add_row(
            *_start(row),
            *(
                "{median_ms:.1f} / {p90_ms:.1f}".format(**timings[figure]) if figure in timings else "-"
                for figure in FIGURES
            ),
        )
    return table


def cost_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the table of the costs of measured rows, and of their images per second."""
    table = Table(
        *_columns("weights", "size", "runtime", "parameters", "GMAC", "MiB", "images/s"),
        title="per image; images a second from file to file; memory above that of the empty process",
        box=SIMPLE_HEAD,
    )
    for row in rows:
        table.add_row(
            *_start(row),
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['macs'] / 1e9:.1f}",
            f"{row['peak_mib'] - row['start_mib']:.0f}",
            f"{1000 / row['timings']['file']['median_ms']:.2f}",
        )
    return table


def _columns(*names: str) -> list[Column]:
    return [Column(name, no_wrap=True) for name in names]


def _start(row: dict[str, Any]) -> tuple[str, str, str]:
    """Return the first cells of a row: the name, the size, and the runtime, also one that `auto` chose."""
    runtime = f"{row['runtime']} {row['precision']}"
    return row["name"], "{}x{}".format(*row["size"]), f"auto: {runtime}" if row["asked_runtime"] == "auto" else runtime


def _outcome(entry: Entry, on_run: Callable[[], None]) -> Measurement | MeasurementError:
    try:
        found = measure_apart(entry, on_run=on_run)
    except MeasurementError as error:
        return error
    if found.macs is not None:
        return found
    cost = network_cost(found.network, num_classes=found.num_classes, size=entry.size)
    return replace(found, macs=cost.macs)


def _score(name: str) -> float | None:
    """Return the mIoU that a card states, 0 to 1, or the mean over its data sets; None if no card states one.

    Raises:
        FileNotFoundError: There is neither a network nor weights of this name.
        ValueError: The file is no weights file.
    """
    card = card_of(name)
    of_sets = [score for measure, score in card.score.items() if measure.startswith("miou")] if card else []
    return fmean(of_sets) if of_sets else None


def _plotter(
    path: Path | None, scores: dict[str, float | None]
) -> Callable[[Sequence[dict[str, Any]], Path], None] | None:
    """Return the function that draws the plot, or None; errors are raised before anything is measured.

    Raises:
        ValueError: No weights have a score.
    """
    if path is None:
        return None
    if not any(score is not None for score in scores.values()):
        raise ValueError("--plot needs weights whose card states an mIoU, such as scapenet_lite0.street.")
    from segscape.benchmark.plot import plot_speed

    return plot_speed


def _runs(entry: Entry) -> int:
    """Return the number of runs of all figures together; a refiner has one figure less."""
    return entry.protocol.runs * (len(FIGURES) - is_refiner(entry.name))


def _title(entry: Entry) -> str:
    precision = "" if entry.precision == "auto" else f" {entry.precision}"
    return "{} {}x{} {}{}".format(entry.name, *entry.size, entry.runtime, precision)

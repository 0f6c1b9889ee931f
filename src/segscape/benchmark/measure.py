"""The measurement of one entry, in this process or in a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import re
import resource
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from segscape.benchmark.entry import Entry, Measurement
from segscape.benchmark.protocol import Timing
from segscape.benchmark.subject import is_refiner, prepare_refinement, prepare_segmentation

_MIB = 1 << 20
_PATIENCE = 10.0
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


class MeasurementError(RuntimeError):
    """An entry could not be measured; the message gives the reason."""


def measure_apart(entry: Entry, *, on_run: Callable[[], None]) -> Measurement:
    """Measure an entry in a new process, so that its memory is its own and nothing of earlier entries is left.

    Args:
        entry: The entry to measure.
        on_run: Called after each run of each figure.

    Raises:
        MeasurementError: The measurement failed, or the system ended its process.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(entry, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        while (message := ours.recv()) is None:
            on_run()
        # Engines end their threads and close their files themselves if they get the time.
        process.join(_PATIENCE)
    except EOFError:
        process.join()
        raise MeasurementError(
            f"Its process ended with status {process.exitcode}; -9 means that memory was short."
        ) from None
    finally:
        process.kill()
        process.join()
    if isinstance(message, str):
        raise MeasurementError(message)
    return message


def measure(entry: Entry, *, on_run: Callable[[], None]) -> Measurement:
    """Measure an entry in this process.

    Args:
        entry: The entry to measure; the caller sets the number of threads.
        on_run: Called after each run of each figure.

    Raises:
        FileNotFoundError: There are no such weights.
        ValueError: The runtime or the precision is not available here.
    """
    start = _peak()
    prepare = prepare_refinement if is_refiner(entry.name) else prepare_segmentation
    with tempfile.TemporaryDirectory() as folder:
        subject = prepare(entry, Path(folder))
        on_gpu = subject.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(subject.device)
        else:
            _forget_peak()
        synchronise = partial(torch.cuda.synchronize, subject.device) if on_gpu else _nothing
        with torch.inference_mode():
            timings = {
                figure: Timing.of(entry.protocol.time(run, synchronise=synchronise, on_run=on_run))
                for figure, run in subject.runs.items()
            }
    return Measurement(
        network=subject.name,
        num_classes=subject.num_classes,
        runtime=subject.runtime,
        precision=subject.precision,
        reason=subject.reason,
        parameters=subject.parameters,
        macs=subject.macs(),
        peak_mib=torch.cuda.max_memory_allocated(subject.device) / _MIB if on_gpu else _peak(),
        start_mib=0.0 if on_gpu else start,
        timings=timings,
    )


def _report(entry: Entry, connection: Connection) -> None:
    """Send None after every run, and at the end the measurement or the message of the error."""
    torch.set_num_threads(entry.threads)
    try:
        connection.send(measure(entry, on_run=lambda: connection.send(None)))
    except Exception as error:
        # Engines raise errors of any kind; the other rows of the benchmark go on.
        connection.send((str(error).strip() or repr(error)).splitlines()[0])


def _peak() -> float:
    """Return the peak memory of this process since `_forget_peak`, in MiB."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE) if _STATUS.exists() else None
    if found:
        return int(found[1]) / 1024
    # macOS counts in bytes, Linux in KiB.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _MIB


def _forget_peak() -> None:
    # Where the peak cannot be reset, the memory needed to create the network counts too.
    with contextlib.suppress(OSError):
        _RESET.write_text("5")


def _nothing() -> None:
    pass

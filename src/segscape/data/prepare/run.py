"""Carry out a preparation's plan: in several processes, and only what is not done yet."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from segscape.data.prepare.manifest import Manifest, sha256_of
from segscape.data.prepare.plan import FileTask, Plan, link


class Outcome(NamedTuple):
    """The outcome of a task.

    Attributes:
        digest: The sha256 of its file; empty where it failed.
        written: Whether it had to be written.
        problem: A sentence on why it failed; empty if it did not.
    """

    digest: str
    written: bool
    problem: str = ""


Track = Callable[[Iterable[Outcome], int], Iterable[Outcome]]
"""Called with the outcomes and their number; yields them again, for a progress bar."""


@dataclass
class PrepareReport:
    """The outcome of a preparation.

    Attributes:
        written: The number of files that it wrote; the others were there and intact.
        counts: The number of files that are there now, by split and kind.
        remarks: A sentence for each split of which the source holds only a part.
        problems: A sentence for each thing that is wrong, naming its file.
    """

    written: int = 0
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def carry_out(plan: Plan, manifest: Manifest, *, workers: int, track: Track) -> PrepareReport:
    """Write the files of a plan that are not there yet, or not as the manifest records them.

    Args:
        plan: The files to write.
        manifest: The record of earlier runs; becomes that of the plan's files once all of them are there.
        workers: The number of processes.
        track: For a progress bar.

    Raises:
        ValueError: `workers` is less than 1.
        OSError: The disk is full, a folder may not be written to, or a process was killed.
    """
    if workers < 1:
        raise ValueError(f"{workers} processes can do nothing; --workers must be at least 1.")
    report = PrepareReport(remarks=plan.remarks, problems=list(plan.problems))
    digests: dict[str, str] = {}
    recorded = [manifest.recorded.get(task.target, "") for task in plan.tasks]
    outcomes = _outcomes(plan.tasks, recorded, manifest.path, workers)
    try:
        for task, outcome in zip(plan.tasks, track(outcomes, len(plan.tasks)), strict=True):
            if outcome.problem:
                report.problems.append(outcome.problem)
                continue
            manifest.note(task.target, outcome.digest)
            digests[task.target] = outcome.digest
            report.written += outcome.written
            kinds = report.counts.setdefault(task.split, {})
            kinds[task.kind] = kinds.get(task.kind, 0) + 1
    finally:
        outcomes.close()
        manifest.close()
    if not report.problems:
        manifest.finish(report.counts, digests)
    return report


def _outcomes(
    tasks: list[FileTask], recorded: list[str], manifest: Path, workers: int
) -> Generator[Outcome, None, None]:
    do = partial(_do, manifest)
    if workers == 1:
        yield from map(do, tasks, recorded)
        return
    # New processes rather than copies of this one, whose threads may hold locks.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker)
    try:
        yield from pool.map(do, tasks, recorded, chunksize=8)
    except BrokenProcessPool:
        raise OSError(
            "A process was killed, perhaps for want of memory; run the command again with fewer --workers, it goes on "
            "where it stopped."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leave interrupts to the parent process, and end when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    Thread(target=end_with_parent, daemon=True).start()


def _do(manifest: Path, task: FileTask, recorded: str) -> Outcome:
    """Write a task's file, unless it is there and matches its record; an empty record is none."""
    target = manifest.parent / task.target
    try:
        if recorded and target.is_file() and sha256_of(target) == recorded:
            return Outcome(recorded, written=False)
        if recorded and task.write is link and sha256_of(task.source) != recorded:
            return Outcome(
                "",
                written=False,
                problem=f"{task.source} is not the file any more that {manifest} records; put that one back, or "
                "delete the manifest to prepare everything again",
            )
        task.write(task.source, target)
    # Anything else, such as a full disk, ends the run.
    except (ValueError, FileNotFoundError) as error:
        return Outcome("", written=False, problem=str(error))
    return Outcome(sha256_of(target), written=True)

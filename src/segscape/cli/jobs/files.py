"""Shared parts of the commands over many files: protecting them, reading ahead of the work."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from rich.progress import Progress

from segscape.files import resolved

Job = TypeVar("Job")
Material = TypeVar("Material")
Result = TypeVar("Result")

OnProgress = Callable[[int, int], None]
"""Takes the work done and all the work of one job, in arbitrary units."""


class Targets:
    """The files that a command will write, each only once and none over a file that it reads.

    Args:
        inputs: The files that the command reads.
    """

    def __init__(self, inputs: Iterable[Path]) -> None:
        self._inputs = {resolved(path) for path in inputs}
        self._sources: dict[Path, Path] = {}

    def claim(self, path: Path, *, source: Path) -> None:
        """Add a file.

        Args:
            path: Where it will be written.
            source: The image whose result it holds.

        Raises:
            ValueError: It was added before, or would overwrite an input.
            OSError: Its folder cannot be written to.
        """
        place = resolved(path)
        if place in self._sources:
            raise ValueError(
                f"{self._sources[place]} and {source} would both be written to {path}; use different folders."
            )
        if place in self._inputs:
            raise ValueError(f"{path} is one of the inputs and would be overwritten; choose another --output.")
        if path.is_dir():
            raise IsADirectoryError(
                f"{path} cannot be written: a folder has that name; move it, or choose another --output."
            )
        # Missing folders are created later, below the nearest one that exists: its permissions decide.
        existing = next(folder for folder in place.parents if folder.exists())
        if not existing.is_dir():
            raise NotADirectoryError(f"{path} cannot be written: {existing} is a file, not a folder.")
        if not os.access(existing, os.W_OK):
            raise PermissionError(f"{path} cannot be written: there is no permission to write into {existing}.")
        self._sources[place] = source


def run_jobs(
    jobs: Sequence[Job],
    *,
    read: Callable[[Job], Material],
    work: Callable[[Material, OnProgress], Result],
    write: Callable[[Job, Result], None],
    bar: Progress,
    description: str,
) -> Iterator[tuple[Job, Result | Exception, dict[str, float]]]:
    """Work on each job, while the next job's files are read and the previous one's are written.

    Args:
        jobs: In the order in which they are done.
        read: Reads the material of a job.
        work: Computes the result from the material; calls its second argument with the progress.
        write: Writes the result into files.
        bar: Shows the progress of all jobs.
        description: The work, in words for the bar.

    Yields:
        The job, its result or the error that it failed with, and the seconds of each stage (`read`, `work`, `write`).
    """
    task = bar.add_task(description, total=len(jobs))
    # One thread each for reading and writing; the work stays in the caller's thread.
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead = reader.submit(_timed, read, jobs[0]) if jobs else None
        behind: tuple[Job, Result, dict[str, float], Future[tuple[None, float]]] | None = None
        for number, job in enumerate(jobs):
            assert ahead is not None
            # Submitted before this job's work begins, so that the next files are read meanwhile.
            current, ahead = ahead, (reader.submit(_timed, read, jobs[number + 1]) if number + 1 < len(jobs) else None)

            def on_progress(done: int, total: int, number: int = number) -> None:
                bar.update(task, completed=number + done / max(total, 1))

            outcome: Result | Exception
            try:
                material, read_seconds = current.result()
                outcome, work_seconds = _timed(work, material, on_progress)
            except Exception as error:  # one file that a library stumbles over does not end the others
                outcome = named(error, job)
            bar.update(task, completed=number + 1)
            # Wait for the previous job's files before submitting this one's: jobs are yielded in their order, and at
            # most one result waits to be written.
            if behind is not None:
                yield _written(*behind)
                behind = None
            if isinstance(outcome, Exception):
                yield job, outcome, {}
            else:
                seconds = {"read": read_seconds, "work": work_seconds}
                behind = job, outcome, seconds, writer.submit(_timed, write, job, outcome)
        if behind is not None:
            yield _written(*behind)


def _timed(function: Callable[..., Result], *arguments: object) -> tuple[Result, float]:
    start = time.perf_counter()
    return function(*arguments), time.perf_counter() - start


def _written(
    job: Job, result: Result, seconds: dict[str, float], future: Future[tuple[None, float]]
) -> tuple[Job, Result | Exception, dict[str, float]]:
    try:
        return job, result, {**seconds, "write": future.result()[1]}
    except Exception as error:  # see `run_jobs`
        return job, named(error, job), {}


def named(error: Exception, job: object) -> Exception:
    """Return an error whose message says the file: of ours as it is, of others with its kind and the job's image."""
    if isinstance(error, (ValueError, OSError)):
        return error
    return RuntimeError(f"{getattr(job, 'image', job)} could not be done ({type(error).__name__}: {error}).")

"""`segscape segment`: label maps for files, folders and globs."""

from __future__ import annotations

import argparse
import glob
import statistics
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Column, Table

from segscape.cli.progress import progress
from segscape.inference.segmenter import Segmentation, Segmenter
from segscape.rasters.image import IMAGE_SUFFIXES, read_image, write_image

DEFAULT_WEIGHTS = "stdc1_seg.camvid"

_STAGES = ("read", "network", "labels", "write")
# Images with a row of their own in the table.
_LISTED = 20


@dataclass(frozen=True)
class Job:
    """One image to segment.

    Attributes:
        image: The file to read.
        labels: The label PNG to write.
        overlay: The overlay to write, or nothing.
    """

    image: Path
    labels: Path
    overlay: Path | None


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="segscape segment", description="Segment images and write a label PNG with a palette for each."
    )
    parser.add_argument("images", nargs="+", help="image files, folders (searched with their subfolders) or globs")
    parser.add_argument("--weights", default=DEFAULT_WEIGHTS, help="a name or a weights file (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="the folder to write to")
    parser.add_argument(
        "--overlay", action="store_true", help="also write <name>_overlay.jpg, the image in class colours"
    )
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU where there is one)")
    return parser


def main(words: list[str]) -> int:
    """Run `segscape segment`; 1 where an image failed, after the others were done."""
    arguments = parser().parse_args(words[1:])
    jobs = plan(arguments.images, arguments.output, with_overlay=arguments.overlay)
    segmenter = Segmenter.from_weights(arguments.weights, device=arguments.device)
    summaries: list[Summary] = []
    with progress() as bar:
        for job, result, seconds in bar.track(run_jobs(segmenter, jobs), total=len(jobs), description="segmenting"):
            if isinstance(result, Segmentation):
                summaries.append(Summary.of(job, result, seconds))
            else:
                bar.console.print(f"error: {result}", markup=False, highlight=False, soft_wrap=True)
    console = Console(soft_wrap=True, highlight=False)
    if summaries:
        console.print(timing_table(summaries))
    console.print(f"{len(summaries)} label map(s) in {arguments.output}")
    failed = len(jobs) - len(summaries)
    if failed:
        console.print(f"{failed} of {len(jobs)} image(s) could not be segmented; the messages above say why.")
    return 1 if failed else 0


@dataclass(frozen=True)
class Summary:
    """What is kept of a result when its pixels are written.

    Attributes:
        name: The image's file name.
        size: (height, width).
        seconds: Of each stage.
        shares: The share of each class among the pixels, by name.
    """

    name: str
    size: tuple[int, int]
    seconds: dict[str, float]
    shares: dict[str, float]

    @classmethod
    def of(cls, job: Job, result: Segmentation, seconds: dict[str, float]) -> Summary:
        """The summary of one result."""
        height, width = result.labels.shape
        return cls(job.image.name, (height, width), seconds, result.shares())


def plan(inputs: Iterable[str], output: Path, *, with_overlay: bool) -> list[Job]:
    """What to read and where to write it, settled before any work is done.

    A folder's images keep their subfolders below `output`; any other file is written directly into it.

    Args:
        inputs: Files, folders or globs.
        output: The folder to write to.
        with_overlay: Whether overlays are wanted.

    Raises:
        FileNotFoundError: An input matches nothing.
        ValueError: Two images would be written to one file, or a result over an image.
    """
    found: dict[Path, Path] = {}
    for text in inputs:
        for image, place in _expand(text, output):
            found.setdefault(image, place)
    jobs = []
    taken: dict[Path, Path] = {}
    for image, place in found.items():
        target = output / place
        job = Job(
            image, target.with_suffix(".png"), target.with_name(f"{target.stem}_overlay.jpg") if with_overlay else None
        )
        for path in filter(None, (job.labels, job.overlay)):
            if path in taken:
                raise ValueError(
                    f"{taken[path]} and {image} would both be written to {path}; segment them into different folders."
                )
            taken[path] = image
        jobs.append(job)
    inside = {image.resolve() for image in found}
    for path in taken:
        if path.resolve() in inside:
            raise ValueError(f"{path} is an image to be segmented and would be overwritten; choose another --output.")
    return jobs


def _expand(text: str, output: Path) -> Iterator[tuple[Path, Path]]:
    """The images that an argument names, each with its place below the output folder.

    Of a folder, hidden files and what lies in the output folder do not count.
    """
    path = Path(text)
    if path.is_dir():
        files = (file for file in path.rglob("[!.]*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
        images = sorted(file for file in files if not file.resolve().is_relative_to(output.resolve()))
        if not images:
            raise FileNotFoundError(
                f"There are no images in {path}; known suffixes are {' '.join(sorted(IMAGE_SUFFIXES))}."
            )
        yield from ((image, image.relative_to(path)) for image in images)
    elif path.exists() or not glob.has_magic(text):
        # A file that does not exist fails later, alone, with its own message.
        yield path, Path(path.name)
    else:
        images = sorted(Path(match) for match in glob.glob(text, recursive=True) if Path(match).is_file())
        if not images:
            raise FileNotFoundError(f"Nothing matches {text}.")
        yield from ((image, Path(image.name)) for image in images)


def run_jobs(segmenter: Segmenter, jobs: list[Job]) -> Iterator[tuple[Job, Segmentation | Exception, dict[str, float]]]:
    """Segment each job, reading the next image and writing the last one meanwhile.

    Yields:
        The job, its result or the error that it failed with, and the seconds of each stage (`read`, `network`,
        `labels`, `write`), in the order of the jobs.
    """
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead = reader.submit(_read, jobs[0]) if jobs else None
        behind: tuple[Job, Segmentation, dict[str, float], Future[float]] | None = None
        for number, job in enumerate(jobs):
            assert ahead is not None
            current, ahead = ahead, (reader.submit(_read, jobs[number + 1]) if number + 1 < len(jobs) else None)
            outcome: Segmentation | Exception
            try:
                image, read_seconds = current.result()
                outcome = segmenter.segment(image)
            except (ValueError, OSError, RuntimeError) as error:
                outcome = error
            if behind is not None:
                yield _written(*behind)
                behind = None
            if isinstance(outcome, Exception):
                yield job, outcome, {}
            else:
                seconds = {**outcome.seconds, "read": read_seconds}
                behind = job, outcome, seconds, writer.submit(_write, job, outcome)
        if behind is not None:
            yield _written(*behind)


def _read(job: Job) -> tuple[npt.NDArray[np.uint8], float]:
    start = time.perf_counter()
    return read_image(job.image), time.perf_counter() - start


def _write(job: Job, result: Segmentation) -> float:
    start = time.perf_counter()
    result.save(job.labels)
    if job.overlay is not None:
        write_image(job.overlay, result.overlay())
    return time.perf_counter() - start


def _written(
    job: Job, result: Segmentation, seconds: dict[str, float], future: Future[float]
) -> tuple[Job, Segmentation | Exception, dict[str, float]]:
    try:
        return job, result, {**seconds, "write": future.result()}
    except (ValueError, OSError) as error:
        return job, error, {}


def timing_table(summaries: list[Summary]) -> Table:
    """Milliseconds of every stage and the three largest classes of the first images, and the medians of all."""
    table = Table(Column("image", no_wrap=True), "size", *_STAGES, "largest classes", title="milliseconds")
    for summary in summaries[:_LISTED]:
        largest = sorted(summary.shares.items(), key=lambda item: -item[1])[:3]
        table.add_row(
            summary.name,
            f"{summary.size[1]} x {summary.size[0]}",
            *(f"{1000 * summary.seconds[stage]:.0f}" for stage in _STAGES),
            ", ".join(f"{name} {share:.0%}" for name, share in largest),
        )
    table.add_section()
    medians = (statistics.median(summary.seconds[stage] for summary in summaries) for stage in _STAGES)
    table.add_row(f"median of {len(summaries)}", "", *(f"{1000 * median:.0f}" for median in medians), "")
    return table

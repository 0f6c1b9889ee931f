"""`segscape segment`: label maps for files, folders and globs."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from segscape.cli.jobs import OnProgress, Targets, find_images, run_jobs
from segscape.cli.progress import progress
from segscape.cli.refine import DEFAULT_WEIGHTS as DEFAULT_REFINER
from segscape.cli.refine import load_refiner, pixels
from segscape.inference.class_maps import CLASS_BAND, refine_classes
from segscape.inference.refiner import Refiner
from segscape.inference.segmenter import Segmentation, Segmenter
from segscape.rasters.image import read_image, write_image

DEFAULT_WEIGHTS = "stdc1_seg.camvid"

_STAGES = ("read", "network", "labels", "refine", "write")
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
    parser.add_argument("--refine", action="store_true", help="make every class follow the image's edges afterwards")
    parser.add_argument(
        "--refine-weights", metavar="NAME", help=f"a name or a weights file (default: {DEFAULT_REFINER})"
    )
    parser.add_argument(
        "--band", type=pixels, metavar="PIXELS", help=f"refine only so near to a class's edge (default: {CLASS_BAND})"
    )
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU where there is one)")
    return parser


def main(words: list[str]) -> int:
    """Run `segscape segment`; 1 where an image failed, after the others were done."""
    arguments = parser().parse_args(words[1:])
    if not arguments.refine and (arguments.refine_weights or arguments.band):
        raise ValueError("--refine-weights and --band are for --refine, which is missing.")
    jobs = plan(arguments.images, arguments.output, with_overlay=arguments.overlay)
    segmenter = Segmenter.from_weights(arguments.weights, device=arguments.device)
    refiner = None
    if arguments.refine:
        refiner = load_refiner(arguments.refine_weights or DEFAULT_REFINER, arguments.device)
    summaries: list[Summary] = []
    with progress() as bar:
        for job, result in segment_jobs(segmenter, jobs, bar, refiner=refiner, band=arguments.band or CLASS_BAND):
            if isinstance(result, Segmentation):
                summaries.append(Summary.of(job, result))
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
    def of(cls, job: Job, result: Segmentation) -> Summary:
        """The summary of one result of `segment_jobs`."""
        height, width = result.labels.shape
        return cls(job.image.name, (height, width), dict(result.seconds), result.shares())


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
        OSError: There is no permission to write.
    """
    found: dict[Path, Path] = {}
    for text in inputs:
        for image, place in find_images(text, output):
            found.setdefault(image, place)
    jobs = []
    targets = Targets(found)
    for image, place in found.items():
        target = output / place
        overlay = target.with_name(f"{target.stem}_overlay.jpg") if with_overlay else None
        job = Job(image, target.with_suffix(".png"), overlay)
        for path in filter(None, (job.labels, job.overlay)):
            targets.claim(path, source=image)
        jobs.append(job)
    return jobs


def segment_jobs(
    segmenter: Segmenter, jobs: list[Job], bar: Progress, *, refiner: Refiner | None = None, band: int = CLASS_BAND
) -> Iterator[tuple[Job, Segmentation | Exception]]:
    """Segment each job, and refine its classes.

    Args:
        segmenter: Gives the labels.
        jobs: In the order in which they are done.
        bar: Shows how far all of it is.
        refiner: Makes the labels follow the edges, where it is wanted.
        band: See `Refiner.refine`.

    Yields:
        The job, and its result, with the seconds of reading, refining and writing beside the segmenter's own, or the
        error that it failed with.
    """

    def work(image: npt.NDArray[np.uint8], on_progress: OnProgress) -> Segmentation:
        result = segmenter.segment(image)
        if refiner is None:
            return result
        start = time.perf_counter()
        labels = refine_classes(refiner, image, result.labels, band=band, on_progress=on_progress)
        return replace(result, labels=labels, seconds={**result.seconds, "refine": time.perf_counter() - start})

    steps = run_jobs(
        jobs, read=lambda job: read_image(job.image), work=work, write=_write, bar=bar, description="segmenting"
    )
    for job, result, seconds in steps:
        if isinstance(result, Segmentation):
            times = {**result.seconds, "read": seconds["read"], "write": seconds["write"]}
            yield job, replace(result, seconds=times)
        else:
            yield job, result


def _write(job: Job, result: Segmentation) -> None:
    result.save(job.labels)
    if job.overlay is not None:
        write_image(job.overlay, result.overlay())


def timing_table(summaries: list[Summary]) -> Table:
    """Milliseconds of every stage and the three largest classes of the first images, and the medians of all."""
    stages = [stage for stage in _STAGES if stage in summaries[0].seconds]
    table = Table(Column("image", no_wrap=True), "size", *stages, "largest classes", title="milliseconds")
    for summary in summaries[:_LISTED]:
        largest = sorted(summary.shares.items(), key=lambda item: -item[1])[:3]
        table.add_row(
            summary.name,
            f"{summary.size[1]} x {summary.size[0]}",
            *(f"{1000 * summary.seconds[stage]:.0f}" for stage in stages),
            ", ".join(f"{name} {share:.0%}" for name, share in largest),
        )
    table.add_section()
    medians = (statistics.median(summary.seconds[stage] for summary in summaries) for stage in stages)
    table.add_row(f"median of {len(summaries)}", "", *(f"{1000 * median:.0f}" for median in medians), "")
    return table

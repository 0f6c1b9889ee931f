"""Photographs segmented at once, one after the other, while the next is read and the last one written."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread

import numpy as np
import numpy.typing as npt
from rich.progress import Progress
from rich.table import Column, Table

from segscape.cli.jobs.files import OnProgress, run_jobs
from segscape.rasters.image import read_image, write_image
from segscape.refinement.class_maps import CLASS_BAND, refine_classes
from segscape.refinement.refiner import Refiner
from segscape.segmentation.segmenter import Segmentation, Segmenter
from segscape.segmentation.upsampling.argmax import load_kernels

_STAGES = ("read", "network", "labels", "refine", "write")
# Images with a row of their own in the table.
_LISTED = 20


@dataclass(frozen=True)
class PhotoJob:
    """One image to segment.

    Attributes:
        image: The file to read.
        labels: The label PNG to write.
        overlay: The overlay to write, or nothing.
    """

    image: Path
    labels: Path
    overlay: Path | None


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
    def of(cls, job: PhotoJob, result: Segmentation) -> Summary:
        """The summary of one result of `segment_photos`."""
        height, width = result.labels.shape
        return cls(job.image.name, (height, width), dict(result.seconds), result.shares())


def segment_photos(
    segmenter: Segmenter, jobs: list[PhotoJob], bar: Progress, *, refiner: Refiner | None = None, band: int = CLASS_BAND
) -> Iterator[tuple[PhotoJob, Segmentation | Exception]]:
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

    Thread(target=load_kernels, daemon=True).start()
    steps = run_jobs(
        jobs, read=lambda job: read_image(job.image), work=work, write=_write, bar=bar, description="segmenting"
    )
    for job, result, seconds in steps:
        if isinstance(result, Segmentation):
            times = {**result.seconds, "read": seconds["read"], "write": seconds["write"]}
            yield job, replace(result, seconds=times)
        else:
            yield job, result


def _write(job: PhotoJob, result: Segmentation) -> None:
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

"""Photographs segmented as a whole, one after the other, while the next is read and the previous one written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread

import numpy as np
import numpy.typing as npt
from rich.progress import Progress
from rich.table import Table

from segscape.choices import CLASS_BAND
from segscape.cli.jobs.files import OnProgress, run_jobs
from segscape.cli.timing import Timing, timing_table
from segscape.rasters.image import read_image, write_image
from segscape.refinement.class_maps import refine_classes
from segscape.refinement.refiner import Refiner
from segscape.segmentation.segmenter import Segmentation, Segmenter
from segscape.segmentation.upsampling.argmax import load_kernels

_STAGES = ("read", "network", "labels", "refine", "write")
_CLASSES_LISTED = 3


@dataclass(frozen=True)
class PhotoJob:
    """One image to segment.

    Attributes:
        image: The file to read.
        labels: The label PNG to write.
        overlay: The overlay to write, or None.
    """

    image: Path
    labels: Path
    overlay: Path | None


def segment_photos(
    segmenter: Segmenter, jobs: list[PhotoJob], bar: Progress, *, refiner: Refiner | None = None, band: int = CLASS_BAND
) -> Iterator[tuple[PhotoJob, Segmentation | Exception]]:
    """Segment each job, and refine its classes.

    Args:
        segmenter: Computes the labels.
        jobs: In the order in which they are done.
        bar: Shows the progress of all jobs.
        refiner: Refines the labels along the image's edges, if given.
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

    # Loading takes up to a second, during which the first photograph is read and the network runs. For one it is not
    # worth its while, see `Upsampling.argmax`.
    if len(jobs) > 1:
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


def photo_timing(job: PhotoJob, result: Segmentation) -> Timing:
    """Return the times and the largest classes of one result of `segment_photos`."""
    largest = sorted(result.shares().items(), key=lambda item: -item[1])[:_CLASSES_LISTED]
    height, width = result.labels.shape
    classes = ", ".join(f"{name} {share:.0%}" for name, share in largest)
    return Timing(job.image.name, (height, width), dict(result.seconds), classes)


def photo_timing_table(timings: Sequence[Timing]) -> Table:
    """Return the table of milliseconds per stage: the first photographs with their largest classes, and medians."""
    stages = {stage: stage for stage in _STAGES}
    return timing_table(timings, stages, outcome="largest classes", unit="milliseconds")

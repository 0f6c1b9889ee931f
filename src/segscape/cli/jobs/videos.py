"""The conversion of videos, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from segscape.concurrency import BackgroundWriter, Prefetcher
from segscape.rasters.video import IncompleteVideoError, VideoSink, VideoSource
from segscape.segmentation.segmenter import Segmentation, Segmenter
from segscape.viz.overlay import colourise

Result = TypeVar("Result")
Frame = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, red, green, blue."""
Drawing = Callable[[Result], Frame]
"""Draws the frame of a result."""


@dataclass(frozen=True)
class VideoJob:
    """One video to segment.

    Attributes:
        video: The file to read.
        labels: The video of the classes' colours to write.
        overlay: The video under its classes' colours to write, or None.
    """

    video: Path
    labels: Path
    overlay: Path | None


def segment_video(segmenter: Segmenter, job: VideoJob, bar: Progress) -> int:
    """Segment a video; see `convert_video`."""
    drawings: dict[Path, Drawing[Segmentation]] = {
        job.labels: lambda result: colourise(result.labels, result.palette),
    }
    if job.overlay is not None:
        drawings[job.overlay] = Segmentation.overlay
    return convert_video(job.video, segmenter.segment, drawings, bar)


def convert_video(
    video: Path, work: Callable[[Frame], Result], drawings: Mapping[Path, Drawing[Result]], bar: Progress
) -> int:
    """Convert a video into others, frame by frame, with its times and its sound; each appears whole or not at all.

    Args:
        video: The file to read.
        work: Computes the result of a frame.
        drawings: For each file to write, the function that draws its frame from a result, of the size of the video.
        bar: Shows the number of frames done.

    Returns:
        The number of frames.

    Raises:
        ValueError: The video is damaged.
        IncompleteVideoError: It ends early; the files are written, as long as it.
        OSError: A file cannot be written.
    """
    source = VideoSource(video)
    task = bar.add_task(f"{video.name}, frames", total=source.frames)
    count = 0
    incomplete: IncompleteVideoError | None = None
    try:
        with ExitStack() as opened:
            sinks = {opened.enter_context(VideoSink.like(source, path)): draw for path, draw in drawings.items()}
            writer = opened.enter_context(BackgroundWriter())
            try:
                for frame in opened.enter_context(Prefetcher(iter(source))):
                    writer(_write, sinks, work(frame.pixels), frame.time)
                    count += 1
                    bar.update(task, completed=count)
            except IncompleteVideoError as error:
                incomplete = error
    finally:
        bar.remove_task(task)
    if incomplete is not None:
        raise IncompleteVideoError(f"{incomplete} What is before it is in {', '.join(map(str, drawings))}.")
    return count


def _write(sinks: Mapping[VideoSink, Drawing[Result]], result: Result, time: Fraction) -> None:
    for sink, draw in sinks.items():
        sink.write(draw(result), time)

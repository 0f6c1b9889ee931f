"""Videos segmented frame by frame."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from segscape.inference.scene.threads import Ahead, Behind
from segscape.inference.segmenter import Segmenter
from segscape.rasters.video import VideoSink, VideoSource
from segscape.viz.overlay import colourise

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})
"""Suffixes of the files that are taken for videos, in lower case."""


@dataclass(frozen=True)
class VideoJob:
    """One video to segment.

    Attributes:
        video: The file to read.
        labels: The video of the classes' colours to write.
        overlay: The video under its classes' colours to write, or nothing.
    """

    video: Path
    labels: Path
    overlay: Path | None


def segment_video(segmenter: Segmenter, job: VideoJob, bar: Progress) -> int:
    """Segment a video; what is written appears whole or not at all.

    Args:
        segmenter: Gives the labels.
        job: What to read and write.
        bar: Shows the frames that are done.

    Returns:
        The number of frames.

    Raises:
        ValueError: The video is damaged.
        OSError: A file cannot be written.
    """
    source = VideoSource(job.video)
    task = bar.add_task(f"{job.video.name}, frames", total=source.frames)
    count = 0
    try:
        with ExitStack() as opened:
            sink = opened.enter_context(VideoSink(job.labels, source.size, source.frame_rate))
            over = job.overlay and opened.enter_context(VideoSink(job.overlay, source.size, source.frame_rate))
            behind = opened.enter_context(Behind())
            for frame in opened.enter_context(Ahead(iter(source))):
                result = segmenter.segment(frame)
                behind(sink.write, colourise(result.labels, result.palette))
                if over:
                    behind(over.write, result.overlay())
                count += 1
                bar.update(task, completed=count)
    finally:
        bar.remove_task(task)
    return count

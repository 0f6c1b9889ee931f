"""`segscape cutout`: the main object of photographs and videos, on transparency or on another background."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import Progress

from segscape.choices import REFINER_WEIGHTS
from segscape.cli.jobs.files import OnProgress, Targets, run_jobs
from segscape.cli.jobs.videos import Drawing, Frame, convert_video
from segscape.cli.output import Output, record_failure
from segscape.cli.progress import progress, show_error
from segscape.cli.run import saying_how_to_go_on, status_of
from segscape.cli.runtimes import calibration_images, print_choice
from segscape.cli.timing import Timing, timing_table
from segscape.cutout.background import Background, as_background
from segscape.cutout.cutter import CutOut, Cutter
from segscape.rasters.image import read_image, write_image
from segscape.rasters.suffixes import VIDEO_SUFFIXES
from segscape.refinement.refiner import Refiner
from segscape.segmentation.segmenter import Segmenter

_STAGES = {stage: stage for stage in ("read", "network", "refine", "write")}


@dataclass(frozen=True)
class CutoutJob:
    """One photograph or video.

    Attributes:
        source: The file to read.
        cut_out: The file to write with the object alone; None for a video without a background.
        mask: The file to write with the opacity, or None.
    """

    source: Path
    cut_out: Path | None
    mask: Path | None

    @property
    def targets(self) -> list[Path]:
        """The files to write."""
        return [path for path in (self.cut_out, self.mask) if path is not None]


@dataclass
class Tally:
    """The outcome of all jobs.

    Attributes:
        timings: One for each photograph that did not fail.
        empty: The number of photographs and videos in which nothing was found.
        failed: The number of photographs and videos that failed.
    """

    timings: list[Timing] = field(default_factory=list)
    empty: int = 0
    failed: int = 0


def run(arguments: argparse.Namespace) -> int:
    """Run `segscape cutout`; an input that fails does not end the others."""
    output = Output(arguments)
    background = None if arguments.background is None else as_background(arguments.background)
    photos, videos, skipped = plan(arguments)
    if arguments.dry_run:
        for job in [*photos, *videos]:
            output.console.print(f"{job.source} -> {', '.join(map(str, job.targets))}")
            output.record("plan", image=job.source, cutout=job.cut_out, mask=job.mask)
        return 0
    tally = Tally()
    total = len(photos) + len(videos)
    if total:
        cutter = _load(arguments, [job.source for job in photos])
        print_choice(cutter.segmenter, output.console)
        with saying_how_to_go_on(), progress(quiet=output.quiet) as bar:
            _cut_photos(cutter, photos, background, arguments.band, bar, output, tally)
            for video in videos:
                _cut_video(cutter, video, background, arguments.band, bar, output, tally)
    if tally.timings:
        output.console.print(timing_table(tally.timings, _STAGES, image="photograph", outcome="object"))
    done = total - tally.failed
    nothing = f", {tally.empty} of them empty, as nothing was found" if tally.empty else ""
    output.console.print(f"{done} cut-out(s) in {arguments.output}{nothing}")
    if skipped:
        output.console.print(f"{skipped} input(s) left out, as their files are there already.")
    if tally.failed:
        output.console.print(f"{tally.failed} of {total} input(s) could not be cut out; the messages above say why.")
    output.record("summary", done=done, empty=tally.empty, skipped=skipped, failed=tally.failed)
    return status_of(done + skipped, tally.failed)


def plan(arguments: argparse.Namespace) -> tuple[list[CutoutJob], list[CutoutJob], int]:
    """Plan which files to read and to write, before any work is done.

    A folder's photographs keep their subfolders below the output; any other file is written directly into it.

    Args:
        arguments: As `segscape.arguments.cutout.check` leaves them.

    Returns:
        The photographs, the videos, and how many are left out, as their files are there already.

    Raises:
        ValueError: Two results would be written to one file, or one over an input; or a video would need transparency.
        OSError: There is no permission to write.
    """
    targets = Targets([*arguments.found, *map(Path, filter(None, [arguments.background]))])
    photos: list[CutoutJob] = []
    videos: list[CutoutJob] = []
    skipped = 0
    for source, place in arguments.found.items():
        is_video = source.suffix.lower() in VIDEO_SUFFIXES
        if is_video and not (arguments.background or arguments.mask):
            raise ValueError(
                f"{source} is a video, and those that are written have no transparency: give a --background, or --mask "
                "for the opacity alone."
            )
        suffix = ".mp4" if is_video else ".png"
        target = arguments.output / place
        with_object = not is_video or arguments.background is not None
        job = CutoutJob(
            source,
            target.with_name(f"{target.stem}_cutout{suffix}") if with_object else None,
            target.with_name(f"{target.stem}_mask{suffix}") if arguments.mask else None,
        )
        for path in job.targets:
            targets.claim(path, source=source)
        if arguments.skip_existing and all(path.is_file() for path in job.targets):
            skipped += 1
        else:
            (videos if is_video else photos).append(job)
    return photos, videos, skipped


def _load(arguments: argparse.Namespace, photographs: Sequence[Path]) -> Cutter:
    segmenter = Segmenter.from_weights(
        arguments.weights,
        arguments.device,
        runtime=arguments.runtime,
        precision=arguments.precision,
        calibration=calibration_images(arguments, photographs),
    )
    refiner = None
    if not arguments.no_refine:
        refiner = Refiner.from_weights(arguments.refine_weights or REFINER_WEIGHTS, arguments.device)
    return Cutter(segmenter, refiner)


def _cut_photos(
    cutter: Cutter,
    jobs: list[CutoutJob],
    background: Background | None,
    band: int | None,
    bar: Progress,
    output: Output,
    tally: Tally,
) -> None:
    def work(image: Frame, on_progress: OnProgress) -> CutOut:
        return cutter.cut_out(image, band=band, on_progress=on_progress)

    steps = run_jobs(
        jobs,
        read=lambda job: read_image(job.source),
        work=work,
        write=partial(_write, background=background),
        bar=bar,
        description="cutting out",
    )
    for job, result, seconds in steps:
        if not isinstance(result, CutOut):
            show_error(bar, result)
            record_failure(output, job.source, result)
            tally.failed += 1
            continue
        if not result.found:
            _say_empty(bar, job)
            tally.empty += 1
        height, width = result.mask.shape
        times = {**result.seconds, "read": seconds["read"], "write": seconds["write"]}
        share = f"{float(result.mask.mean()):.0%}" if result.found else "nothing"
        tally.timings.append(Timing(job.source.name, (height, width), times, share))
        files = {"image": job.source, "cutout": job.cut_out, "mask": job.mask}
        output.record("cutout", status="done", **files, found=result.found, size=(height, width), seconds=times)


def _write(job: CutoutJob, result: CutOut, background: Background | None) -> None:
    assert job.cut_out is not None
    result.save(job.cut_out, background)
    if job.mask is not None:
        write_image(job.mask, result.grey())


def _cut_video(
    cutter: Cutter,
    job: CutoutJob,
    background: Background | None,
    band: int | None,
    bar: Progress,
    output: Output,
    tally: Tally,
) -> None:
    drawings: dict[Path, Drawing[CutOut]] = {}
    if job.cut_out is not None and background is not None:
        drawings[job.cut_out] = partial(CutOut.on, background=background)
    if job.mask is not None:
        drawings[job.mask] = lambda result: np.repeat(result.grey()[..., None], 3, axis=2)
    found = False

    def work(frame: Frame) -> CutOut:
        nonlocal found
        result = cutter.cut_out(frame, band=band)
        found |= result.found
        return result

    try:
        frames = convert_video(job.source, work, drawings, bar)
    except (ValueError, OSError) as error:
        show_error(bar, error)
        record_failure(output, job.source, error)
        tally.failed += 1
        return
    if not found:
        _say_empty(bar, job)
        tally.empty += 1
    output.record("video", status="done", video=job.source, cutout=job.cut_out, mask=job.mask, frames=frames)


def _say_empty(bar: Progress, job: CutoutJob) -> None:
    bar.console.print(f"{job.source}: nothing was found")

"""`segscape cutout`: the main object of photographs and videos, on transparency or on another background."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import Progress

from segscape.cli.arguments import pixels
from segscape.cli.commands.refine import load_refiner
from segscape.cli.console import PlainConsole
from segscape.cli.jobs.files import OnProgress, Targets, find_images, run_jobs
from segscape.cli.jobs.videos import VIDEO_SUFFIXES, Drawing, Frame, convert_video
from segscape.cli.progress import progress, show_error
from segscape.cli.runtimes import add_runtime, calibration_images, print_choice
from segscape.cli.timing import Timing, timing_table
from segscape.cutout.background import Background, as_background
from segscape.cutout.cutter import DEFAULT_WEIGHTS, CutOut, Cutter
from segscape.rasters.image import read_image, write_image
from segscape.refinement.refiner import DEFAULT_WEIGHTS as DEFAULT_REFINER
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


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="segscape cutout",
        description="Cut out the main object of photographs: <name>_cutout.png is the object on transparency, of the "
        "photograph's own size.",
    )
    parser.add_argument("photos", nargs="+", help="files, folders (searched for images with their subfolders) or globs")
    parser.add_argument("--output", type=Path, required=True, help="the folder to write to")
    parser.add_argument(
        "--background",
        metavar="COLOUR|PICTURE",
        help="put the object on a colour, such as white or '#ff8800', or on a picture, which is cropped to fit",
    )
    parser.add_argument("--mask", action="store_true", help="also write <name>_mask.png, the opacity from 0 to 255")
    parser.add_argument("--weights", default=DEFAULT_WEIGHTS, help="a name or a weights file (default: %(default)s)")
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU where there is one)")
    add_runtime(parser)
    refining = parser.add_argument_group("refinement")
    refining.add_argument("--no-refine", action="store_true", help="write the mask of the first network as it is")
    refining.add_argument(
        "--refine-weights", metavar="NAME", help=f"a name or a weights file (default: {DEFAULT_REFINER})"
    )
    refining.add_argument(
        "--band",
        type=pixels,
        metavar="PIXELS",
        help="refine only so near to the mask's edge (default: a 32nd of the photograph's shorter side)",
    )
    return parser


def main(words: list[str]) -> int:
    """Run `segscape cutout`; return 1 if an input failed, after all others are done."""
    arguments = parser().parse_args(words[1:])
    if arguments.no_refine and (arguments.refine_weights or arguments.band):
        raise ValueError("--refine-weights and --band are for refinement, which --no-refine leaves out.")
    background = None if arguments.background is None else as_background(arguments.background)
    photos, videos = plan(arguments)
    cutter = _load(arguments, [job.source for job in photos])
    console = PlainConsole()
    print_choice(cutter.segmenter, console)
    tally = Tally()
    with progress() as bar:
        _cut_photos(cutter, photos, background, arguments.band, bar, tally)
        for video in videos:
            _cut_video(cutter, video, background, arguments.band, bar, tally)
    if tally.timings:
        console.print(timing_table(tally.timings, _STAGES, image="photograph", outcome="object"))
    total = len(photos) + len(videos)
    nothing = f", {tally.empty} of them empty, as nothing was found" if tally.empty else ""
    console.print(f"{total - tally.failed} cut-out(s) in {arguments.output}{nothing}")
    if tally.failed:
        console.print(f"{tally.failed} of {total} input(s) could not be cut out; the messages above say why.")
    return 1 if tally.failed else 0


def plan(arguments: argparse.Namespace) -> tuple[list[CutoutJob], list[CutoutJob]]:
    """Plan which files to read and to write, before any work is done.

    A folder's photographs keep their subfolders below the output; any other file is written directly into it.

    Args:
        arguments: As the parser returns them.

    Returns:
        The photographs and the videos.

    Raises:
        FileNotFoundError: An input matches nothing.
        ValueError: Two results would be written to one file, or one over an input; or a video would need transparency.
        OSError: There is no permission to write.
    """
    output = arguments.output
    found: dict[Path, Path] = {}
    for text in arguments.photos:
        for source, place in find_images(text, output):
            found.setdefault(source, place)
    targets = Targets([*found, *map(Path, filter(None, [arguments.background]))])
    photos: list[CutoutJob] = []
    videos: list[CutoutJob] = []
    for source, place in found.items():
        is_video = source.suffix.lower() in VIDEO_SUFFIXES
        if is_video and not (arguments.background or arguments.mask):
            raise ValueError(
                f"{source} is a video, and those that are written have no transparency: give a --background, or --mask "
                "for the opacity alone."
            )
        suffix = ".mp4" if is_video else ".png"
        target = output / place
        with_object = not is_video or arguments.background is not None
        job = CutoutJob(
            source,
            target.with_name(f"{target.stem}_cutout{suffix}") if with_object else None,
            target.with_name(f"{target.stem}_mask{suffix}") if arguments.mask else None,
        )
        for path in filter(None, (job.cut_out, job.mask)):
            targets.claim(path, source=source)
        (videos if is_video else photos).append(job)
    return photos, videos


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
        refiner = load_refiner(arguments.refine_weights or DEFAULT_REFINER, arguments.device)
    return Cutter(segmenter, refiner)


def _cut_photos(
    cutter: Cutter, jobs: list[CutoutJob], background: Background | None, band: int | None, bar: Progress, tally: Tally
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
            tally.failed += 1
            continue
        if not result.found:
            _say_empty(bar, job)
            tally.empty += 1
        height, width = result.mask.shape
        times = {**result.seconds, "read": seconds["read"], "write": seconds["write"]}
        share = f"{float(result.mask.mean()):.0%}" if result.found else "nothing"
        tally.timings.append(Timing(job.source.name, (height, width), times, share))


def _write(job: CutoutJob, result: CutOut, background: Background | None) -> None:
    assert job.cut_out is not None
    result.save(job.cut_out, background)
    if job.mask is not None:
        write_image(job.mask, result.grey())


def _cut_video(
    cutter: Cutter, job: CutoutJob, background: Background | None, band: int | None, bar: Progress, tally: Tally
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
        convert_video(job.source, work, drawings, bar)
    except (ValueError, OSError) as error:
        show_error(bar, error)
        tally.failed += 1
        return
    if not found:
        _say_empty(bar, job)
        tally.empty += 1


def _say_empty(bar: Progress, job: CutoutJob) -> None:
    bar.console.print(f"{job.source}: nothing was found")

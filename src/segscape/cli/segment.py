"""`segscape segment`: label maps for images of any size, folders, globs and videos."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from PIL import Image
from rich.console import Console

from segscape.cli.arguments import bands, memory, numbers, pixels, scaling
from segscape.cli.jobs import Targets, find_images
from segscape.cli.photos import PhotoJob, Summary, segment_photos, timing_table
from segscape.cli.progress import progress
from segscape.cli.refine import DEFAULT_WEIGHTS as DEFAULT_REFINER
from segscape.cli.refine import load_refiner
from segscape.cli.scenes import SceneJob, plan_scenes, segment_scenes
from segscape.cli.videos import VIDEO_SUFFIXES, VideoJob, segment_video
from segscape.inference.class_maps import CLASS_BAND, refine_classes
from segscape.inference.memory import free_memory, resident
from segscape.inference.planner import fits_at_once
from segscape.inference.refiner import Refiner
from segscape.inference.scene.framing import looks
from segscape.inference.scene.output import SceneFiles
from segscape.inference.scenes import SceneSettings
from segscape.inference.segmenter import Segmentation, Segmenter
from segscape.rasters.geotiff import TIFF_SUFFIXES
from segscape.rasters.image import IMAGE_SUFFIXES

DEFAULT_WEIGHTS = "stdc1_seg.camvid"


@dataclass
class Jobs:
    """What is to be done, by the way in which it is.

    Attributes:
        photos: Images that are computed at once, with nothing but labels and overlays to write.
        scenes: All other images.
        videos: Videos.
    """

    photos: list[PhotoJob] = field(default_factory=list)
    scenes: list[SceneJob] = field(default_factory=list)
    videos: list[VideoJob] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.photos) + len(self.scenes) + len(self.videos)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="segscape segment",
        description="Segment images of any size, and write a label map with its colours for each: GeoTIFF for TIFF and "
        "other rasters, PNG for photographs, a video for a video. A large scene that was interrupted goes on when the "
        "same command is given again.",
    )
    parser.add_argument("images", nargs="+", help="files, folders (searched for images with their subfolders) or globs")
    parser.add_argument("--weights", default=DEFAULT_WEIGHTS, help="a name or a weights file (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="the folder to write to")
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU where there is one)")
    _add_outputs(parser)
    _add_scenes(parser)
    refining = parser.add_argument_group("refinement")
    refining.add_argument("--refine", action="store_true", help="make every class follow the image's edges afterwards")
    refining.add_argument(
        "--refine-weights", metavar="NAME", help=f"a name or a weights file (default: {DEFAULT_REFINER})"
    )
    refining.add_argument(
        "--band", type=pixels, metavar="PIXELS", help=f"refine only so near to a class's edge (default: {CLASS_BAND})"
    )
    return parser


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("further files")
    group.add_argument(
        "--overlay",
        action="store_true",
        help="also write <name>_overlay.jpg, the image in class colours; of large scenes reduced",
    )
    group.add_argument(
        "--confidence",
        action="store_true",
        help="also write <name>_confidence, 255 times the probability of the label",
    )
    group.add_argument(
        "--scores",
        action="store_true",
        help="also write <name>_scores.tif, 255 times the probability of every class, a band each",
    )
    group.add_argument("--polygons", choices=["gpkg", "geojson"], help="also write the classes' areas as polygons")
    group.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        metavar="UNITS",
        help="simplify polygons by so much, in units of the coordinate reference system (default: not at all)",
    )


def _add_scenes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("images of any size")
    group.add_argument(
        "--max-memory", type=memory, metavar="AMOUNT", help="such as 2GB or 4GiB (default: half of what is free)"
    )
    group.add_argument(
        "--context",
        choices=["scene", "window"],
        default="window",
        help="what a network's global means are taken of: the scene, however large, or windows of the training crops' "
        "size (default: %(default)s, the more accurate on what was measured; photographs that fit are always whole)",
    )
    group.add_argument("--dry-run", action="store_true", help="print how each image would be segmented, and stop")
    group.add_argument("--bands", type=bands, metavar="R,G,B", help="of a raster, from 1, such as 4,3,2 or 1")
    group.add_argument(
        "--scaling", type=scaling, metavar="LOW,HIGH", help="the values that become black and white, such as 0,3000"
    )
    group.add_argument(
        "--scales", type=numbers, default=(1.0,), metavar="S,S", help="average over the image at these scales"
    )
    group.add_argument("--flip", action="store_true", help="average over the image and its mirror image")


def main(words: list[str]) -> int:
    """Run `segscape segment`; 1 where an image failed, after the others were done."""
    arguments = parser().parse_args(words[1:])
    _check(arguments)
    jobs = plan(arguments.images, arguments.output, arguments)
    segmenter = Segmenter.from_weights(arguments.weights, device=arguments.device)
    settings = SceneSettings(
        memory=arguments.max_memory or resident() + free_memory(segmenter.device) // 2,
        context=arguments.context,
        looks=looks(arguments.scales, flip=arguments.flip),
        bands=arguments.bands,
        scaling=arguments.scaling,
    )
    console = Console(soft_wrap=True, highlight=False)
    _move_large(jobs, segmenter, settings.memory)
    if arguments.dry_run:
        every = [*(_as_scene(job) for job in jobs.photos), *jobs.scenes]
        return 1 if plan_scenes(segmenter, every, settings, console) else 0
    refiner = None
    if arguments.refine:
        refiner = load_refiner(arguments.refine_weights or DEFAULT_REFINER, arguments.device)
    failed = _run(jobs, segmenter, settings, refiner, arguments.band or CLASS_BAND)
    console.print(f"{len(jobs) - failed} label map(s) in {arguments.output}")
    if failed:
        console.print(f"{failed} of {len(jobs)} image(s) could not be segmented; the messages above say why.")
    return 1 if failed else 0


def _check(arguments: argparse.Namespace) -> None:
    if not arguments.refine and (arguments.refine_weights or arguments.band):
        raise ValueError("--refine-weights and --band are for --refine, which is missing.")
    if arguments.tolerance and not arguments.polygons:
        raise ValueError("--tolerance is for --polygons, which is missing.")
    if arguments.tolerance < 0:
        raise ValueError(f"--tolerance is a length and cannot be {arguments.tolerance:g}.")


def _run(jobs: Jobs, segmenter: Segmenter, settings: SceneSettings, refiner: Refiner | None, band: int) -> int:
    """Do all jobs, and say how many failed."""
    summaries: list[Summary] = []
    failed = 0
    with progress() as bar:
        if jobs.photos:
            for photo, result in segment_photos(segmenter, jobs.photos, bar, refiner=refiner, band=band):
                if isinstance(result, Segmentation):
                    summaries.append(Summary.of(photo, result))
                else:
                    failed += 1
                    bar.console.print(f"error: {result}", markup=False, highlight=False, soft_wrap=True)
        refine = None if refiner is None else partial(refine_classes, refiner, band=band)
        failed += segment_scenes(segmenter, jobs.scenes, settings, bar, refine=refine)
        for video in jobs.videos:
            try:
                segment_video(segmenter, video, bar)
            except (ValueError, OSError) as error:
                failed += 1
                bar.console.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
    if summaries:
        Console(soft_wrap=True, highlight=False).print(timing_table(summaries))
    return failed


def plan(inputs: Iterable[str], output: Path, wanted: argparse.Namespace) -> Jobs:
    """What to read and where to write it, settled before any work is done.

    A folder's images keep their subfolders below `output`; any other file is written directly into it.

    Args:
        inputs: Files, folders or globs.
        output: The folder to write to.
        wanted: Which files and what settings, as the parser gives them.

    Raises:
        FileNotFoundError: An input matches nothing.
        ValueError: Two images would be written to one file, a result over an image, or a video is to become what it
            cannot.
        OSError: There is no permission to write.
    """
    found: dict[Path, Path] = {}
    for text in inputs:
        for image, place in find_images(text, output):
            found.setdefault(image, place)
    jobs = Jobs()
    targets = Targets(found)
    for image, place in found.items():
        target = output / place
        if image.suffix.lower() in VIDEO_SUFFIXES:
            _refuse_for_video(image, wanted)
            overlay = target.with_name(f"{target.stem}_overlay.mp4") if wanted.overlay else None
            video = VideoJob(image, target.with_suffix(".mp4"), overlay)
            jobs.videos.append(video)
            paths = [video.labels, *filter(None, [video.overlay])]
        else:
            scene = SceneJob(image, _files(image, target, wanted))
            paths = scene.files.paths
            if _is_photo(image, wanted):
                jobs.photos.append(PhotoJob(image, scene.files.labels, scene.files.overlay))
            else:
                jobs.scenes.append(scene)
        for path in paths:
            targets.claim(path, source=image)
    return jobs


def _files(image: Path, target: Path, wanted: argparse.Namespace) -> SceneFiles:
    suffix = ".png" if image.suffix.lower() in IMAGE_SUFFIXES - TIFF_SUFFIXES else ".tif"

    def beside(is_wanted: bool, ending: str) -> Path | None:
        return target.with_name(f"{target.stem}{ending}") if is_wanted else None

    return SceneFiles(
        labels=target.with_suffix(suffix),
        confidence=beside(wanted.confidence, f"_confidence{suffix}"),
        scores=beside(wanted.scores, "_scores.tif"),
        polygons=beside(bool(wanted.polygons), f".{wanted.polygons}"),
        overlay=beside(wanted.overlay, "_overlay.jpg"),
        tolerance=wanted.tolerance,
    )


def _is_photo(image: Path, wanted: argparse.Namespace) -> bool:
    """Whether a plain label map of a plain photograph is wanted."""
    special = (
        *(wanted.confidence, wanted.scores, wanted.polygons, wanted.bands, wanted.scaling, wanted.flip),
        wanted.scales != (1.0,),
    )
    return image.suffix.lower() in IMAGE_SUFFIXES - TIFF_SUFFIXES and not any(special)


def _refuse_for_video(video: Path, wanted: argparse.Namespace) -> None:
    options = ("confidence", "scores", "polygons", "bands", "scaling", "flip", "refine", "dry_run")
    given = [f"--{name.replace('_', '-')}" for name in options if getattr(wanted, name)]
    if given:
        raise ValueError(f"{video} is a video, and {', '.join(given)} is for images only; leave out one of them.")


def _move_large(jobs: Jobs, segmenter: Segmenter, memory: int) -> None:
    """Treat photographs that cannot be computed at once as scenes."""
    photos = []
    for photo in jobs.photos:
        size = _claimed_size(photo.image)
        if size is None or fits_at_once(segmenter.deployed, size, memory=memory):
            photos.append(photo)
        else:
            jobs.scenes.append(_as_scene(photo))
    jobs.photos = photos


def _as_scene(photo: PhotoJob) -> SceneJob:
    return SceneJob(photo.image, SceneFiles(photo.labels, overlay=photo.overlay))


def _claimed_size(image: Path) -> tuple[int, int] | None:
    """The (height, width) that a file's head tells; nothing where it cannot be read, which reading it will explain."""
    try:
        with Image.open(image) as opened:
            return opened.height, opened.width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None

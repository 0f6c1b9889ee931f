"""`segscape segment`: label maps for images of any size, folders, globs and videos."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from rich.progress import Progress

from segscape.cli.arguments import bands, memory, numbers, pixels, scaling, scaling_of
from segscape.cli.commands.refine import load_refiner
from segscape.cli.console import PlainConsole
from segscape.cli.jobs.files import Targets, find_images
from segscape.cli.jobs.photographs import PhotoJob, photo_timing, photo_timing_table, segment_photos
from segscape.cli.jobs.scenes import SceneJob, SceneKind, plan_scenes, segment_scenes, segment_scenes_on_ray
from segscape.cli.jobs.videos import VIDEO_SUFFIXES, VideoJob, segment_video
from segscape.cli.progress import progress, show_error
from segscape.cli.runtimes import add_runtime, calibration_images, print_choice
from segscape.cli.sizes import add_sizes, print_sizes, working_size
from segscape.cli.timing import Timing
from segscape.rasters.decoded import claimed_size
from segscape.rasters.suffixes import PHOTO_SUFFIXES
from segscape.rasters.world_file import place_files
from segscape.refinement.class_maps import CLASS_BAND, refine_classes
from segscape.refinement.refiner import DEFAULT_WEIGHTS as DEFAULT_REFINER
from segscape.refinement.refiner import Refiner
from segscape.runtime.system_memory import free_memory, resident
from segscape.scenes.files import SceneFiles
from segscape.scenes.planner import Context, fits_at_once
from segscape.scenes.scene import SceneSettings
from segscape.scenes.views import views
from segscape.segmentation.segmenter import Segmentation, Segmenter
from segscape.segmentation.working_size import photograph_sight

DEFAULT_WEIGHTS = "scapenet_lite0.street"
_LABEL_BYTES = 16
_OVERLAY_BYTES = 100
"""Bytes per pixel that reading a photograph and writing its labels takes, without and with an overlay."""


@dataclass
class Jobs:
    """The jobs of the command, by how they are carried out.

    Attributes:
        photos: Photographs that are computed as a whole, with nothing but labels and overlays to write.
        scenes: GeoTIFF and other rasters, and all other photographs.
        videos: Videos.
    """

    photos: list[PhotoJob] = field(default_factory=list)
    scenes: list[SceneJob] = field(default_factory=list)
    videos: list[VideoJob] = field(default_factory=list)

    @property
    def photographs(self) -> list[Path]:
        """The files of all photographs."""
        return [photo.image for photo in self.photos] + [scene.image for scene in self.of_kind("photograph")]

    @property
    def images(self) -> list[Path]:
        """The files of all images that are no videos."""
        return [photo.image for photo in self.photos] + [scene.image for scene in self.scenes]

    @property
    def with_working_size(self) -> list[Path]:
        """The files of all photographs and videos."""
        return [*self.photographs, *(video.video for video in self.videos)]

    def of_kind(self, kind: SceneKind) -> list[SceneJob]:
        """Return those of `scenes` that are of a kind: photographs, or other rasters."""
        return [scene for scene in self.scenes if scene.kind == kind]

    def __len__(self) -> int:
        return len(self.photos) + len(self.scenes) + len(self.videos)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
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
    add_sizes(parser)
    add_runtime(parser)
    _add_outputs(parser)
    _add_scenes(parser)
    _add_engine(parser)
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
        help="what a network's global means are taken of: the whole image, however large, or windows of the training "
        "crops' size (default: the whole of photographs; windows of other rasters, where a network takes such means)",
    )
    group.add_argument("--dry-run", action="store_true", help="print how each image would be segmented, and stop")
    group.add_argument("--bands", type=bands, metavar="R,G,B", help="of a raster, from 1, such as 4,3,2 or 1")
    group.add_argument(
        "--scaling",
        type=scaling,
        metavar="LOW,HIGH",
        help="the values that become black and white, such as 0,3000, or `common` for those that suit all images "
        "together (default: for images that are not of 8 bits, those that suit each)",
    )
    group.add_argument(
        "--nodata",
        type=float,
        metavar="VALUE",
        help="pixels of this value in every band hold no data: no class there",
    )
    group.add_argument(
        "--scales", type=numbers, default=(1.0,), metavar="S,S", help="average over the image at these scales"
    )
    group.add_argument("--flip", action="store_true", help="average over the image and its mirror image")


def _add_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("many machines")
    group.add_argument(
        "--engine", choices=["local", "ray"], default="local", help="where to compute: in this process, or with Ray"
    )
    group.add_argument(
        "--address", help="of a Ray cluster, such as auto or host:6379 (default: a Ray of this machine is started)"
    )


def main(words: list[str]) -> int:
    """Run `segscape segment`; return 1 if an image failed, after all others are done."""
    arguments = parser().parse_args(words[1:])
    _check(arguments)
    size = working_size(arguments)
    jobs = plan(arguments.images, arguments.output, arguments)
    if arguments.working_size and not jobs.with_working_size:
        raise ValueError("--working-size is for photographs and videos, and there are none; leave it out.")
    segmenter = Segmenter.from_weights(
        arguments.weights,
        arguments.device,
        runtime=arguments.runtime,
        precision=arguments.precision,
        calibration=calibration_images(arguments, jobs.photographs),
        working_size=size,
    )
    settings = SceneSettings(
        memory=arguments.max_memory or resident() + free_memory(segmenter.device) // 2,
        views=views(arguments.scales, flip=arguments.flip),
        bands=arguments.bands,
        scaling=scaling_of(arguments.scaling, jobs.images, bands=arguments.bands, nodata=arguments.nodata),
        nodata=arguments.nodata,
    )
    console = PlainConsole()
    print_choice(segmenter, console)
    if arguments.dry_run or arguments.engine == "ray":
        jobs.scenes += map(_as_scene, jobs.photos)
        jobs.photos.clear()
    else:
        _move_large(jobs, segmenter, settings.memory)
    # Streaming divides a scene into one block or a few; windows are numerous enough for many machines.
    of_scenes: Context | None = "window" if arguments.engine == "ray" else None
    of_kind = [
        (jobs.of_kind("photograph"), replace(settings, context=arguments.context or "scene")),
        (jobs.of_kind("raster"), replace(settings, context=arguments.context or of_scenes)),
    ]
    if arguments.dry_run:
        return 1 if sum(plan_scenes(segmenter, scenes, how, console) for scenes, how in of_kind) else 0
    rasters = [scene.image for scene in jobs.of_kind("raster")]
    print_sizes(segmenter, jobs.with_working_size, rasters, settings, console)
    refiner = None
    if arguments.refine:
        refiner = load_refiner(arguments.refine_weights or DEFAULT_REFINER, arguments.device)
    band = arguments.band or CLASS_BAND
    run_scenes: Callable[..., int] = segment_scenes
    if arguments.engine == "ray":
        run_scenes = partial(segment_scenes_on_ray, address=arguments.address)
    refine = None if refiner is None else partial(refine_classes, refiner, band=band)
    timings: list[Timing] = []
    failed = 0
    with progress() as bar:
        if jobs.photos:
            timings = _segment_photos(segmenter, jobs.photos, bar, refiner, band)
            failed += len(jobs.photos) - len(timings)
        for scenes, how in of_kind:
            if scenes:
                failed += run_scenes(segmenter, scenes, how, bar, refine=refine)
        failed += sum(not _segment_video(segmenter, video, bar) for video in jobs.videos)
    if timings:
        console.print(photo_timing_table(timings))
    console.print(f"{len(jobs) - failed} label map(s) in {arguments.output}")
    if failed:
        console.print(f"{failed} of {len(jobs)} image(s) could not be segmented; the messages above say why.")
    return 1 if failed else 0


def _check(arguments: argparse.Namespace) -> None:
    if not arguments.refine and (arguments.refine_weights or arguments.band):
        raise ValueError("--refine-weights and --band are for --refine, which is missing.")
    if arguments.address and arguments.engine != "ray":
        raise ValueError("--address is for --engine ray, which is missing.")
    if arguments.tolerance and not arguments.polygons:
        raise ValueError("--tolerance is for --polygons, which is missing.")
    if arguments.tolerance < 0:
        raise ValueError(f"--tolerance is a length and cannot be {arguments.tolerance:g}.")


def _segment_photos(
    segmenter: Segmenter, jobs: list[PhotoJob], bar: Progress, refiner: Refiner | None, band: int
) -> list[Timing]:
    """Segment photographs and return the timings of those that did not fail."""
    timings = []
    for photo, result in segment_photos(segmenter, jobs, bar, refiner=refiner, band=band):
        if isinstance(result, Segmentation):
            timings.append(photo_timing(photo, result))
        else:
            show_error(bar, result)
    return timings


def _segment_video(segmenter: Segmenter, job: VideoJob, bar: Progress) -> bool:
    """Segment a video and return whether it succeeded."""
    try:
        segment_video(segmenter, job, bar)
    except (ValueError, OSError) as error:
        show_error(bar, error)
        return False
    return True


def plan(inputs: Iterable[str], output: Path, wanted: argparse.Namespace) -> Jobs:
    """Plan which files to read and to write, before any work is done.

    A folder's images keep their subfolders below `output`; any other file is written directly into it.

    Args:
        inputs: Files, folders or globs.
        output: The folder to write to.
        wanted: The files and settings that are wanted, as the parser returns them.

    Raises:
        FileNotFoundError: An input matches nothing.
        ValueError: Two images would be written to one file, a result over an image, or an option is given that does not
            apply to a video.
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
            kind: SceneKind = "photograph" if image.suffix.lower() in PHOTO_SUFFIXES else "raster"
            scene = SceneJob(image, _files(image, target, wanted), kind)
            paths = scene.files.paths
            # Those with a place get a world file, as a scene's labels do.
            if kind == "photograph" and _is_plain(wanted) and not place_files(image):
                jobs.photos.append(PhotoJob(image, scene.files.labels, scene.files.overlay))
            else:
                jobs.scenes.append(scene)
        for path in paths:
            targets.claim(path, source=image)
    return jobs


def _files(image: Path, target: Path, wanted: argparse.Namespace) -> SceneFiles:
    suffix = ".png" if image.suffix.lower() in PHOTO_SUFFIXES else ".tif"

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


def _is_plain(wanted: argparse.Namespace) -> bool:
    """Return whether photographs need no more than labels and overlays, with the whole of each as context."""
    special = (
        *(wanted.confidence, wanted.scores, wanted.polygons, wanted.bands, wanted.scaling, wanted.flip),
        wanted.nodata is not None,
        wanted.context == "window",
        wanted.scales != (1.0,),
    )
    return not any(special)


def _refuse_for_video(video: Path, wanted: argparse.Namespace) -> None:
    options = (
        "confidence",
        "scores",
        "polygons",
        "bands",
        "scaling",
        "flip",
        "context",
        "refine",
        "dry_run",
        "address",
    )
    given = [f"--{name.replace('_', '-')}" for name in options if getattr(wanted, name)]
    given += ["--scales"] if wanted.scales != (1.0,) else []
    given += ["--engine ray"] if wanted.engine == "ray" else []
    if given:
        raise ValueError(f"{video} is a video, and {', '.join(given)} is for images only; leave out one of them.")


def _move_large(jobs: Jobs, segmenter: Segmenter, memory: int) -> None:
    """Turn photographs that cannot be computed as a whole into scenes."""
    photos = []
    for photo in jobs.photos:
        try:
            size = claimed_size(photo.image)
        except ValueError:
            # Said when it is read, without ending the others.
            size = None
        if size is None or _fits(photo, size, segmenter, memory):
            photos.append(photo)
        else:
            jobs.scenes.append(_as_scene(photo))
    jobs.photos = photos


def _fits(photo: PhotoJob, size: tuple[int, int], segmenter: Segmenter, memory: int) -> bool:
    """Return whether memory holds the arrays of a photograph's own size, and the network's maps of it."""
    own_bytes = math.prod(size) * (_LABEL_BYTES if photo.overlay is None else _OVERLAY_BYTES)
    seen = photograph_sight(segmenter.card, size).size
    return own_bytes <= memory - resident() and fits_at_once(segmenter.deployed, seen, memory=memory)


def _as_scene(photo: PhotoJob) -> SceneJob:
    return SceneJob(photo.image, SceneFiles(photo.labels, overlay=photo.overlay), "photograph")

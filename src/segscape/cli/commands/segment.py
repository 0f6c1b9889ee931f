"""`segscape segment`: label maps for images of any size, folders, globs and videos."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from rich.progress import Progress

from segscape.choices import CLASS_BAND, REFINER_WEIGHTS
from segscape.cli.jobs.files import Targets
from segscape.cli.jobs.photographs import PhotoJob, photo_timing, photo_timing_table, segment_photos
from segscape.cli.jobs.scenes import SceneJob, SceneKind, plan_scenes, segment_scenes, segment_scenes_on_ray
from segscape.cli.jobs.videos import VideoJob, segment_video
from segscape.cli.output import Output, record_failure, record_image
from segscape.cli.progress import progress, show_error
from segscape.cli.run import saying_how_to_go_on, status_of
from segscape.cli.runtimes import calibration_images, print_choice
from segscape.cli.scaling import scaling_of
from segscape.cli.sizes import print_sizes
from segscape.cli.timing import Timing
from segscape.rasters.decoded import claimed_size
from segscape.rasters.suffixes import PHOTO_SUFFIXES, VIDEO_SUFFIXES
from segscape.rasters.world_file import place_files
from segscape.refinement.class_maps import refine_classes
from segscape.refinement.refiner import Refiner
from segscape.runtime.system_memory import free_memory, resident
from segscape.scenes.files import SceneFiles
from segscape.scenes.planner import Context, fits_at_once
from segscape.scenes.scene import SceneSettings
from segscape.scenes.views import views
from segscape.segmentation.segmenter import Segmentation, Segmenter
from segscape.segmentation.working_size import photograph_sight

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
        skipped: The number of images that are left out, as their files are there.
    """

    photos: list[PhotoJob] = field(default_factory=list)
    scenes: list[SceneJob] = field(default_factory=list)
    videos: list[VideoJob] = field(default_factory=list)
    skipped: int = 0

    def add(self, job: PhotoJob | SceneJob | VideoJob) -> None:
        """Add a job to those of its kind."""
        if isinstance(job, PhotoJob):
            self.photos.append(job)
        elif isinstance(job, SceneJob):
            self.scenes.append(job)
        else:
            self.videos.append(job)

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


def run(arguments: argparse.Namespace) -> int:
    """Run `segscape segment`; an image that fails does not end the others."""
    output = Output(arguments)
    jobs = plan(arguments)
    if arguments.working_size and not jobs.with_working_size:
        raise ValueError("--working-size is for photographs and videos, and there are none; leave it out.")
    if not len(jobs):
        return _finish(output, arguments, jobs, failed=0)
    segmenter = Segmenter.from_weights(
        arguments.weights,
        arguments.device,
        runtime=arguments.runtime,
        precision=arguments.precision,
        calibration=calibration_images(arguments, jobs.photographs),
        working_size=None if arguments.full_size else arguments.working_size or "card",
    )
    settings = SceneSettings(
        memory=arguments.max_memory or resident() + free_memory(segmenter.device) // 2,
        views=views(arguments.scales, flip=arguments.flip),
        bands=arguments.bands,
        scaling=scaling_of(arguments.scaling, jobs.images, bands=arguments.bands, nodata=arguments.nodata),
        nodata=arguments.nodata,
    )
    print_choice(segmenter, output.console)
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
        failed = sum(plan_scenes(segmenter, scenes, how, output) for scenes, how in of_kind)
        return status_of(len(jobs) - failed, failed)
    rasters = [scene.image for scene in jobs.of_kind("raster")]
    print_sizes(segmenter, jobs.with_working_size, rasters, settings, output.console)
    refiner = None
    if arguments.refine:
        refiner = Refiner.from_weights(arguments.refine_weights or REFINER_WEIGHTS, arguments.device)
    band = arguments.band or CLASS_BAND
    run_scenes: Callable[..., int] = segment_scenes
    if arguments.engine == "ray":
        run_scenes = partial(segment_scenes_on_ray, address=arguments.address)
    refine = None if refiner is None else partial(refine_classes, refiner, band=band)
    timings: list[Timing] = []
    failed = 0
    with saying_how_to_go_on(), progress(quiet=output.quiet) as bar:
        if jobs.photos:
            timings = _segment_photos(segmenter, jobs.photos, bar, output, refiner, band)
            failed += len(jobs.photos) - len(timings)
        for scenes, how in of_kind:
            if scenes:
                failed += run_scenes(segmenter, scenes, how, bar, output, refine=refine)
        failed += sum(not _segment_video(segmenter, video, bar, output) for video in jobs.videos)
    if timings:
        output.console.print(photo_timing_table(timings))
    return _finish(output, arguments, jobs, failed=failed)


def _finish(output: Output, arguments: argparse.Namespace, jobs: Jobs, *, failed: int) -> int:
    """Print how many images are done, and return the exit status."""
    done = len(jobs) - failed
    output.console.print(f"{done} label map(s) in {arguments.output}")
    if jobs.skipped:
        output.console.print(f"{jobs.skipped} image(s) left out, as their files are there already.")
    if failed:
        output.console.print(f"{failed} of {len(jobs)} image(s) could not be segmented; the messages above say why.")
    output.record("summary", done=done, skipped=jobs.skipped, failed=failed)
    return status_of(done + jobs.skipped, failed)


def _segment_photos(
    segmenter: Segmenter, jobs: list[PhotoJob], bar: Progress, output: Output, refiner: Refiner | None, band: int
) -> list[Timing]:
    """Segment photographs and return the timings of those that did not fail."""
    timings = []
    for photo, result in segment_photos(segmenter, jobs, bar, refiner=refiner, band=band):
        written = {"labels": photo.labels, "overlay": photo.overlay}
        if isinstance(result, Segmentation):
            timings.append(photo_timing(photo, result))
            record_image(
                output, photo.image, written, result.shares(), size=result.labels.shape, seconds=result.seconds
            )
        else:
            show_error(bar, result)
            record_failure(output, photo.image, result)
    return timings


def _segment_video(segmenter: Segmenter, job: VideoJob, bar: Progress, output: Output) -> bool:
    """Segment a video and return whether it succeeded."""
    try:
        frames = segment_video(segmenter, job, bar)
    except (ValueError, OSError) as error:
        show_error(bar, error)
        record_failure(output, job.video, error)
        return False
    output.record("video", status="done", video=job.video, labels=job.labels, overlay=job.overlay, frames=frames)
    return True


def plan(wanted: argparse.Namespace) -> Jobs:
    """Plan which files to read and to write, before any work is done.

    A folder's images keep their subfolders below the output; any other file is written directly into it.

    Args:
        wanted: The images that were found and what is wanted of them; see `segscape.arguments.segment.check`.

    Raises:
        ValueError: Two images would be written to one file, or a result over an image.
        OSError: There is no permission to write.
    """
    jobs = Jobs()
    targets = Targets(wanted.found)
    for image, place in wanted.found.items():
        target = wanted.output / place
        if image.suffix.lower() in VIDEO_SUFFIXES:
            overlay = target.with_name(f"{target.stem}_overlay.mp4") if wanted.overlay else None
            job: PhotoJob | SceneJob | VideoJob = VideoJob(image, target.with_suffix(".mp4"), overlay)
            paths = [target.with_suffix(".mp4"), *filter(None, [overlay])]
        else:
            kind: SceneKind = "photograph" if image.suffix.lower() in PHOTO_SUFFIXES else "raster"
            files = _files(image, target, wanted)
            paths = files.paths
            # Those with a place get a world file, as a scene's labels do.
            if kind == "photograph" and _is_plain(wanted) and not place_files(image):
                job = PhotoJob(image, files.labels, files.overlay)
            else:
                job = SceneJob(image, files, kind)
        for path in paths:
            targets.claim(path, source=image)
        if wanted.skip_existing and all(path.is_file() for path in paths):
            jobs.skipped += 1
        else:
            jobs.add(job)
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

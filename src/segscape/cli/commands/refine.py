"""`segscape refine`: the refinement of coarse masks and class maps."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.table import Table

from segscape.choices import CLASS_BAND
from segscape.cli.jobs.big import plan_big, read_big, refine_big, write_big
from segscape.cli.jobs.files import OnProgress, run_jobs
from segscape.cli.jobs.pairs import PairJob, plan
from segscape.cli.output import Output, record_failure
from segscape.cli.progress import progress, show_error
from segscape.cli.run import saying_how_to_go_on, status_of
from segscape.cli.scaling import scaling_of
from segscape.cli.timing import Timing, timing_table
from segscape.rasters.channels import Scaling
from segscape.rasters.gdal import has_rasterio
from segscape.rasters.georeference import Georeference
from segscape.rasters.geotiff import read_georeference
from segscape.rasters.image import read_image, write_image
from segscape.rasters.masks import ClassMap, ObjectMask, read_mask_file, write_class_map, write_mask
from segscape.rasters.suffixes import TIFF_SUFFIXES
from segscape.rasters.world_file import place_files, read_place
from segscape.refinement.class_maps import refine_classes
from segscape.refinement.refiner import Refiner

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Material:
    """The data read for a job.

    Attributes:
        image: (H, W, 3) uint8.
        mask: The coarse mask or class map.
    """

    image: npt.NDArray[np.uint8]
    mask: ObjectMask | ClassMap


@dataclass(frozen=True)
class Refined:
    """The result of a job.

    Attributes:
        material: The image and the mask that were refined.
        values: (H, W) uint8, as written: the probability of the object, 0 to 255; or 255 where it exceeds one half,
            else 0; or labels.
        opacity: (H, W) uint8, the probability of the object, 0 to 255; None for a class map.
        changed: The share of pixels that have changed between object and background, or their class.
    """

    material: Material
    values: npt.NDArray[np.uint8]
    opacity: npt.NDArray[np.uint8] | None
    changed: float


def run(arguments: argparse.Namespace) -> int:
    """Run `segscape refine`; an input that fails does not end the others."""
    output = Output(arguments)
    if arguments.layout is not None:
        return _refine_big(arguments, output)
    jobs, partnerless = plan(arguments.image, arguments.mask, arguments.output, with_cut_out=arguments.alpha)
    planned = len(jobs)
    if arguments.skip_existing:
        jobs = [job for job in jobs if not all(path.is_file() for path in job.targets)]
    skipped = planned - len(jobs)
    for message in partnerless:
        output.errors.print(f"error: {message}")
        output.record("failure", status="failed", error=message)
    if arguments.dry_run:
        for job in jobs:
            output.console.print(f"{job.image} with {job.mask} -> {', '.join(map(str, job.targets))}")
            output.record("plan", image=job.image, mask=job.mask, refined=job.target, alpha=job.cut_out)
        return status_of(len(jobs) + skipped, len(partnerless))
    timings = _refine_pairs(jobs, arguments, output) if jobs else []
    if timings:
        output.console.print(refine_timing_table(timings))
    written = jobs[0].target if planned == len(jobs) == 1 else arguments.output or "place"
    output.console.print(f"{len(timings)} refined mask(s) in {written}")
    if skipped:
        output.console.print(f"{skipped} mask(s) left out, as their files are there already.")
    failed = len(jobs) - len(timings) + len(partnerless)
    if failed:
        output.console.print(f"{failed} input(s) could not be refined; the messages above say why.")
    output.record("summary", done=len(timings), skipped=skipped, failed=failed)
    return status_of(len(timings) + skipped, failed)


def _refine_pairs(jobs: Sequence[PairJob], arguments: argparse.Namespace, output: Output) -> list[Timing]:
    """Refine pairs, and return the timings of those that did not fail."""
    refiner = _load(arguments)
    asked = scaling_of(arguments.scaling, [job.image for job in jobs], bands=arguments.bands, nodata=None)
    timings = []
    with saying_how_to_go_on(), progress(quiet=output.quiet) as bar:
        for job, result, seconds in run_jobs(
            jobs,
            read=partial(
                read,
                as_classes=arguments.classes,
                one_object=arguments.alpha or arguments.binary,
                bands=arguments.bands,
                scaling=asked,
            ),
            work=partial(refine, refiner, steps=arguments.steps, band=arguments.band, binary=arguments.binary),
            write=write,
            bar=bar,
            description="refining",
        ):
            if not isinstance(result, Refined):
                show_error(bar, result)
                record_failure(output, job.image, result)
                continue
            timings.append(refine_timing(job, result, seconds))
            files = {"image": job.image, "mask": job.mask, "refined": job.target, "alpha": job.cut_out}
            output.record(
                "mask", status="done", **files, size=result.values.shape, changed=result.changed, seconds=seconds
            )
    return timings


def _refine_big(arguments: argparse.Namespace, output: Output) -> int:
    """Refine a folder in the layout of BIG."""
    jobs = plan_big(Path(arguments.image), arguments.output, stages=arguments.stages)
    refiner = _load(arguments)
    done = 0
    with progress(quiet=output.quiet) as bar:
        for job, result, seconds in run_jobs(
            jobs,
            read=read_big,
            work=partial(refine_big, refiner, stages=arguments.stages),
            write=write_big,
            bar=bar,
            description="refining",
        ):
            if isinstance(result, Exception):
                show_error(bar, result)
                record_failure(output, job.image, result)
            else:
                done += 1
                output.record("mask", status="done", image=job.image, mask=job.mask, folder=job.folder, seconds=seconds)
    failed = len(jobs) - done
    output.console.print(f"{done} of {len(jobs)} object(s) refined in {arguments.output}")
    output.record("summary", done=done, skipped=0, failed=failed)
    return status_of(done, failed)


def _load(arguments: argparse.Namespace) -> Refiner:
    return Refiner.from_weights(
        arguments.weights, arguments.device, max_memory=arguments.max_memory, precision=arguments.precision
    )


def read(
    job: PairJob,
    *,
    as_classes: bool,
    one_object: bool,
    bands: Sequence[int] | None = None,
    scaling: Scaling | None = None,
) -> Material:
    """Read a pair.

    Args:
        job: The files of the pair.
        as_classes: Take a grey mask for a class map.
        one_object: Whether to refuse a class map.
        bands: Of the image, see `read_image`.
        scaling: Of the image, see `read_image`.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged, the mask is not a mask or of a refused kind, or the sizes differ.
    """
    image = read_image(job.image, bands=bands, scaling=scaling)
    mask = read_mask_file(job.mask, as_classes=as_classes)
    coarse = mask.labels if isinstance(mask, ClassMap) else mask.values
    if coarse.shape != image.shape[:2]:
        turned = ", turned upright if its orientation tag says so" if coarse.shape == image.shape[1::-1] else ""
        raise ValueError(
            f"{job.mask} is {_size(coarse)} and {job.image} {_size(image)}; a mask has the size of its image{turned}."
        )
    if one_object and isinstance(mask, ClassMap):
        raise ValueError(f"{job.mask} is a class map; --alpha and --binary are for the mask of one object.")
    if isinstance(mask, ObjectMask) and 0 < mask.values.max() < 0.5:
        _log.warning(
            "%s reaches %.0f%% at most; if its values are classes, add --classes", job.mask, 100 * mask.values.max()
        )
    own, place = _place_of(job.image), mask.georeference
    if own is not None and place is not None and not place.is_empty:
        _refuse_elsewhere(job, own, place)
    elif own is not None and (job.target.suffix.lower() in TIFF_SUFFIXES or place_files(job.image)):
        mask = replace(mask, georeference=own)
    return Material(image, mask)


def _place_of(image: Path) -> Georeference | None:
    if image.suffix.lower() in TIFF_SUFFIXES:
        return read_georeference(image) if has_rasterio() else None
    return read_place(image)


def _refuse_elsewhere(job: PairJob, own: Georeference, of_mask: Georeference) -> None:
    """Refuse a mask whose pixels lie on other ground than the image's.

    Raises:
        ValueError: The coordinate reference systems differ, or corresponding pixels lie apart.
    """
    if own.is_empty or own.gcps or of_mask.gcps:
        return
    advice = f"give a mask on the image's own grid, for instance by gdalwarp, or one without a place ({job.mask})"
    # World files have no system.
    if own.crs is not None and of_mask.crs is not None and own.crs != of_mask.crs:
        raise ValueError(f"{job.mask} and {job.image} have different coordinate reference systems; {advice}.")
    apart = np.abs(np.array(own.transform[:6]) - np.array(of_mask.transform[:6]))
    # Of the places, less than a tenth of a pixel; of the pixels' sides, less than a thousandth.
    pixel = abs(own.transform.determinant) ** 0.5
    if (apart[[2, 5]] > 0.1 * pixel).any() or (apart[[0, 1, 3, 4]] > 1e-3 * pixel).any():
        raise ValueError(f"{job.mask} lies on other ground than {job.image}, though its size is the same; {advice}.")


def _size(array: npt.NDArray[np.generic]) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"


def refine(
    refiner: Refiner, material: Material, on_progress: OnProgress, *, steps: int, band: int | None, binary: bool
) -> Refined:
    """Refine the data read for a job; see `Refiner.refine`."""
    mask = material.mask
    if isinstance(mask, ClassMap):
        labels = refine_classes(
            refiner,
            material.image,
            mask.labels,
            ignore_index=mask.ignore_index,
            steps=steps,
            band=band or CLASS_BAND,
            on_progress=on_progress,
        )
        return Refined(material, labels, None, float(np.mean(labels != mask.labels)))
    result = refiner.refine(material.image, mask.values, steps=steps, band=band, on_progress=on_progress)
    opacity = np.rint(result.probability * 255).astype(np.uint8)
    values = np.where(result.mask, np.uint8(255), np.uint8(0)) if binary else opacity
    return Refined(material, values, opacity, float(np.mean(result.mask != (mask.values > 0.5))))


def write(job: PairJob, result: Refined) -> None:
    """Write a job's files."""
    mask = result.material.mask
    if isinstance(mask, ClassMap):
        write_class_map(job.target, result.values, like=mask)
    else:
        write_mask(job.target, result.values, like=mask)
    if job.cut_out is not None:
        assert result.opacity is not None
        write_image(job.cut_out, np.dstack([result.material.image, result.opacity]))


def refine_timing(job: PairJob, result: Refined, seconds: dict[str, float]) -> Timing:
    """Return the times of one pair, and how much of its mask changed."""
    height, width = result.values.shape
    return Timing(job.image.name, (height, width), seconds, f"{result.changed:.2%}")


def refine_timing_table(timings: Sequence[Timing]) -> Table:
    """Return the table of the seconds of every stage of the first pairs, and of the sums of all."""
    return timing_table(timings, {"read": "read", "work": "refine", "write": "write"}, outcome="changed")

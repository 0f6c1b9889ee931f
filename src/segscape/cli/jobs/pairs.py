"""The pairing of masks with images, and the files for the refined masks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from segscape.arguments.inputs import find_images, names_many
from segscape.cli.jobs.files import Targets
from segscape.files import resolved
from segscape.rasters.gdal import has_rasterio
from segscape.rasters.suffixes import TIFF_SUFFIXES

_SUFFIXES = frozenset({".png"}) | TIFF_SUFFIXES


@dataclass(frozen=True)
class PairJob:
    """One mask to refine.

    Attributes:
        image: The image to read.
        mask: The coarse mask to read.
        target: The refined mask to write.
        cut_out: The image with the mask as its opacity, to write, or None.
    """

    image: Path
    mask: Path
    target: Path
    cut_out: Path | None

    @property
    def targets(self) -> list[Path]:
        """The files to write."""
        return [self.target] if self.cut_out is None else [self.target, self.cut_out]


def plan(image: str, mask: str, output: Path | None, *, with_cut_out: bool) -> tuple[list[PairJob], list[str]]:
    """Plan which files to read and to write, before any work is done.

    Args:
        image: A file, a folder or a glob.
        mask: A file if `image` is one; else a folder or a glob, whose files belong to the images of the same name and,
            below folders, of the same subfolder, whatever their suffixes.
        output: A file or a folder for one pair, else a folder.
        with_cut_out: Whether the cut-out is wanted.

    Returns:
        The jobs, and a sentence for each file that has no partner.

    Raises:
        FileNotFoundError: An input matches nothing.
        ValueError: There is no pair, an output would be written twice or over an input, or it is neither PNG nor TIFF.
        ModuleNotFoundError: A TIFF is to be written, and rasterio is missing.
        OSError: There is no permission to write.
    """
    partnerless: list[str] = []
    if names_many(image) != names_many(mask):
        raise ValueError(
            f"{image} and {mask} are no pair: give two files, or two folders or globs; "
            "a glob needs quotes, and a file must exist."
        )
    if not names_many(image):
        pair = (Path(image), Path(mask))
        jobs = [PairJob(*pair, _single_target(*pair, output), None)]
    elif output is None or output.suffix.lower() in _SUFFIXES:
        raise ValueError("Several masks need a folder to be written to; name it with --output.")
    else:
        jobs, partnerless = _pairs(image, mask, output)
    if with_cut_out:
        jobs = [replace(job, cut_out=job.target.with_name(f"{job.image.stem}_alpha.png")) for job in jobs]
    targets = Targets(path for job in jobs for path in (job.image, job.mask))
    for job in jobs:
        if resolved(job.image) == resolved(job.mask):
            raise ValueError(f"{job.image} is given both as image and as mask.")
        for path in job.targets:
            targets.claim(path, source=job.image)
        if job.target.suffix.lower() in TIFF_SUFFIXES and not has_rasterio():
            raise ModuleNotFoundError(f"{job.target} needs rasterio: pip install rasterio.", name="rasterio")
    return jobs, partnerless


def _single_target(image: Path, mask: Path, output: Path | None) -> Path:
    """Return the file for one pair's result: as named, in the folder named, or by default beside the image."""
    suffix = _result_suffix(mask)
    if output is None:
        return image.with_name(f"{image.stem}_refined{suffix}")
    if output.is_dir() or not output.suffix:
        return output / f"{image.stem}{suffix}"
    if output.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"{output} is neither a folder nor a .png or .tif file; masks are written as PNG or GeoTIFF.")
    return output


def _result_suffix(mask: Path) -> str:
    return ".tif" if mask.suffix.lower() in TIFF_SUFFIXES else ".png"


def _pairs(image: str, mask: str, output: Path) -> tuple[list[PairJob], list[str]]:
    images, masks = (_by_name(find_images(text, output), text) for text in (image, mask))
    partnerless = [
        f"{path} has no mask of the same name in {mask}." for key, path in images.items() if key not in masks
    ]
    partnerless += [
        f"{path} has no image of the same name in {image}." for key, path in masks.items() if key not in images
    ]
    jobs = [
        PairJob(path, masks[key], (output / key).with_name(f"{key.name}{_result_suffix(masks[key])}"), None)
        for key, path in images.items()
        if key in masks
    ]
    if not jobs:
        raise ValueError(f"No image of {image} has a mask of the same name in {mask}.")
    return jobs, partnerless


def _by_name(found: Iterable[tuple[Path, Path]], text: str) -> dict[Path, Path]:
    """Index files by their places without suffixes."""
    files: dict[Path, Path] = {}
    for path, place in found:
        key = place.with_suffix("")
        if key in files:
            raise ValueError(f"{files[key]} and {path} have one name, so {text} does not tell which belongs to a pair.")
        files[key] = path
    return files

"""Folders in the layout of the test set BIG, and the files that CRM's own test script leaves of them.

Source: github.com/dvlab-research/Entity, folder High-Quality-Segmention, `test.py`. Its `<name>_im.png` may be one
level darker than the image, for it is rounded down after normalisation; ours is the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segscape.cli.jobs.files import OnProgress, Targets
from segscape.data.scan import files_by_name
from segscape.rasters.image import read_grey, read_image, write_image
from segscape.rasters.suffixes import IMAGE_SUFFIXES
from segscape.refinement.refiner import Refiner
from segscape.refinement.stages import SCALES

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class BigJob:
    """One object to refine.

    Attributes:
        name: The beginning of its files' names.
        image: The image to read.
        mask: The coarse mask to read.
        truth: The exact mask to copy, if there is one.
        folder: Where the results are written.
    """

    name: str
    image: Path
    mask: Path
    truth: Path | None
    folder: Path

    def target(self, ending: str, *, scale: float | None = None) -> Path:
        """Return the file of a result: of the stage at a scale, or of an input."""
        return self.folder / (f"{self.name}_{ending}.png" if scale is None else f"{scale}_{self.name}_{ending}.png")


@dataclass(frozen=True)
class BigMaterial:
    """The data read for a job: the image (H, W, 3), the coarse mask and, if there is one, the exact mask (H, W)."""

    image: Pixels
    mask: Pixels
    truth: Pixels | None


@dataclass(frozen=True)
class BigResult:
    """The result of a job.

    Attributes:
        material: The data that was read.
        masks: The soft mask of each stage that is written, rounded down, and where it exceeds one half, (H, W) uint8.
    """

    material: BigMaterial
    masks: Mapping[float, tuple[Pixels, Pixels]]


def plan_big(folder: Path, output: Path, *, stages: bool) -> list[BigJob]:
    """Plan which files to read and to write, before any work is done.

    Args:
        folder: Holds `<name>_im.*`, `<name>_seg.*` and, where the truth is known, `<name>_gt.*`.
        output: The folder to write to.
        stages: Whether the masks of all stages are written, or of the last alone.

    Raises:
        FileNotFoundError: There is no such folder, it has no images, or an image or a mask lacks its partner.
        ValueError: A sample has two images or masks, or an output would be written over an input.
        OSError: There is no permission to write.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; --layout big takes one with <name>_im.*, <name>_seg.* files.")
    images, masks, truths = (
        files_by_name(folder, *(f"_{kind}{suffix}" for suffix in IMAGE_SUFFIXES)) for kind in ("im", "seg", "gt")
    )
    if not images:
        raise FileNotFoundError(f"There is no <name>_im.* in {folder}, as the layout of BIG has it.")
    lacking = [f"{name}_seg.*" for name in images if name not in masks]
    lacking += [f"{name}_im.*" for name in masks if name not in images]
    if lacking:
        more = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        raise FileNotFoundError(f"{folder} lacks {lacking[0]}{more}; every object has an image and a coarse mask.")
    jobs = [BigJob(name, path, masks[name], truths.get(name), output) for name, path in sorted(images.items())]
    targets = Targets((*images.values(), *masks.values(), *truths.values()))
    for job in jobs:
        written = [job.target(ending) for ending in ("im", "seg", *(["gt"] if job.truth else []))]
        for scale in SCALES if stages else SCALES[-1:]:
            written += [job.target(ending, scale=scale) for ending in ("mask", "01mask")]
        for path in written:
            targets.claim(path, source=job.image)
    return jobs


def read_big(job: BigJob) -> BigMaterial:
    """Read the files of a job.

    Raises:
        ValueError: A file is damaged, or the sizes differ.
    """
    image = read_image(job.image)
    masks = [None if path is None else read_grey(path) for path in (job.mask, job.truth)]
    for path, mask in zip((job.mask, job.truth), masks, strict=True):
        if mask is not None and mask.shape != image.shape[:2]:
            sizes = (f"{array.shape[1]} x {array.shape[0]}" for array in (mask, image))
            raise ValueError("{0} is {2} and {1} {3}; they must be of one size.".format(path, job.image, *sizes))
    mask, truth = masks
    assert mask is not None
    return BigMaterial(image, mask, truth)


def refine_big(refiner: Refiner, material: BigMaterial, on_progress: OnProgress, *, stages: bool) -> BigResult:
    """Refine an object by all stages; see `Refiner.stages`."""
    masks = {}
    for number, (scale, probability) in enumerate(refiner.stages(material.image, material.mask), start=1):
        if stages or scale == SCALES[-1]:
            masks[scale] = (probability * 255).astype(np.uint8), np.where(probability > 0.5, np.uint8(255), np.uint8(0))
        on_progress(number, len(SCALES))
    return BigResult(material, masks)


def write_big(job: BigJob, result: BigResult) -> None:
    """Write the files of a job."""
    material = result.material
    for ending, pixels in (("im", material.image), ("seg", material.mask), ("gt", material.truth)):
        if pixels is not None:
            write_image(job.target(ending), pixels)
    for scale, (soft, binary) in result.masks.items():
        write_image(job.target("mask", scale=scale), soft)
        write_image(job.target("01mask", scale=scale), binary)

"""Where pairs of an image and the exact mask of one object lie below a folder, and how they are read.

Sources: FSS-1000 (arXiv:1907.12347), DUTS (Wang et al., CVPR 2017), ECSSD (Shi et al., TPAMI 2016), MSRA-10K (Cheng et
al., TPAMI 2015), DUT-OMRON (Yang et al., CVPR 2013). The papers name DUT-OMRON, the authors' code reads DUTS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segscape.data.scan import files_by_name
from segscape.rasters.image import read_grey, read_image
from segscape.rasters.suffixes import IMAGE_SUFFIXES

_PHOTO_SUFFIXES = (".jpg", ".jpeg")
_MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
TRAIN = "train"


class PairFiles(NamedTuple):
    """The two files of a sample.

    Attributes:
        name: The sample's name.
        image: The image file.
        truth: The file of its exact mask.
    """

    name: str
    image: Path
    truth: Path


class Found(NamedTuple):
    """The content of a source's folder.

    Attributes:
        pairs: The complete samples, sorted by name.
        problems: A sentence for each file without its partner.
        left_out: A sentence for each group of files that is left out.
    """

    pairs: list[PairFiles]
    problems: list[str]
    left_out: list[str]


Finder = Callable[[Path, str], Found]
"""Finds the pairs of a split below a root."""


def _match(prefix: str, images: Mapping[str, Path], masks: Mapping[str, Path]) -> Found:
    """Pair the files of one name; `prefix` goes before the names."""
    pairs = [PairFiles(prefix + name, images[name], masks[name]) for name in sorted(images.keys() & masks.keys())]
    problems = [f"{images[name]} has no mask" for name in sorted(images.keys() - masks.keys())]
    problems += [f"{masks[name]} has no image" for name in sorted(masks.keys() - images.keys())]
    return Found(pairs, problems, [])


def join(parts: Iterable[Found]) -> Found:
    """Return the content of several folders together."""
    joined = Found([], [], [])
    for part in parts:
        joined.pairs.extend(part.pairs)
        joined.problems.extend(part.problems)
        joined.left_out.extend(part.left_out)
    return joined


def _find_flat(folder: Path, prefix: str = "") -> Found:
    """Find the pairs `<name>.jpg` and `<name>.png` of one folder."""
    return _match(prefix, files_by_name(folder, *_PHOTO_SUFFIXES), files_by_name(folder, ".png"))


def _flat_folders(*folders: str) -> Finder:
    """Return the finder of pairs in flat folders below the root, all of them for training."""

    def find(root: Path, split: str) -> Found:
        return join(_find_flat(root / folder, f"{folder}/") for folder in folders if split == TRAIN)

    return find


def find_fss(root: Path, split: str) -> Found:
    """Find the pairs of `fss/<class>/`; a class with an image that lacks its mask is left out, as the authors do."""
    classes = []
    for folder in sorted((root / "fss").glob("*/")) if split == TRAIN else ():
        found = _find_flat(folder, f"fss/{folder.name}/")
        if found.problems:
            found = Found([], [], [f"The class folder {folder} is left out: {found.problems[0]}"])
        classes.append(found)
    return join(classes)


def find_dut_omron(root: Path, split: str) -> Found:
    """Find the pairs in the two folders of DUT-OMRON's own archives, or in `DUT-OMRON/` if it is prepared."""
    if split != TRAIN:
        return Found([], [], [])
    images = files_by_name(root / "DUT-OMRON-image", *_PHOTO_SUFFIXES)
    own = _match("DUT-OMRON/", images, files_by_name(root / "pixelwiseGT-new-PNG", ".png"))
    return own if any(own) else _find_flat(root / "DUT-OMRON", "DUT-OMRON/")


def find_folder(root: Path, split: str) -> Found:
    """Find the pairs of `images/<split>/` and `masks/<split>/`, or of a folder without splits.

    Without splits, pairs lie in `images/` and `masks/`, or flat in the root, and form the split `train`.
    """
    within = [path.name for path in (root / "images").glob("*/") if not path.name.startswith(".")]
    if not within and split != TRAIN:
        return Found([], [], [])
    part = Path(split if within else "")
    images = files_by_name(root / "images" / part, *IMAGE_SUFFIXES)
    found = _match("", images, files_by_name(root / "masks" / part, *_MASK_SUFFIXES))
    return found if any(found) or within else _find_flat(root)


SOURCES: dict[str, Finder] = {
    "fss_1000": find_fss,
    "duts": _flat_folders("DUTS-TR", "DUTS-TE"),
    "ecssd": _flat_folders("ecssd"),
    "msra_10k": _flat_folders("MSRA_10K"),
    "dut_omron": find_dut_omron,
    "folder": find_folder,
}
"""For each source, the function that finds its pairs below a root, in the order in which the authors join them."""

SPLITS = ("train", "val", "test")
"""The splits that are looked for; the published sources have only the first."""

LAYOUT = (
    "fss/<class>/<number>.jpg and .png; DUTS-TR/, DUTS-TE/, ecssd/, MSRA_10K/ or DUT-OMRON/ with <name>.jpg and .png; "
    "DUT-OMRON-image/*.jpg and pixelwiseGT-new-PNG/*.png; images/[<split>/]<name>.jpg and masks/[<split>/]<name>.png; "
    "or <name>.jpg and <name>.png in the folder itself"
)
"""Where pairs may lie below a root, for messages."""


def read_aligned(image: Path, *masks: Path) -> tuple[npt.NDArray[np.uint8], list[npt.NDArray[np.uint8]]]:
    """Read an image and masks of its size.

    Returns:
        The image (H, W, 3) uint8 and the masks (H, W) uint8, grey.

    Raises:
        FileNotFoundError: A file is missing; the message names it.
        ValueError: A file is damaged, or a mask has another size than the image; the message names it.
    """
    pixels = read_image(image)
    greys = []
    for path in masks:
        grey = read_grey(path)
        if grey.shape != pixels.shape[:2]:
            raise ValueError(
                f"{path} is {grey.shape[1]} x {grey.shape[0]} pixels but its image {image} is "
                f"{pixels.shape[1]} x {pixels.shape[0]}; the two must be of one size."
            )
        greys.append(grey)
    return pixels, greys

"""Images with an exact mask of one object, of any class: the training sets of CascadePSP and CRM, and other folders.

Sources: FSS-1000 (arXiv:1907.12347), DUTS (Wang et al., CVPR 2017), ECSSD (Shi et al., TPAMI 2016), MSRA-10K (Cheng et
al., TPAMI 2015), DUT-OMRON (Yang et al., CVPR 2013). The papers name DUT-OMRON, the authors' code reads DUTS.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch.utils.data import Dataset

from segscape.data.refinement.samples import PairSample, read_with_masks
from segscape.data.scan import files_by_name
from segscape.rasters.suffixes import IMAGE_SUFFIXES

_log = logging.getLogger(__name__)

_PHOTO_SUFFIXES = (".jpg", ".jpeg")
_MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
_TRAIN = "train"


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


def _join(parts: Iterable[Found]) -> Found:
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
        return _join(_find_flat(root / folder, f"{folder}/") for folder in folders if split == _TRAIN)

    return find


def find_fss(root: Path, split: str) -> Found:
    """Find the pairs of `fss/<class>/`; a class with an image that lacks its mask is left out, as the authors do."""
    classes = []
    for folder in sorted((root / "fss").glob("*/")) if split == _TRAIN else ():
        found = _find_flat(folder, f"fss/{folder.name}/")
        if found.problems:
            found = Found([], [], [f"The class folder {folder} is left out: {found.problems[0]}"])
        classes.append(found)
    return _join(classes)


def find_dut_omron(root: Path, split: str) -> Found:
    """Find the pairs in the two folders of DUT-OMRON's own archives, or in `DUT-OMRON/` if it is prepared."""
    if split != _TRAIN:
        return Found([], [], [])
    images = files_by_name(root / "DUT-OMRON-image", *_PHOTO_SUFFIXES)
    own = _match("DUT-OMRON/", images, files_by_name(root / "pixelwiseGT-new-PNG", ".png"))
    return own if any(own) else _find_flat(root / "DUT-OMRON", "DUT-OMRON/")


def find_folder(root: Path, split: str) -> Found:
    """Find the pairs of `images/<split>/` and `masks/<split>/`, or of a folder without splits.

    Without splits, pairs lie in `images/` and `masks/`, or flat in the root, and form the split `train`.
    """
    within = [path.name for path in (root / "images").glob("*/") if not path.name.startswith(".")]
    if not within and split != _TRAIN:
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


class NoPairsError(FileNotFoundError):
    """A folder holds no pair of the wanted split."""


class RefinementPairs(Dataset[PairSample]):
    """Every pair of image and exact mask that lies below a root, the sources one after the other.

    Args:
        root: The folder; see `LAYOUT` for what it may hold, also several sources at once.
        split: `"train"`, or another split of images and masks in folders by split.
        sources: Only these of `SOURCES`; all that are there by default.

    Attributes:
        pairs: The files of each sample, by source and sorted by name.

    Raises:
        FileNotFoundError: There are no pairs, or a file lacks its partner; the message names it.
        ValueError: There is no such source, or two files could be one sample's image.
    """

    def __init__(self, root: str | Path, split: str = _TRAIN, sources: Sequence[str] | None = None) -> None:
        root = Path(root)
        unknown = sorted(set(sources or ()) - SOURCES.keys())
        if unknown:
            raise ValueError(f"There is no source of pairs {unknown[0]!r}; there are {', '.join(SOURCES)}.")
        wanted = [name for name in SOURCES if sources is None or name in sources]
        found = _join(SOURCES[name](root, split) for name in wanted)
        for sentence in found.left_out:
            _log.warning(sentence)
        if found.problems:
            more = f" (and {len(found.problems) - 1} more)" if len(found.problems) > 1 else ""
            raise FileNotFoundError(f"{found.problems[0]}{more}; `segscape data check {root}` lists every problem.")
        if not found.pairs:
            raise NoPairsError(f"No pairs of image and mask for split {split} in {root}; expected {LAYOUT}.")
        self.pairs = found.pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> PairSample:
        """Decode one sample.

        Raises:
            ValueError: A file is damaged, or the two sizes differ; the message names the file.
        """
        pair = self.pairs[index]
        image, [truth] = read_with_masks(pair.image, pair.truth)
        return PairSample(image=image, truth=truth, name=pair.name)

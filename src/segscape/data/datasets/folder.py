"""A folder of one's own images and masks, described by a `labels.yaml`."""

from __future__ import annotations

from pathlib import Path

from segscape.data.datasets.base import SegmentationDataset
from segscape.data.scan import files_by_name, only_listed
from segscape.labels import LabelSpec
from segscape.labels.file import read_label_file, read_label_yaml
from segscape.rasters.suffixes import IMAGE_SUFFIXES

_LABELS = "labels.yaml"
_EVERYTHING = "all"
_MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")


class Folder(SegmentationDataset):
    """Images and masks of the same names, with the classes of `labels.yaml` (see `read_label_file`).

    The splits are those that `splits` of `labels.yaml` gives by name, each as a list of image names without suffix or
    as a text file of them; else the folders in `images/`; else there is one, `all`. Masks are grey or palette images
    whose values are those of the classes, or colour-coded ones.
    """

    layout = f"{_LABELS}, images/[<split>/]<name>.jpg (or another image format) and masks/[<split>/]<name>.png"

    @classmethod
    def spec(cls, root: Path) -> LabelSpec:
        """The classes of the folder's `labels.yaml`."""
        return read_label_file(root / _LABELS)

    @classmethod
    def find_splits(cls, root: Path) -> tuple[str, ...]:
        """The names of the folder's splits; train, val and test come first."""
        listed = read_label_yaml(root / _LABELS).get("splits")
        if listed is not None:
            if not isinstance(listed, dict) or not listed:
                raise ValueError(f"{root / _LABELS}: `splits` must give each split's names, or a text file of them.")
            return tuple(listed)
        if files_by_name(root / "images", *IMAGE_SUFFIXES):
            return (_EVERYTHING,)
        folders = sorted(path.name for path in (root / "images").glob("*/") if not path.name.startswith("."))
        usual = [split for split in ("train", "val", "test") if split in folders]
        return (*usual, *(name for name in folders if name not in usual)) or (_EVERYTHING,)

    @classmethod
    def find_files(cls, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Images and masks by name.

        Raises:
            FileNotFoundError: A name in a split's list has neither; the message names it.
        """
        listed = read_label_yaml(root / _LABELS).get("splits")
        part = split if listed is None and (root / "images" / split).is_dir() else ""
        images = files_by_name(root / "images" / part, *IMAGE_SUFFIXES)
        masks = files_by_name(root / "masks" / part, *_MASK_SUFFIXES)
        if listed is None:
            return images, masks
        names, source = listed.get(split), root / _LABELS
        if isinstance(names, str):
            source = root / names
            if not source.is_file():
                raise FileNotFoundError(f"There is no {source}, the list of split {split} in {root / _LABELS}.")
            names = source.read_text(encoding="utf-8").splitlines()
        if not isinstance(names, list):
            raise ValueError(f"{source}: split {split} must be a list of image names, or a text file of them.")
        return only_listed([str(name).strip() for name in names if str(name).strip()], source, images, masks)

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """Whether a folder has a `labels.yaml`."""
        return (root / _LABELS).is_file()

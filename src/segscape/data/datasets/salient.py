"""Photographs with the mask of their main object: ECSSD, DUTS and others, or one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from segscape.data.datasets.base import SegmentationDataset
from segscape.data.scan import files_by_name
from segscape.labels import SALIENT, LabelSpec
from segscape.rasters.image import read_grey
from segscape.rasters.suffixes import IMAGE_SUFFIXES

_MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")


class Salient(SegmentationDataset):
    """Salient objects: masks of 1 or 8 bits, white where the object is."""

    label_spec = SALIENT
    splits = ("train", "val", "test")
    layout = "images/<split>/<name>.jpg (or another image format) and masks/<split>/<name>.png"

    @classmethod
    def find_files(cls, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Photographs and masks by name."""
        masks = files_by_name(root / "masks" / split, *_MASK_SUFFIXES)
        return files_by_name(root / "images" / split, *IMAGE_SUFFIXES), masks

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """Whether a folder has masks in this layout."""
        return any(cls.find_files(root, split)[1] for split in cls.splits)

    @classmethod
    def read_indices(cls, path: Path, spec: LabelSpec) -> npt.NDArray[np.uint8]:
        """Class indices of a mask, (H, W) uint8.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged, or holds something but nothing of the object; the message names it.
        """
        grey = read_grey(path)
        if 0 < grey.max() < 128:
            raise ValueError(
                f"{path} reaches grey level {grey.max()}, and the object begins at 128; write its pixels as 255, or "
                "describe other values in a labels.yaml (data set folder)."
            )
        return spec.to_indices(grey)

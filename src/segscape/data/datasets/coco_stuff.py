"""COCO-Stuff: everyday photographs with things and stuff, in three forms.

Source: Caesar et al., COCO-Stuff: thing and stuff classes in context (arXiv:1612.03716).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from segscape.data.datasets.base import SegmentationDataset
from segscape.data.masks import read_index_mask, read_matlab_mask
from segscape.data.scan import files_by_name, only_listed
from segscape.labels import COCO_STUFF_10K, COCO_STUFF_10K_182, COCO_STUFF_164K, LabelSpec

_INDICES = "_labelTrainIds.png"


class CocoStuff10k(SegmentationDataset):
    """COCO-Stuff 10k, prepared, with the 171 classes that occur.

    The label files hold the class index plus one, and 0 where there is no label.
    """

    label_spec = COCO_STUFF_10K
    splits = ("train", "test")
    unlabelled_splits = ()
    layout = f"images/<split>2014/*.jpg and annotations/<split>2014/*{_INDICES}"

    @classmethod
    def find_files(cls, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Photographs and prepared label files by name."""
        masks = files_by_name(root / "annotations" / f"{split}2014", _INDICES)
        return files_by_name(root / "images" / f"{split}2014", ".jpg"), masks


class CocoStuff10k182(SegmentationDataset):
    """COCO-Stuff 10k as it is downloaded, with a class for each of its 182 category ids; needs SciPy."""

    label_spec = COCO_STUFF_10K_182
    splits = ("train", "test")
    unlabelled_splits = ()
    layout = "imageLists/<split>.txt, images/*.jpg and annotations/*.mat"

    @classmethod
    def find_files(cls, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Photographs and label files of the names in the split's list.

        Raises:
            FileNotFoundError: A name of the list has neither; the message names it.
        """
        path = root / "imageLists" / f"{split}.txt"
        if not path.is_file():
            return {}, {}
        images, masks = files_by_name(root / "images", ".jpg"), files_by_name(root / "annotations", ".mat")
        return only_listed(path.read_text().split(), path, images, masks)

    @classmethod
    def read_indices(cls, path: Path, spec: LabelSpec) -> npt.NDArray[np.uint8]:
        """Class indices of a `.mat` file."""
        return read_matlab_mask(path, spec)


class CocoStuff164k(SegmentationDataset):
    """COCO-Stuff 164k with the 171 classes that occur.

    The label files hold the category id minus one and are mapped in memory; prepared ones, which hold class indices,
    are read where a photograph has no other.
    """

    label_spec = COCO_STUFF_164K
    splits = ("train", "val")
    unlabelled_splits: ClassVar[tuple[str, ...]] = ()
    layout = f"images/<split>2017/*.jpg and annotations/<split>2017/*.png (or *{_INDICES})"

    @classmethod
    def find_files(cls, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Photographs and label files by name."""
        folder = root / "annotations" / f"{split}2017"
        prepared = files_by_name(folder, _INDICES)
        raw = {name: path for name, path in files_by_name(folder, ".png").items() if not path.name.endswith(_INDICES)}
        return files_by_name(root / "images" / f"{split}2017", ".jpg"), prepared | raw

    @classmethod
    def read_indices(cls, path: Path, spec: LabelSpec) -> npt.NDArray[np.uint8]:
        """Class indices of a raw label file, or of a prepared one as they stand."""
        return read_index_mask(path, spec) if path.name.endswith(_INDICES) else super().read_indices(path, spec)

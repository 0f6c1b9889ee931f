"""ADE20K scene parsing: photographs of indoor and outdoor scenes with 150 classes.

Source: Zhou et al., Scene parsing through ADE20K dataset (2017).
"""

from __future__ import annotations

from pathlib import Path

from segscape.data.datasets.base import SegmentationDataset
from segscape.data.scan import files_by_name
from segscape.labels import ADE20K

_FOLDERS = {"train": "training", "val": "validation"}


class Ade20k(SegmentationDataset):
    """ADE20K as it is downloaded: the label files hold the class index plus one, and 0 where there is no label."""

    label_spec = ADE20K
    splits = tuple(_FOLDERS)
    unlabelled_splits = ()
    layout = "images/{training,validation}/*.jpg and annotations/{training,validation}/*.png"

    @classmethod
    def find_files(cls, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Photographs and label files by name."""
        masks = files_by_name(root / "annotations" / _FOLDERS[split], ".png")
        return files_by_name(root / "images" / _FOLDERS[split], ".jpg"), masks

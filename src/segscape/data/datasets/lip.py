"""Look into Person (LIP): people cut out of photographs, with 20 classes of clothes and body parts.

Source: Gong et al., Look into person: self-supervised structure-sensitive learning (arXiv:1703.05446).
"""

from __future__ import annotations

from pathlib import Path

from segscape.data.datasets.base import SegmentationDataset
from segscape.data.scan import files_by_name
from segscape.labels import LIP

_PREFIXES = {"train": "train", "val": "val", "test": "testing"}


class Lip(SegmentationDataset):
    """LIP as it is downloaded: the label files hold the class index, and every pixel has a class."""

    label_spec = LIP
    splits = tuple(_PREFIXES)
    layout = "{train,val,testing}_images/*.jpg and {train,val,testing}_segmentations/*.png"

    @classmethod
    def find_files(cls, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Photographs and label files by name."""
        prefix = _PREFIXES[split]
        masks = files_by_name(root / f"{prefix}_segmentations", ".png")
        return files_by_name(root / f"{prefix}_images", ".jpg"), masks

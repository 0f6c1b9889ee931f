"""Cityscapes: 2048 x 1024 street frames with 19 evaluated classes.

Source: Cordts et al., The Cityscapes dataset for semantic urban scene understanding (arXiv:1604.01685).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from segscape.data.datasets.base import SegmentationDataset
from segscape.labels import CITYSCAPES

_IMAGE = "_leftImg8bit"
_MASK = "_gtFine_labelIds"


class Cityscapes(SegmentationDataset):
    """Cityscapes as it is downloaded: the `labelIds` files are read and mapped in memory, nothing is prepared."""

    label_spec = CITYSCAPES
    splits = ("train", "val", "test")
    joined_splits: ClassVar[Mapping[str, tuple[str, ...]]] = {"trainval": ("train", "val")}
    layout = f"leftImg8bit/<split>/<city>/*{_IMAGE}.png and gtFine/<split>/<city>/*{_MASK}.png"

    @classmethod
    def find_files(cls, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Frames and label files by frame name, `<city>_<sequence>_<frame>`."""

        def find(folder: str, ending: str) -> dict[str, Path]:
            files = (root / folder / split).glob(f"*/*{ending}.png")
            return {path.stem.removesuffix(ending): path for path in files}

        return find("leftImg8bit", _IMAGE), find("gtFine", _MASK)

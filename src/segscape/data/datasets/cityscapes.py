"""Cityscapes: 2048 x 1024 street frames with 19 evaluated classes.

Source: Cordts et al., The Cityscapes dataset for semantic urban scene understanding (arXiv:1604.01685).
"""

from __future__ import annotations

from pathlib import Path

from segscape.data.datasets.base import SegmentationDataset
from segscape.labels import CITYSCAPES

_IMAGE = "_leftImg8bit"
_MASK = "_gtFine_labelIds"


class Cityscapes(SegmentationDataset):
    """Cityscapes as it is downloaded: the `labelIds` files are read and mapped in memory, nothing is prepared.

    `trainval` is the split train and val together.
    """

    label_spec = CITYSCAPES
    splits = ("train", "val", "trainval", "test")
    layout = f"leftImg8bit/<split>/<city>/*{_IMAGE}.png and gtFine/<split>/<city>/*{_MASK}.png"

    def _find(self, folder: str, ending: str) -> dict[str, Path]:
        splits = ("train", "val") if self.split == "trainval" else (self.split,)
        files = (path for split in splits for path in (self.root / folder / split).glob(f"*/*{ending}.png"))
        return {path.stem.removesuffix(ending): path for path in files}

    def find_images(self) -> dict[str, Path]:
        """The split's frames by name (`<city>_<sequence>_<frame>`)."""
        return self._find("leftImg8bit", _IMAGE)

    def find_masks(self) -> dict[str, Path]:
        """The split's label files by frame name."""
        return self._find("gtFine", _MASK)

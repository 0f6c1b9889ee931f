"""Cityscapes: 2048 x 1024 street frames with 19 evaluated classes.

Source: Cordts et al., The Cityscapes dataset for semantic urban scene understanding (arXiv:1604.01685).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from segscape.data.datasets.base import SegmentationDataset
from segscape.data.masks import read_index_mask
from segscape.data.scan import files_by_name
from segscape.labels import CITYSCAPES, LabelSpec

_IMAGE = "_leftImg8bit.png"
_IDS = "_gtFine_labelIds.png"
_TRAIN_IDS = "_gtFine_labelTrainIds.png"


class Cityscapes(SegmentationDataset):
    """Cityscapes as it is downloaded: the `labelIds` files are read and mapped in memory, nothing is prepared.

    Where a frame has no such file, its `labelTrainIds` file is read. Predictions are written as the test server takes
    them: label ids, in files named as the image.
    """

    label_spec = CITYSCAPES
    splits = ("train", "val", "test")
    joined_splits: ClassVar[Mapping[str, tuple[str, ...]]] = {"trainval": ("train", "val")}
    layout = f"leftImg8bit/<split>/<city>/*{_IMAGE} and gtFine/<split>/<city>/*{_IDS}"

    @classmethod
    def find_files(cls, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Frames and label files by frame name, `<city>_<sequence>_<frame>`."""

        def find(folder: str, ending: str) -> dict[str, Path]:
            cities = (root / folder / split).glob("*/")
            return {name: path for city in cities for name, path in files_by_name(city, ending).items()}

        return find("leftImg8bit", _IMAGE), find("gtFine", _TRAIN_IDS) | find("gtFine", _IDS)

    @classmethod
    def read_indices(cls, path: Path, spec: LabelSpec) -> npt.NDArray[np.uint8]:
        """Class indices of a `labelIds` file, or of a `labelTrainIds` file as they stand."""
        return read_index_mask(path, spec) if path.name.endswith(_TRAIN_IDS) else super().read_indices(path, spec)

    @classmethod
    def prediction_name(cls, name: str, *, train_ids: bool = False) -> str:
        """The image's own file name, which the test server takes; of train ids, that of a `labelTrainIds` file."""
        return name + (_TRAIN_IDS if train_ids else _IMAGE)

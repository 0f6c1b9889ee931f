"""DeepGlobe land cover and Inria aerial buildings, prepared from their challenges' labelled training parts.

Sources: Demir et al., DeepGlobe 2018 (arXiv:1805.06561); Maggiori et al., Can semantic labeling methods generalize to
any city? The Inria aerial image labeling benchmark (2017).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from segscape.data.datasets.base import SegmentationDataset
from segscape.data.masks import read_corner_mask
from segscape.data.scan import files_by_name
from segscape.labels import DEEPGLOBE, INRIA_AERIAL, LabelSpec


class DeepGlobe(SegmentationDataset):
    """DeepGlobe land cover: 2448 x 2448 satellite scenes at 0.5 m a pixel with seven classes.

    The label files hold class indices; the challenge's colour-coded ones are read as well.
    """

    label_spec = DEEPGLOBE
    splits = ("train", "val", "test")
    layout = "img_dir/<split>/<id>_sat.jpg and rgb2id/<split>/<id>_mask.png"

    @classmethod
    def find_files(cls, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Scenes and label files by scene number."""
        masks = files_by_name(root / "rgb2id" / split, "_mask.png")
        return files_by_name(root / "img_dir" / split, "_sat.jpg"), masks

    @classmethod
    def read_indices(cls, path: Path, spec: LabelSpec) -> npt.NDArray[np.uint8]:
        """Class indices of a label file of either kind."""
        return read_corner_mask(path, spec)

    @classmethod
    def prediction_name(cls, name: str, *, train_ids: bool = False) -> str:
        """The name of the scene's label file."""
        return f"{name}_mask.png"


class InriaAerial(SegmentationDataset):
    """Inria Aerial Image Labeling: 5000 x 5000 orthophotos of five cities at 0.3 m a pixel, buildings or not."""

    label_spec = INRIA_AERIAL
    splits = ("train", "val", "test")
    layout = "imgs/<split>/<tile>_sat.tif and labels/<split>/<tile>_mask.png"

    @classmethod
    def find_files(cls, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Tiles and label files by tile name."""
        masks = files_by_name(root / "labels" / split, "_mask.png")
        return files_by_name(root / "imgs" / split, "_sat.tif"), masks

    @classmethod
    def prediction_name(cls, name: str, *, train_ids: bool = False) -> str:
        """The name of the tile's label file."""
        return f"{name}_mask.png"

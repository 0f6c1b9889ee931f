"""The data sets by name, one file each."""

from segscape.data.datasets.base import InMemory, Sample, SegmentationDataset
from segscape.data.datasets.camvid import CamVid
from segscape.data.datasets.cityscapes import Cityscapes

DATASETS: dict[str, type[SegmentationDataset]] = {"camvid": CamVid, "cityscapes": Cityscapes}
"""Each data set's class by the name that commands and configs use."""

__all__ = ["DATASETS", "CamVid", "Cityscapes", "InMemory", "Sample", "SegmentationDataset"]

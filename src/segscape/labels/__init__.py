"""Label specifications: one table a data set, of class names, colours, raw values and the ignored index."""

from segscape.labels.aerial import AERIAL, DEEPGLOBE, DRONEDEPLOY, DUBAI, INRIA_AERIAL, INRIA_AERIAL_RAW
from segscape.labels.joint import ClassMapping, unions_of
from segscape.labels.objects import SALIENT
from segscape.labels.people import LIP
from segscape.labels.scenes import (
    ADE20K,
    COCO_STUFF_10K,
    COCO_STUFF_10K_182,
    COCO_STUFF_10K_RAW,
    COCO_STUFF_164K,
)
from segscape.labels.spec import IGNORE_INDEX, Colour, LabelSpec
from segscape.labels.street import CAMVID, CAMVID_ORIGINAL, CAMVID_RAW, CITYSCAPES, IDD_LITE

__all__ = [
    "ADE20K",
    "AERIAL",
    "CAMVID",
    "CAMVID_ORIGINAL",
    "CAMVID_RAW",
    "CITYSCAPES",
    "COCO_STUFF_10K",
    "COCO_STUFF_10K_182",
    "COCO_STUFF_10K_RAW",
    "COCO_STUFF_164K",
    "DEEPGLOBE",
    "DRONEDEPLOY",
    "DUBAI",
    "IDD_LITE",
    "IGNORE_INDEX",
    "INRIA_AERIAL",
    "INRIA_AERIAL_RAW",
    "LIP",
    "SALIENT",
    "ClassMapping",
    "Colour",
    "LabelSpec",
    "unions_of",
]

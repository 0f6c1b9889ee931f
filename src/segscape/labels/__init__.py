"""Label specifications: one table a data set, of class names, colours, raw values and the ignored index."""

from segscape.labels.aerial import DEEPGLOBE, DRONEDEPLOY, INRIA_AERIAL, INRIA_AERIAL_RAW
from segscape.labels.people import LIP
from segscape.labels.scenes import (
    ADE20K,
    COCO_STUFF_10K,
    COCO_STUFF_10K_182,
    COCO_STUFF_10K_RAW,
    COCO_STUFF_164K,
)
from segscape.labels.spec import IGNORE_INDEX, Colour, LabelSpec
from segscape.labels.street import CAMVID, CAMVID_ORIGINAL, CAMVID_RAW, CITYSCAPES

__all__ = [
    "ADE20K",
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
    "IGNORE_INDEX",
    "INRIA_AERIAL",
    "INRIA_AERIAL_RAW",
    "LIP",
    "Colour",
    "LabelSpec",
]

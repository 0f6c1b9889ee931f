"""The networks. Importing this package registers every one of them."""

from segscape.networks import bisestdc, crm, dabnet, efficientnet_lite, isdnet, isnet, scapenet, stdc
from segscape.networks.base import (
    ImageNetwork,
    Parts,
    RefinementNetwork,
    SegmentationNetwork,
    SegmentationOutput,
)
from segscape.registry import list_models

__all__ = [
    "ImageNetwork",
    "Parts",
    "RefinementNetwork",
    "SegmentationNetwork",
    "SegmentationOutput",
    "bisestdc",
    "crm",
    "dabnet",
    "efficientnet_lite",
    "isdnet",
    "isnet",
    "list_models",
    "scapenet",
    "stdc",
]

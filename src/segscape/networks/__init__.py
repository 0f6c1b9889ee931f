"""The networks. Importing this package registers every one of them."""

from segscape.networks import bisestdc, crm, dabnet, efficientnet_lite, isdnet, isnet, scapenet, stdc
from segscape.networks.base import SegmentationNetwork, SegmentationOutput
from segscape.registry import list_models

__all__ = [
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

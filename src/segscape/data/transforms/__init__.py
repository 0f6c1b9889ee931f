"""Augmentation of an image with its labels: one family per module, each on torchvision's v2 transforms."""

from segscape.data.transforms.base import Augmentation
from segscape.data.transforms.camera import CameraAugmentation
from segscape.data.transforms.geometry import Rotation
from segscape.data.transforms.mmseg import MmsegAugmentation
from segscape.data.transforms.stdc import StdcAugmentation

__all__ = ["Augmentation", "CameraAugmentation", "MmsegAugmentation", "Rotation", "StdcAugmentation"]

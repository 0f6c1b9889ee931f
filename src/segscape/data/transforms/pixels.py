"""Conversion between tensors in torchvision's layout and OpenCV's arrays, without a copy where possible."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
from cv2.typing import MatLike
from torchvision import tv_tensors

# Loader processes share the cores among them already, and OpenCV's threads do not survive the fork that creates them.
cv2.setNumThreads(0)


def to_array(image: tv_tensors.Image) -> npt.NDArray[np.uint8]:
    """Return an image (3, H, W) uint8 as an array (H, W, 3), each pixel's channels together in memory.

    The array may share the image's memory and must not be written to.
    """
    planes = image.as_subclass(torch.Tensor)
    if planes.stride(0) == 1 and planes.stride(2) == 3:
        return planes.permute(1, 2, 0).numpy()
    return cv2.merge(list(planes.contiguous().numpy())).reshape(*planes.shape[1:], 3)


def to_image(pixels: MatLike) -> tv_tensors.Image:
    """Wrap an array (H, W, 3) uint8 as an image (3, H, W) over the same memory."""
    return tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))


def to_mask(labels: MatLike) -> tv_tensors.Mask:
    """Wrap an array (H, W) uint8 as a mask over the same memory."""
    return tv_tensors.Mask(torch.from_numpy(labels))

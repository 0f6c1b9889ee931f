"""Resizing 8-bit images and label maps with OpenCV, as MMSegmentation does it."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt


def kept_ratio_size(size: tuple[int, int], base: tuple[int, int]) -> tuple[int, int]:
    """The largest size of an image's own aspect whose long and short sides fit those of a base.

    Args:
        size: (height, width) of the image.
        base: Its longer side bounds the image's longer side, its shorter side the shorter; their order does not matter.

    Returns:
        (height, width), each rounded half up and at least 1.
    """
    factor = min(max(base) / max(size), min(base) / min(size))
    height, width = (max(int(side * factor + 0.5), 1) for side in size)
    return height, width


def resize_pixels(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """An image (H, W, 3) resized bilinearly, without antialiasing, to (height, width)."""
    if image.shape[:2] == size:
        return image
    return cast("npt.NDArray[np.uint8]", cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR))


def resize_indices(labels: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Labels (H, W) resized to (height, width): output pixel i takes input pixel floor(i * in / out) of each axis."""
    if labels.shape == size:
        return labels
    return cast("npt.NDArray[np.uint8]", cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST))

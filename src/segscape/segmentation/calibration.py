"""Calibration images, from which the value ranges of an int8 network's layers are measured."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from segscape.networks import SegmentationNetwork
from segscape.rasters.resize import resize_smoothly, working_size_of
from segscape.runtime.base import Calibration
from segscape.segmentation.inputs import as_pixels
from segscape.segmentation.padding import pad_to_fit

ImageLike = str | Path | Image.Image | npt.NDArray[np.uint8]
"""A path, a Pillow image, or an array (H, W, 3) uint8, red, green, blue."""

MOST_IMAGES = 30
"""The most calibration images; more change the ranges little and take longer."""
_LARGEST = (1024, 2048)
"""(height, width) of the crop that is taken from the middle of a larger image."""


def calibration_of(
    images: Sequence[ImageLike],
    network: SegmentationNetwork,
    normalise: Callable[[Tensor], Tensor],
    *,
    working_size: int | None = None,
) -> Calibration:
    """Return at most 30 of some images, spread evenly over them, prepared as the network receives them.

    Args:
        images: Images like those that are to be segmented.
        network: The network; images are padded to a size that it accepts.
        normalise: Converts (1, 3, H, W) uint8 to the network's input.
        working_size: The shorter side to which they are resized, in pixels; None for their own size.

    Raises:
        FileNotFoundError: An image does not exist.
    """
    step = max(len(images) / MOST_IMAGES, 1.0)
    chosen = [images[int(place * step)] for place in range(min(len(images), MOST_IMAGES))]
    digest = hashlib.sha256(repr((normalise, working_size)).encode())
    for image in chosen:
        digest.update(Path(image).read_bytes() if isinstance(image, (str, Path)) else np.asarray(image).tobytes())
    read = partial(_read, network=network, normalise=normalise, working_size=working_size)
    return Calibration(tuple(partial(read, image) for image in chosen), digest.hexdigest())


def _read(
    image: ImageLike,
    *,
    network: SegmentationNetwork,
    normalise: Callable[[Tensor], Tensor],
    working_size: int | None,
) -> Tensor:
    """Read and prepare an image, (1, 3, H, W) float32 on the CPU."""
    pixels = as_pixels(image)
    if working_size is not None:
        pixels = resize_smoothly(pixels, working_size_of((pixels.shape[0], pixels.shape[1]), working_size))
    top, left = (max(side - most, 0) // 2 for side, most in zip(pixels.shape[:2], _LARGEST, strict=True))
    middle = np.array(pixels[top : top + _LARGEST[0], left : left + _LARGEST[1]])
    return pad_to_fit(network, normalise(torch.from_numpy(middle).permute(2, 0, 1).unsqueeze(0)))

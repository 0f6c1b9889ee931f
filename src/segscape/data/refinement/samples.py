"""The samples of the data sets for refinement, and the reading of their files."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torchvision import tv_tensors

from segscape.rasters.image import read_image


class PairSample(TypedDict):
    """One image with the exact mask of one object.

    Attributes:
        image: (3, H, W) uint8, red, green, blue.
        truth: (1, H, W) uint8, grey: 0 is background, 255 the object.
        name: The image's name, unique in its data set.
    """

    image: tv_tensors.Image
    truth: tv_tensors.Mask
    name: str


class TripleSample(TypedDict):
    """One image with a coarse and an exact mask of one object.

    Attributes:
        image: (3, H, W) uint8, red, green, blue.
        mask: (1, H, W) uint8, the coarse mask: 0 and 255, or grey where it is soft.
        truth: (1, H, W) uint8, grey: 0 is background, 255 the object.
        name: The image's name, unique in its data set.
    """

    image: tv_tensors.Image
    mask: tv_tensors.Mask
    truth: tv_tensors.Mask
    name: str


def read_grey(path: Path) -> npt.NDArray[np.uint8]:
    """Read an image of any kind as grey levels; colours are weighted as in ITU-R 601-2.

    Returns:
        (H, W) uint8.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no image, or damaged; the message names it.
    """
    return np.array(Image.fromarray(read_image(path)).convert("L"))


def read_with_masks(image: Path, *masks: Path) -> tuple[tv_tensors.Image, list[tv_tensors.Mask]]:
    """Read an image and masks of its size.

    Returns:
        The image (3, H, W) uint8 and the masks (1, H, W) uint8.

    Raises:
        FileNotFoundError: A file is missing; the message names it.
        ValueError: A file is damaged, or a mask has another size than the image; the message names it.
    """
    pixels = read_image(image)
    tensors = []
    for path in masks:
        grey = read_grey(path)
        if grey.shape != pixels.shape[:2]:
            raise ValueError(
                f"{path} is {grey.shape[1]} x {grey.shape[0]} pixels but its image {image} is "
                f"{pixels.shape[1]} x {pixels.shape[0]}; the two must be of one size."
            )
        tensors.append(tv_tensors.Mask(torch.from_numpy(grey)[None]))
    return tv_tensors.Image(torch.from_numpy(pixels.transpose(2, 0, 1).copy())), tensors

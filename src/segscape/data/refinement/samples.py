"""The samples of the data sets for refinement, and the reading of their files."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import torch
from torchvision import tv_tensors

from segscape.data.refinement.sources import read_aligned


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


def read_with_masks(image: Path, *masks: Path) -> tuple[tv_tensors.Image, list[tv_tensors.Mask]]:
    """Read an image and masks of its size, as tensors; see `segscape.data.refinement.sources.read_aligned`.

    Returns:
        The image (3, H, W) uint8 and the masks (1, H, W) uint8.
    """
    pixels, greys = read_aligned(image, *masks)
    tensors = [tv_tensors.Mask(torch.from_numpy(grey)[None]) for grey in greys]
    return tv_tensors.Image(torch.from_numpy(pixels.transpose(2, 0, 1).copy())), tensors

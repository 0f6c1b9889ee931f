"""The samples of data sets as tensors, as training and prediction take them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torchvision import tv_tensors

from segscape.data.datasets.base import SegmentationDataset
from segscape.rasters.image import read_image

Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)


class Samples(Protocol[Item_co]):
    """Samples by their index: a data set as PyTorch's loaders take it, of whatever class."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Item_co: ...


class Sample(TypedDict):
    """One image with its labels.

    Attributes:
        image: (3, H, W) uint8, red, green, blue.
        mask: (H, W) uint8, class indices and the ignore index.
        name: The image's name, unique in its data set.
    """

    image: tv_tensors.Image
    mask: tv_tensors.Mask
    name: str


class ImageSample(TypedDict):
    """One image, whether it has labels or not.

    Attributes:
        image: (3, H, W) uint8, red, green, blue.
        name: The image's name, unique in its data set.
    """

    image: tv_tensors.Image
    name: str


class SplitImages:
    """The images of a split alone, for prediction.

    Args:
        dataset: The data set's class.
        root: Its folder.
        split: One of its splits or joined splits.
    """

    def __init__(self, dataset: type[SegmentationDataset], root: str | Path, split: str) -> None:
        self.files = dataset.images(Path(root), split)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> ImageSample:
        name, path = self.files[index]
        return ImageSample(image=as_image(read_image(path)), name=name)


class InMemory(Samples[Item]):
    """A data set decoded once and kept as uint8, for sets that fit: 4 bytes a pixel."""

    def __init__(self, dataset: Samples[Item]) -> None:
        self.samples = [dataset[index] for index in range(len(dataset))]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        return self.samples[index]


def as_image(pixels: npt.NDArray[np.uint8]) -> tv_tensors.Image:
    """Return an image (H, W, 3) uint8 as a tensor (3, H, W)."""
    return tv_tensors.Image(torch.from_numpy(pixels.transpose(2, 0, 1).copy()))


def as_mask(indices: npt.NDArray[np.uint8]) -> tv_tensors.Mask:
    """Return class indices (H, W) uint8 as a tensor."""
    return tv_tensors.Mask(torch.from_numpy(indices))

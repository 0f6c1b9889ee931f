"""What every data set of images with label files shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, TypedDict

import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors

from segscape.labels import LabelSpec
from segscape.rasters.image import read_image, read_labels


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


class SegmentationDataset(Dataset[Sample], ABC):
    """Images with a label file each, in one split.

    Args:
        root: The data set's folder.
        split: One of the class's `splits`.

    Attributes:
        label_spec: The classes.
        splits: The names of the splits.
        layout: Where the files lie below the root, for messages.
        pairs: The image file and the label file of each sample, sorted.

    Raises:
        FileNotFoundError: A folder, an image's label file or a label file's image is missing; the message names it.
        ValueError: There is no such split.
    """

    label_spec: ClassVar[LabelSpec]
    splits: ClassVar[tuple[str, ...]]
    layout: ClassVar[str]

    def __init__(self, root: str | Path, split: str) -> None:
        self.root = Path(root)
        self.split = split
        if split not in self.splits:
            raise ValueError(f"{self.label_spec.name} has no split {split!r}; it has {', '.join(self.splits)}.")
        images, masks = self.find_images(), self.find_masks()
        if not images:
            raise FileNotFoundError(
                f"No images of {self.label_spec.name}'s split {split!r} below {self.root}; expected {self.layout}."
            )
        for what, lonely in (("label file", images.keys() - masks.keys()), ("image", masks.keys() - images.keys())):
            if lonely:
                first = ", ".join(sorted(lonely)[:3])
                raise FileNotFoundError(
                    f"{len(lonely)} sample(s) of {self.root}, split {split!r}, have no {what}: {first}; "
                    f"expected {self.layout}."
                )
        self.names = sorted(images)
        self.pairs = [(images[name], masks[name]) for name in self.names]

    @abstractmethod
    def find_images(self) -> dict[str, Path]:
        """The split's image files by sample name."""

    @abstractmethod
    def find_masks(self) -> dict[str, Path]:
        """The split's label files by sample name."""

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Decode one sample.

        Raises:
            ValueError: A file is damaged, its sizes differ, or a label value is strange; the message names the file.
        """
        image_path, mask_path = self.pairs[index]
        image = read_image(image_path)
        raw = read_labels(mask_path)
        if raw.shape != image.shape[:2]:
            raise ValueError(
                f"{mask_path} is {raw.shape[1]} x {raw.shape[0]} pixels, its image {image_path} "
                f"{image.shape[1]} x {image.shape[0]}; the two must be of one size."
            )
        try:
            indices = self.label_spec.to_indices(raw)
        except ValueError as error:
            raise ValueError(f"{mask_path} has {error}.") from None
        return Sample(
            image=tv_tensors.Image(torch.from_numpy(image.copy()).permute(2, 0, 1).contiguous()),
            mask=tv_tensors.Mask(torch.from_numpy(indices)),
            name=self.names[index],
        )


class InMemory(Dataset[Sample]):
    """A data set decoded once and kept as uint8, for sets that fit: 4 bytes a pixel."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.samples = [dataset[index] for index in range(len(dataset))]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

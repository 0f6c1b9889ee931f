"""What every data set of images with label files shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple, TypedDict

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


class Pair(NamedTuple):
    """The two files of a sample.

    Attributes:
        name: The sample's name.
        image: The image file.
        mask: The label file.
    """

    name: str
    image: Path
    mask: Path


class SegmentationDataset(Dataset[Sample], ABC):
    """Images with a label file each, in one split.

    Args:
        root: The data set's folder.
        split: One of the class's `splits` or `joined_splits`.

    Attributes:
        label_spec: The classes.
        splits: The names of the splits that have files of their own.
        joined_splits: Names that stand for several splits together.
        layout: Where the files lie below the root, for messages.
        pairs: The files of each sample, sorted by name.

    Raises:
        FileNotFoundError: There are no images, or an image or a label file lacks its partner; the message names it.
        ValueError: There is no such split.
    """

    label_spec: ClassVar[LabelSpec]
    splits: ClassVar[tuple[str, ...]]
    joined_splits: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    layout: ClassVar[str]

    def __init__(self, root: str | Path, split: str) -> None:
        names = (*self.splits, *self.joined_splits)
        if split not in names:
            raise ValueError(f"{self.label_spec.name} has no split {split!r}; it has {', '.join(names)}.")
        parts = [self.find_pairs(Path(root), part) for part in self.joined_splits.get(split, (split,))]
        self.pairs = sorted(pair for pairs, _ in parts for pair in pairs)
        problems = [problem for _, found in parts for problem in found]
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise FileNotFoundError(f"{problems[0]}{more}; `segscape data check {root}` lists every problem.")
        if not self.pairs:
            raise FileNotFoundError(
                f"No images of {self.label_spec.name}, split {split}, in {root}; expected {self.layout}."
            )

    @classmethod
    @abstractmethod
    def find_files(cls, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """The image files and the label files of one of `splits`, by sample name."""

    @classmethod
    def find_pairs(cls, root: Path, split: str) -> tuple[list[Pair], list[str]]:
        """The complete samples of one of `splits`, sorted by name, and a sentence for each file without its partner."""
        images, masks = cls.find_files(root, split)
        pairs = [Pair(name, images[name], masks[name]) for name in sorted(images.keys() & masks.keys())]
        problems = [f"{images[name]} has no label file" for name in sorted(images.keys() - masks.keys())]
        problems += [f"{masks[name]} has no image" for name in sorted(masks.keys() - images.keys())]
        return pairs, problems

    @classmethod
    def read_pair(cls, pair: Pair) -> Sample:
        """Decode one sample.

        Raises:
            ValueError: A file is damaged, its sizes differ, or a label value is strange; the message names the file.
        """
        image = read_image(pair.image)
        raw = read_labels(pair.mask)
        if raw.shape != image.shape[:2]:
            raise ValueError(
                f"{pair.mask} is {raw.shape[1]} x {raw.shape[0]} pixels but its image {pair.image} is "
                f"{image.shape[1]} x {image.shape[0]}; the two must be of one size"
            )
        try:
            indices = cls.label_spec.to_indices(raw)
        except ValueError as error:
            raise ValueError(f"{pair.mask} has {error}") from None
        return Sample(
            image=tv_tensors.Image(torch.from_numpy(image.transpose(2, 0, 1).copy())),
            mask=tv_tensors.Mask(torch.from_numpy(indices)),
            name=pair.name,
        )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        return self.read_pair(self.pairs[index])


class InMemory(Dataset[Sample]):
    """A data set decoded once and kept as uint8, for sets that fit: 4 bytes a pixel."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.samples = [dataset[index] for index in range(len(dataset))]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

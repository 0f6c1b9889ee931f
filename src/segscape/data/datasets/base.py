"""What every data set of images with label files shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from segscape.data.annotations import find_annotations
from segscape.data.masks import read_indices
from segscape.labels import LabelSpec
from segscape.rasters.image import read_image, write_labels

if TYPE_CHECKING:
    from segscape.data.samples import Sample


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


class SegmentationDataset(ABC):
    """Images with a label file each, in one split.

    Args:
        root: The data set's folder.
        split: One of the data set's splits or of the class's `joined_splits`.

    Attributes:
        label_spec: The classes; of the class, those of every folder, where they do not depend on it (see `spec`).
        splits: The names of the splits that have files of their own.
        joined_splits: Names that stand for several splits together.
        unlabelled_splits: The splits that may come without any label file.
        layout: Where the files lie below the root, for messages.
        pairs: The files of each sample, sorted by name.

    Raises:
        FileNotFoundError: There are no images, or an image or a label file lacks its partner; the message names it.
        ValueError: There is no such split.
    """

    label_spec: LabelSpec
    splits: ClassVar[tuple[str, ...]]
    joined_splits: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    unlabelled_splits: ClassVar[tuple[str, ...]] = ("test",)
    layout: ClassVar[str]

    def __init__(self, root: str | Path, split: str) -> None:
        root = Path(root)
        self.label_spec = self.spec(root)
        problems: list[str] = []
        self.pairs: list[Pair] = []
        for part in self._parts(root, split):
            images, masks = self.find_files(root, part)
            if images and not masks:
                raise FileNotFoundError(
                    find_annotations(root)
                    or f"Split {part} of {self.label_spec.name} in {root} has images but no label files: it can be "
                    f"predicted, neither trained on nor measured; labels would be at {self.layout}."
                )
            pairs, found = match_files(images, masks)
            self.pairs += pairs
            problems += found
        self.pairs.sort()
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise FileNotFoundError(f"{problems[0]}{more}; `segscape data check {root}` lists every problem.")
        if not self.pairs:
            raise FileNotFoundError(self._nothing(root, split))

    @classmethod
    @abstractmethod
    def find_files(cls, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """The image files and the label files of one split, by sample name."""

    @classmethod
    def spec(cls, root: Path) -> LabelSpec:
        """The classes of the data set in a folder."""
        return cls.label_spec

    @classmethod
    def find_splits(cls, root: Path) -> tuple[str, ...]:
        """The names of the splits that the data set in a folder may have."""
        return cls.splits

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """Whether a folder has this data set's layout."""
        return any(any(cls.find_files(root, split)) for split in cls.find_splits(root))

    @classmethod
    def images(cls, root: Path, split: str) -> list[tuple[str, Path]]:
        """Name and file of each image of a split or joined split, sorted, whether it has labels or not.

        Raises:
            FileNotFoundError: There are no images.
            ValueError: There is no such split.
        """
        found = sorted(item for part in cls._parts(root, split) for item in cls.find_files(root, part)[0].items())
        if not found:
            raise FileNotFoundError(cls._nothing(root, split))
        return found

    @classmethod
    def read_indices(cls, path: Path, spec: LabelSpec) -> npt.NDArray[np.uint8]:
        """Class indices of a label file, (H, W) uint8; see `segscape.data.masks.read_indices`."""
        return read_indices(path, spec)

    @classmethod
    def read_pair(cls, pair: Pair, spec: LabelSpec) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Decode one sample.

        Returns:
            The image (H, W, 3) uint8, and the class indices (H, W) uint8.

        Raises:
            ValueError: A file is damaged, its sizes differ, or a label value is strange; the message names the file.
        """
        image = read_image(pair.image)
        indices = cls.read_indices(pair.mask, spec)
        if indices.shape != image.shape[:2]:
            turned = indices.shape == image.shape[1::-1]
            raise ValueError(
                f"{pair.mask} is {indices.shape[1]} x {indices.shape[0]} pixels but its image {pair.image} is "
                f"{image.shape[1]} x {image.shape[0]}; the two must be of one size"
                + (", and only one of them may have been turned by its orientation tag" if turned else "")
            )
        return image, indices

    @classmethod
    def prediction_name(cls, name: str, *, train_ids: bool = False) -> str:
        """The file name of an image's predicted labels; see `write_prediction`."""
        return f"{name}.png"

    @classmethod
    def write_prediction(
        cls, folder: Path, name: str, indices: npt.NDArray[np.uint8], spec: LabelSpec, *, train_ids: bool = False
    ) -> None:
        """Write predicted labels as the data set's own label files have them: raw values, in a PNG with a palette.

        Args:
            folder: Where to.
            name: The image's name.
            indices: (H, W) uint8, class indices.
            spec: The classes.
            train_ids: Write the class indices themselves, in place of the raw values that stand for them.
        """
        values, palette = (indices, spec.palette) if train_ids else (spec.to_raw(indices), spec.raw_palette)
        write_labels(folder / cls.prediction_name(name, train_ids=train_ids), values, palette)

    @classmethod
    def _parts(cls, root: Path, split: str) -> tuple[str, ...]:
        """The splits with files of their own that a name stands for."""
        own = cls.find_splits(root)
        if split not in own and split not in cls.joined_splits:
            names = ", ".join((*own, *cls.joined_splits))
            raise ValueError(f"{cls.spec(root).name} has no split {split!r}; it has {names}.")
        return cls.joined_splits.get(split, (split,))

    @classmethod
    def _nothing(cls, root: Path, split: str) -> str:
        return f"No images of {cls.spec(root).name}, split {split}, in {root}; expected {cls.layout}."

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        # Files are found, counted and checked without PyTorch, which takes a second to load.
        from segscape.data.samples import Sample, as_image, as_mask

        pair = self.pairs[index]
        image, indices = self.read_pair(pair, self.label_spec)
        return Sample(image=as_image(image), mask=as_mask(indices), name=pair.name)


def match_files(images: Mapping[str, Path], masks: Mapping[str, Path]) -> tuple[list[Pair], list[str]]:
    """The complete samples, sorted by name, and a sentence for each file without its partner."""
    pairs = [Pair(name, images[name], masks[name]) for name in sorted(images.keys() & masks.keys())]
    problems = [f"{images[name]} has no label file" for name in sorted(images.keys() - masks.keys())]
    problems += [f"{masks[name]} has no image" for name in sorted(masks.keys() - images.keys())]
    return pairs, problems

"""The augmentation of MMSegmentation and of sssegmentation: resize, crop by class, flip, rotate, distort, pad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torchvision.transforms import v2

from segscape.data.transforms.base import Augmentation, RandomFlip
from segscape.data.transforms.geometry import PadToSize, RandomCropByClass, RandomResize, RandomRotate, Rotation
from segscape.data.transforms.photometric import PhotometricDistortion
from segscape.labels import LabelSpec


@dataclass(frozen=True)
class MmsegAugmentation(Augmentation):
    """The augmentation of DABNet, ISDNet and ISNet.

    Attributes:
        crop: (height, width) of the crop, in pixels after resizing; what is smaller is padded to it.
        base: (height, width) that the random ratio refers to.
        ratios: The range of the ratio.
        keep_ratio: Whether the image keeps its aspect ratio; see `RandomResize`.
        crop_draws: The number of places that are drawn at most for a crop in which no class prevails; the last is taken
            as it is. MMSegmentation examines ten and takes an eleventh; sssegmentation takes the tenth.
        flip: The probability of a horizontal flip, which also exchanges the classes that a mirror exchanges.
        rotation: The random rotation of crops, or None.
        padded: Where a smaller image lies in its padding, `"corner"` (the top left one, MMSegmentation) or `"centre"`
            (sssegmentation).
    """

    crop: tuple[int, int]
    base: tuple[int, int]
    ratios: tuple[float, float] = (0.5, 2.0)
    keep_ratio: bool = True
    crop_draws: int = 11
    flip: float = 0.5
    rotation: Rotation | None = None
    padded: Literal["corner", "centre"] = "corner"

    def build(self, label_spec: LabelSpec) -> v2.Transform:
        """Return the transform from a sample to its augmented crop."""
        steps = [
            RandomResize(self.base, self.ratios, keep_ratio=self.keep_ratio),
            RandomCropByClass(self.crop, self.crop_draws),
            RandomFlip(self.flip, label_spec.flip_pairs),
        ]
        if self.rotation is not None:
            steps.append(RandomRotate(self.rotation))
        return v2.Compose([*steps, PhotometricDistortion(), PadToSize(self.crop, self.padded)])

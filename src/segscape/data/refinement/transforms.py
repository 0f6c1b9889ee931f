"""Transforms from pairs of image and exact mask to triples with a coarse mask, for training and validation."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from segscape.data.refinement.grades import GRADES, draw_grade
from segscape.data.refinement.samples import PairSample, TripleSample
from segscape.data.transforms.base import uniform

# Of the authors' code.
_JITTER = {"brightness": 0.2, "contrast": 0.05, "saturation": 0.05}
_GREY_PROBABILITY = 0.1


def with_coarse_mask(sample: PairSample, grade: str, generator: np.random.Generator) -> TripleSample:
    """Add a coarse mask to a pair.

    Args:
        sample: The pair.
        grade: The grade of the coarse mask, one of `GRADES`.
        generator: The source of all random draws.
    """
    truth = sample["truth"].as_subclass(Tensor)[0].numpy()
    mask = tv_tensors.Mask(torch.from_numpy(GRADES[grade](truth, generator))[None])
    return TripleSample(image=sample["image"], mask=mask, truth=sample["truth"], name=sample["name"])


class AddCoarseMask(nn.Module):
    """The addition of a random coarse mask to a pair, seeded by one draw from torch's global generator.

    Args:
        shares: The names of `GRADES` to draw from, with the share of each.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        super().__init__()
        self.shares = shares

    def forward(self, sample: PairSample) -> TripleSample:
        """Compute the mask from the sample's exact one."""
        generator = np.random.default_rng(int(torch.randint(2**62, ())))
        grade = draw_grade(self.shares, generator) if len(self.shares) > 1 else next(iter(self.shares))
        return with_coarse_mask(sample, grade, generator)


class RandomResize(v2.Transform):
    """A resize by a random factor, bilinear with antialiasing, of image and mask alike."""

    def __init__(self, scales: tuple[float, float]) -> None:
        super().__init__()
        self.scales = scales

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the factor and compute the size."""
        factor = uniform(*self.scales)
        return {"size": [max(round(side * factor), 1) for side in v2.query_size(flat_inputs)]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize an image or a mask; the grey levels of a mask's edge are kept."""
        return _resized(inpt, params["size"], antialias=True)


class ZoomedCrop(nn.Module):
    """A random crop of a size divided by a random factor; zeros surround an image that is too small.

    Args:
        size: (height, width) that the crop is to be shrunk to.
        zooms: The range of the factor.
        tries: The largest number of crops that are drawn until one shows an edge of the object.
    """

    def __init__(self, size: tuple[int, int], zooms: tuple[float, float], *, tries: int) -> None:
        super().__init__()
        self.size = size
        self.zooms = zooms
        self.tries = tries

    def forward(self, sample: PairSample) -> PairSample:
        """Crop image and mask alike."""
        # Uniform in the logarithm: each halving is equally likely, as the stages of a refinement are halvings.
        zoom = math.exp(uniform(*map(math.log, self.zooms)))
        # This pads both ends by all that the side lacks, so that the object may lie anywhere in the crop.
        crop = v2.RandomCrop([round(side / zoom) for side in self.size], pad_if_needed=True)
        cropped: PairSample = crop(sample)
        for _ in range(self.tries - 1):
            if cropped["truth"].min() != cropped["truth"].max():
                break
            cropped = crop(sample)
        return cropped


class ShrinkAsStage(v2.Transform):
    """A resize to one size as a stage of the refinement reads image and mask: bilinear, without antialiasing."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize an image or a mask; a mask's edges become grey."""
        return _resized(inpt, list(self.size), antialias=False)


def _resized(inpt: Any, size: list[int], *, antialias: bool) -> Any:
    if not isinstance(inpt, tv_tensors.TVTensor):
        return inpt
    return tv_tensors.wrap(F.resize_image(inpt.as_subclass(Tensor), size, antialias=antialias), like=inpt)


@dataclass(frozen=True)
class RefinementAugmentation:
    """The augmentation of CascadePSP and CRM, from pairs to triples of one size.

    In this order: zeros on both ends of sides that are too short, a random crop, a horizontal flip, the coarse mask,
    colour jitter and now and then a grey image. Every draw comes from torch's global generator, so that a seed set
    beforehand fixes the result.

    Attributes:
        crop: (height, width) of the crops, in pixels after scaling.
        scales: The range of a factor by which pairs are resized first. The published recipe has none; resizing
            improves training on small data sets.
        zooms: The range of a factor, at most 1, by which triples are shrunk to the crop after their coarse masks are
            computed, as the coarser stages of a refinement see them. The published recipe has none: its training images
            are already as small as these stages of the images that it is meant for.
        tries: The largest number of crops that are drawn until one shows an edge of the object. The published recipe
            takes the first.
        grades: The kinds of coarse masks, by the names of `GRADES`, with the share of each. The published recipe has
            `perturbed` only, and its networks take good masks for bad ones.

    Raises:
        ValueError: A range that is empty, not positive, or of zooms beyond 1; a grade that does not exist, or a share
            that is not positive.
    """

    crop: tuple[int, int] = (224, 224)
    scales: tuple[float, float] = (1.0, 1.0)
    zooms: tuple[float, float] = (1.0, 1.0)
    tries: int = 1
    grades: dict[str, float] = field(default_factory=lambda: {"perturbed": 1.0})

    def __post_init__(self) -> None:
        unknown = sorted(self.grades.keys() - GRADES.keys())
        if unknown:
            raise ValueError(f"There is no grade {unknown[0]!r} of coarse masks; there are {', '.join(GRADES)}.")
        if not self.grades or min(self.grades.values()) <= 0:
            raise ValueError(f"grades must name at least one grade, each with a positive share, not {self.grades}.")
        if not 0 < self.scales[0] <= self.scales[1]:
            raise ValueError(f"scales must be a positive range (low, high), not {tuple(self.scales)}.")
        if not 0 < self.zooms[0] <= self.zooms[1] <= 1:
            raise ValueError(f"zooms must be a range (low, high) within (0, 1], not {tuple(self.zooms)}.")

    def build(self) -> v2.Transform:
        """Return the transform from a `PairSample` to the `TripleSample` of its augmented crop."""
        unchanged = (1.0, 1.0)
        return v2.Compose(
            [
                *([] if tuple(self.scales) == unchanged else [RandomResize(self.scales)]),
                ZoomedCrop(self.crop, self.zooms, tries=self.tries),
                v2.RandomHorizontalFlip(0.5),
                AddCoarseMask(self.grades),
                *([] if tuple(self.zooms) == unchanged else [ShrinkAsStage(self.crop)]),
                v2.ColorJitter(**_JITTER),
                v2.RandomGrayscale(_GREY_PROBABILITY),
            ]
        )


class PerturbedPairs(Dataset[TripleSample]):
    """Whole images with coarse masks of the published recipe that are always the same, for validation.

    Args:
        pairs: The pairs.
        seed: With each image's name, fixes its coarse mask.
    """

    def __init__(self, pairs: Dataset[PairSample], *, seed: int = 0) -> None:
        self.pairs = pairs
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pairs)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> TripleSample:
        sample = self.pairs[index]
        generator = np.random.default_rng([self.seed, zlib.crc32(sample["name"].encode())])
        return with_coarse_mask(sample, "perturbed", generator)

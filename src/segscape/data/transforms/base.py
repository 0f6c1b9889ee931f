"""Shared parts of the augmentation families: their interface, random draws, and the horizontal flip."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from segscape.labels import LabelSpec


class Augmentation(ABC):
    """A recipe's augmentation, from whole training images to crops of one size.

    Every draw comes from torch's global generator, so that a seed set beforehand fixes the result.

    Attributes:
        crop: (height, width) of the crops, in pixels.
    """

    crop: tuple[int, int]

    @abstractmethod
    def build(self, label_spec: LabelSpec) -> v2.Transform:
        """Return the transform from a sample to its augmented crop.

        Args:
            label_spec: The classes, some of which mirroring exchanges.
        """


def uniform(low: float, high: float) -> float:
    """Draw a number uniformly from [low, high)."""
    return float(torch.empty((), dtype=torch.float64).uniform_(low, high))


def integer(low: int, high: int) -> int:
    """Draw an integer uniformly from [low, high)."""
    return int(torch.randint(low, high, ()))


def chance(probability: float) -> bool:
    """Return True with this probability."""
    return bool(torch.rand(()) < probability)


def swap_classes(labels: Tensor, pairs: Iterable[tuple[int, int]]) -> Tensor:
    """Return a copy of labels of any shape with the two classes of each pair exchanged."""
    swapped = labels.clone()
    for first, second in pairs:
        swapped[labels == first] = second
        swapped[labels == second] = first
    return swapped


class RandomFlip(v2.Transform):
    """A random horizontal flip.

    Args:
        probability: The probability of a flip.
        pairs: Classes that mirroring exchanges, such as left and right arm.
    """

    def __init__(self, probability: float, pairs: Iterable[tuple[int, int]] = ()) -> None:
        super().__init__()
        self.probability = probability
        self.pairs = tuple(pairs)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw whether to mirror."""
        return {"mirrored": chance(self.probability)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Mirror an image or a mask."""
        if not params["mirrored"] or not isinstance(inpt, tv_tensors.TVTensor):
            return inpt
        mirrored = F.horizontal_flip(inpt)
        if self.pairs and isinstance(mirrored, tv_tensors.Mask):
            return tv_tensors.wrap(swap_classes(mirrored.as_subclass(torch.Tensor), self.pairs), like=mirrored)
        return mirrored

"""STDC-Seg's augmentation, on torchvision's v2 transforms: colour, flip, scale, crop, in this order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from segscape.data.transforms.base import Augmentation, RandomFlip, integer, uniform
from segscape.labels import LabelSpec

# Scales of the official recipe: 0.125 to 1.5 in steps of 0.125.
_SCALES = tuple(step / 8 for step in range(1, 13))


def resize_sample(value: Any, size: tuple[int, int]) -> Any:
    """Resize an image bilinearly with antialiasing, as Pillow does it, or a mask by its nearest pixels.

    Args:
        value: An image (3, H, W) or a mask (H, W); anything else is returned as it is.
        size: (height, width).
    """
    if isinstance(value, tv_tensors.Mask):
        # The default nearest mode samples half a pixel away from the place that the bilinear one samples.
        plain = F.resize_image(
            value.as_subclass(torch.Tensor).unsqueeze(0), list(size), interpolation=v2.InterpolationMode.NEAREST_EXACT
        )
        return tv_tensors.wrap(plain.squeeze(0), like=value)
    if isinstance(value, tv_tensors.Image):
        return F.resize(value, list(size), antialias=True)
    return value


class ColourJitter(v2.Transform):
    """Brightness, contrast and saturation, in this order, each by a factor from [1 - strength, 1 + strength]."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the three factors."""
        names = ("brightness", "contrast", "saturation")
        return {name: uniform(1 - self.strength, 1 + self.strength) for name in names}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change an image (3, H, W) uint8; leave anything else."""
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        image = F.adjust_brightness(inpt, params["brightness"])
        image = F.adjust_contrast(image, params["contrast"])
        return F.adjust_saturation(image, params["saturation"])


class RandomScale(v2.Transform):
    """A scaling by a factor drawn from a list; sizes are rounded down."""

    def __init__(self, scales: Sequence[float]) -> None:
        super().__init__()
        self.scales = tuple(scales)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the scale and compute the size."""
        height, width = v2.query_size(flat_inputs)
        scale = self.scales[integer(0, len(self.scales))]
        return {"size": (max(int(height * scale), 1), max(int(width * scale), 1))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize an image or a mask."""
        return resize_sample(inpt, params["size"])


class RandomCrop(v2.Transform):
    """A crop at a random place; an image smaller than the crop is enlarged first, not padded."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the place."""
        height, width = v2.query_size(flat_inputs)
        enlarged = None
        if height < self.size[0] or width < self.size[1]:
            factor = max(self.size[0] / height, self.size[1] / width)
            enlarged = height, width = int(factor * height + 1), int(factor * width + 1)
        top = int(uniform(0, 1) * (height - self.size[0]))
        left = int(uniform(0, 1) * (width - self.size[1]))
        return {"enlarged": enlarged, "box": (top, left, *self.size)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Cut an image or a mask."""
        if not isinstance(inpt, tv_tensors.TVTensor):
            return inpt
        if params["enlarged"]:
            inpt = resize_sample(inpt, params["enlarged"])
        return F.crop(inpt, *params["box"])


class QuarterTurn(v2.Transform):
    """A turn by a random multiple of 90 degrees."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the number of quarters."""
        return {"quarters": integer(0, 4)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Turn an image or a mask."""
        if not isinstance(inpt, tv_tensors.TVTensor):
            return inpt
        return tv_tensors.wrap(torch.rot90(inpt.as_subclass(torch.Tensor), params["quarters"], (-2, -1)), like=inpt)


@dataclass(frozen=True)
class StdcAugmentation(Augmentation):
    """The augmentation of STDC-Seg and BiSeSTDC.

    Attributes:
        crop: (height, width) of the crop, in pixels after scaling.
        scales: The factors of which one is drawn.
        colour: The strength of the colour jitter; see `ColourJitter`.
        flip: The probability of a horizontal flip.
        quarter_turns: Also turn square crops by a random multiple of 90 degrees, as views from above have no upright.

    Raises:
        ValueError: Quarter turns of crops that are not square.
    """

    crop: tuple[int, int]
    scales: tuple[float, ...] = _SCALES
    colour: float = 0.5
    flip: float = 0.5
    quarter_turns: bool = False

    def __post_init__(self) -> None:
        if self.quarter_turns and self.crop[0] != self.crop[1]:
            raise ValueError(f"Quarter turns need a square crop, not {self.crop[0]} x {self.crop[1]}.")

    def build(self, label_spec: LabelSpec) -> v2.Transform:
        """Return the transform from a sample to its augmented crop."""
        steps = [
            ColourJitter(self.colour),
            RandomFlip(self.flip, label_spec.flip_pairs),
            RandomScale(self.scales),
            RandomCrop(self.crop),
        ]
        return v2.Compose([*steps, QuarterTurn()] if self.quarter_turns else steps)

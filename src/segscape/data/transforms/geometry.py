"""Random resizing, crops chosen by their classes, rotation and padding, with OpenCV as MMSegmentation does them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from segscape.data.transforms.base import chance, integer, uniform
from segscape.data.transforms.pixels import to_array, to_image, to_mask
from segscape.labels import IGNORE_INDEX
from segscape.rasters.resize import kept_ratio_size, resize_indices, resize_pixels

# Of the official crops: the share of the labelled pixels that every class must stay below, and the number of draws.
_LARGEST_SHARE = 0.75

# The normalisation's mean (0.485, 0.456, 0.406) in 8 bits.
MEAN_COLOUR = 124, 116, 104


def _labels(mask: tv_tensors.Mask) -> npt.NDArray[np.uint8]:
    return mask.as_subclass(torch.Tensor).numpy()


class RandomResize(v2.Transform):
    """A resize by a random ratio, relative to a base size.

    Args:
        base: (height, width), multiplied by the ratio and rounded down to give the target.
        ratios: The range of the ratio.
        keep_ratio: Whether to fit the image into the target with its own aspect ratio, see `kept_ratio_size`; else it
            gets exactly the target's size, the target's longer side along the image's longer side.
    """

    def __init__(self, base: tuple[int, int], ratios: tuple[float, float], *, keep_ratio: bool) -> None:
        super().__init__()
        self.base = base
        self.ratios = ratios
        self.keep_ratio = keep_ratio

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the ratio and compute the size."""
        height, width = v2.query_size(flat_inputs)
        ratio = uniform(*self.ratios)
        target = int(self.base[0] * ratio), int(self.base[1] * ratio)
        if self.keep_ratio:
            return {"size": kept_ratio_size((height, width), target)}
        short, long = sorted(target)
        return {"size": (long, short) if height > width else (short, long)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize an image bilinearly or a mask by its nearest pixels."""
        if isinstance(inpt, tv_tensors.Image):
            return to_image(resize_pixels(to_array(inpt), params["size"]))
        if isinstance(inpt, tv_tensors.Mask):
            return to_mask(resize_indices(_labels(inpt), params["size"]))
        return inpt


class RandomCropByClass(v2.Transform):
    """A crop in which no class has three quarters of the labelled pixels or more, where a few draws find one.

    It must hold at least two classes. The last draw is taken as it is, also where it holds no label at all, where
    sssegmentation would cut out the middle of the image. An image smaller than the crop along an axis keeps its size.

    Args:
        size: (height, width).
        draws: The number of places that are drawn at most; see `MmsegAugmentation`.
    """

    def __init__(self, size: tuple[int, int], draws: int) -> None:
        super().__init__()
        self.size = size
        self.draws = draws

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw places until one meets the conditions."""
        height, width = v2.query_size(flat_inputs)
        labels = next(_labels(value) for value in flat_inputs if isinstance(value, tv_tensors.Mask))
        crop_height, crop_width = min(self.size[0], height), min(self.size[1], width)
        for _ in range(self.draws):
            top, left = integer(0, height - crop_height + 1), integer(0, width - crop_width + 1)
            window = labels[top : top + crop_height, left : left + crop_width]
            counts = cv2.calcHist([window], [0], None, [256], [0, 256]).ravel()
            counts[IGNORE_INDEX] = 0
            if np.count_nonzero(counts) > 1 and counts.max() < _LARGEST_SHARE * counts.sum():
                break
        return {"box": (top, left, crop_height, crop_width)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Cut an image or a mask."""
        return F.crop(inpt, *params["box"]) if isinstance(inpt, tv_tensors.TVTensor) else inpt


@dataclass(frozen=True)
class Rotation:
    """The settings of a random rotation of crops.

    Attributes:
        degrees: The angle's range [low, high), counter-clockwise.
        probability: The probability of a rotation.
        whole_degrees: Draw whole degrees only.
        interpolation: The interpolation of the image; labels take the nearest pixel.
    """

    degrees: tuple[float, float]
    probability: float = 0.5
    whole_degrees: bool = False
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


class RandomRotate(v2.Transform):
    """A random rotation about the centre, the size kept; corners become black and unlabelled.

    Args:
        rotation: The settings.
    """

    def __init__(self, rotation: Rotation) -> None:
        super().__init__()
        self.rotation = rotation

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw whether to rotate, and the angle."""
        if not chance(self.rotation.probability):
            return {"matrix": None}
        low, high = self.rotation.degrees
        degrees = integer(int(low), int(high)) if self.rotation.whole_degrees else uniform(low, high)
        height, width = v2.query_size(flat_inputs)
        return {"matrix": cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Rotate an image or a mask."""
        matrix = params["matrix"]
        if matrix is None:
            return inpt
        if isinstance(inpt, tv_tensors.Image):
            flags = cv2.INTER_CUBIC if self.rotation.interpolation == "bicubic" else cv2.INTER_LINEAR
            pixels = to_array(inpt)
            return to_image(cv2.warpAffine(pixels, matrix, pixels.shape[1::-1], flags=flags))
        if isinstance(inpt, tv_tensors.Mask):
            labels = _labels(inpt)
            return to_mask(
                cv2.warpAffine(
                    labels, matrix, labels.shape[::-1], flags=cv2.INTER_NEAREST, borderValue=(float(IGNORE_INDEX),)
                )
            )
        return inpt


class PadToSize(v2.Transform):
    """Padding of smaller images to a size, with the mean colour and without labels.

    The official pipelines pad normalised pixels with zeros. In 8 bits the mean colour is rounded, so that padding is
    within 0.009 of zero after the normalisation.

    Args:
        size: (height, width).
        place: The place of the image: `"corner"`, at the top left, or `"centre"`.
    """

    def __init__(self, size: tuple[int, int], place: Literal["corner", "centre"]) -> None:
        super().__init__()
        self.size = size
        self.place = place

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Compute the borders."""
        height, width = v2.query_size(flat_inputs)
        rows, columns = max(self.size[0] - height, 0), max(self.size[1] - width, 0)
        top, left = (rows // 2, columns // 2) if self.place == "centre" else (0, 0)
        return {"borders": (top, rows - top, left, columns - left)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Pad an image or a mask."""
        if not any(params["borders"]):
            return inpt
        top, bottom, left, right = params["borders"]
        if isinstance(inpt, tv_tensors.Image):
            pixels = to_array(inpt)
            return to_image(
                cv2.copyMakeBorder(pixels, top, bottom, left, right, cv2.BORDER_CONSTANT, value=MEAN_COLOUR)
            )
        if isinstance(inpt, tv_tensors.Mask):
            labels = _labels(inpt)
            return to_mask(
                cv2.copyMakeBorder(labels, top, bottom, left, right, cv2.BORDER_CONSTANT, value=float(IGNORE_INDEX))
            )
        return inpt

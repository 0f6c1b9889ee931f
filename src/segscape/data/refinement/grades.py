"""Coarse masks of every grade, from the authors' perturbation down to the exact mask itself.

A refiner that has only seen bad masks takes every mask for a bad one, and spoils those that are good. The grades other
than `perturbed` are ours: the errors of segmentation networks, annotators and smoothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import cast

import cv2
import numpy as np

from segscape.data.refinement.perturbation import Mask, perturb

_THRESHOLD = 127
_FOREGROUND = 255
# Of the authors' code.
_IOU_TARGETS = 0.8, 1.0
_FACTORS = 2.0, 16.0
_SHIFT = 3
_RADII = 1, 3
_SIGMAS = 1.0, 6.0


def perturbed(mask: Mask, generator: np.random.Generator) -> Mask:
    """Perturb by the authors' recipe, with a target drawn uniformly from [0.8, 1); see `perturb`.

    Every level above 0 is foreground.
    """
    binary = (mask > 0).astype(np.uint8) * np.uint8(_FOREGROUND)
    return perturb(binary, generator=generator, iou_target=generator.uniform(*_IOU_TARGETS))


def reduced(mask: Mask, generator: np.random.Generator) -> Mask:
    """Shrink by area and enlarge, hard or soft, blocky or smooth, as networks with a stride of 2 to 16 do."""
    factor = math.exp(generator.uniform(math.log(_FACTORS[0]), math.log(_FACTORS[1])))
    return reduce_mask(
        mask, factor, hard=bool(generator.random() < 0.5), blocks=bool(generator.random() < 0.25), soft=_coin(generator)
    )


def reduce_mask(mask: Mask, factor: float, *, hard: bool = True, blocks: bool = False, soft: bool = False) -> Mask:
    """Shrink a mask by a factor and enlarge it again, so that details smaller than so many pixels are lost.

    Args:
        mask: (H, W) uint8, 0 to 255.
        factor: The factor by which both sides are divided, averaging over the area.
        hard: Whether the small mask is thresholded at one half.
        blocks: Whether it is enlarged by repeating its pixels, not bilinearly.
        soft: Whether the result keeps its levels; else it is thresholded at one half.

    Returns:
        (H, W) uint8; 0 and 255 unless soft.
    """
    height, width = mask.shape
    size = max(round(width / factor), 1), max(round(height / factor), 1)
    small = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
    if hard:
        small = _cut(small)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST if blocks else cv2.INTER_LINEAR)
    return cast("Mask", large) if soft else _cut(large)


def moved(mask: Mask, generator: np.random.Generator) -> Mask:
    """Shift by up to three pixels, or dilate or erode by one to three pixels, as annotators err."""
    if _coin(generator):
        down, right = generator.integers(-_SHIFT, _SHIFT, 2, endpoint=True).tolist()
        matrix = np.array([[1, 0, right], [0, 1, down]], np.float64)
        size = mask.shape[1], mask.shape[0]
        return cast(
            "Mask", cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        )
    side = 2 * int(generator.integers(*_RADII, endpoint=True)) + 1
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return cast("Mask", (cv2.dilate if _coin(generator) else cv2.erode)(mask, element))


def smoothed(mask: Mask, generator: np.random.Generator) -> Mask:
    """Round the outline by a Gaussian of 1 to 6 pixels, hard or soft."""
    blurred = cast("Mask", cv2.GaussianBlur(mask, (0, 0), generator.uniform(*_SIGMAS), borderType=cv2.BORDER_REPLICATE))
    return blurred if _coin(generator) else _cut(blurred)


def exact(mask: Mask, generator: np.random.Generator) -> Mask:
    """Return the mask itself."""
    return mask


GRADES: dict[str, Callable[[Mask, np.random.Generator], Mask]] = {
    function.__name__: function for function in (perturbed, reduced, moved, smoothed, exact)
}
"""By name, the functions from an exact mask (H, W) uint8 to a coarse one; all draws come from the generator."""


def draw_grade(shares: Mapping[str, float], generator: np.random.Generator) -> str:
    """Draw a name of `GRADES`, each with the probability of its share of the sum."""
    names, weights = list(shares), np.array(list(shares.values()))
    return names[int(generator.choice(len(names), p=weights / weights.sum()))]


def _cut(mask: cv2.typing.MatLike) -> Mask:
    return (mask > _THRESHOLD).astype(np.uint8) * np.uint8(_FOREGROUND)


def _coin(generator: np.random.Generator) -> bool:
    return bool(generator.random() < 0.5)

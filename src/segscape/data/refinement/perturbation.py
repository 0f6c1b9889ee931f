"""Coarse masks derived from exact ones: contours simplified, then random rectangles dilated and eroded.

Source: the mask perturbation of CascadePSP (arXiv:2005.02551, section 3.3) with the constants of the authors' code,
which CRM (arXiv:2111.14482) shares.
"""

from __future__ import annotations

from functools import cache
from math import ceil
from typing import NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

Mask = npt.NDArray[np.uint8]

_FOREGROUND = 255
_THRESHOLD = 127

# Of the contours: the share of consecutive points that is left out, the share of places where that may begin, and the
# share of the other points that is kept.
_RUN_SHARE = 0.1
_START_SHARE = 0.1
_KEPT_SHARE = 0.1
_FEWEST_POINTS = 10

_ROUNDS = 250
_OPERATIONS = 4
_PIXEL_PROBABILITY = 0.25
_DILATION_PROBABILITY = 0.5
_SIDES = 3, 9
_ELEMENTS = 4
_EPSILON = 1e-6
# Rounds whose random numbers are drawn at once: few calls of the generator, but few wasted draws as well.
_BLOCK = 10


class _Operation(NamedTuple):
    """One step of the morphology: a rectangle with exclusive ends, what is done to it, and its centre's new value."""

    left: int
    top: int
    right: int
    bottom: int
    changes_centre: bool
    is_dilation: bool
    side: int
    element: int
    centre: int


def perturb(mask: Mask, *, generator: np.random.Generator, iou_target: float) -> Mask:
    """Compute a coarse mask from an exact one.

    The target bounds the IoU with the mask after its contours are simplified: operations stop after the first round
    that falls below it, or after 250 rounds. The IoU with the given mask usually ends lower still, the more so the
    thinner the shape.

    Args:
        mask: (H, W) uint8, 0 and 255; not changed.
        generator: The source of all random draws.
        iou_target: In (0, 1]; the authors draw it uniformly from 0.8 to 1.

    Returns:
        (H, W) uint8, 0 and 255. Where a side has at most two pixels, the mask as it is.
    """
    if min(mask.shape) <= 2:
        return np.where(mask > _THRESHOLD, np.uint8(_FOREGROUND), np.uint8(0))
    return change_regions(simplify_contours(mask, generator=generator), generator=generator, iou_target=iou_target)


def simplify_contours(mask: Mask, *, generator: np.random.Generator) -> Mask:
    """Redraw a mask from a tenth of its contours' points, one run of each contour left out.

    A contour of up to ten points disappears; if none would remain, the mask stays as it is.

    Args:
        mask: (H, W) uint8, 0 and 255.
        generator: The source of all random draws.

    Returns:
        (H, W) uint8, 0 and 255.
    """
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    polygons = [_simplified(points, generator) for points in contours if len(points) >= _FEWEST_POINTS]
    polygons = [points for points in polygons if len(points)]
    if not polygons:
        return mask.copy()
    # Drawn in one call, a hole's contour cuts a hole.
    return cast("Mask", cv2.fillPoly(np.zeros_like(mask), polygons, (_FOREGROUND,)))


def _simplified(points: MatLike, generator: np.random.Generator) -> MatLike:
    """Return some of a contour's points (N, 1, 2)."""
    # A run may begin only where its ends lie closest together, so that leaving it out cuts off a bay or a tip.
    run = int(_RUN_SHARE * len(points))
    ends = points[run:] - points[: len(points) - run]
    gaps = np.einsum("nij,nij->n", ends, ends)
    closest = np.argsort(gaps, kind="stable")[: ceil(_START_SHARE * len(gaps))]
    start = closest[int(generator.random() * len(closest))]
    # A random choice of the other points, in their order along the contour; those behind the run are renumbered.
    rest = len(points) - run
    kept = np.sort(generator.permutation(rest)[: int(_KEPT_SHARE * rest)])
    kept[kept >= start] += run
    return points[kept]


def change_regions(mask: Mask, *, generator: np.random.Generator, iou_target: float) -> Mask:
    """Dilate and erode random rectangles until the IoU with the given mask falls below a target.

    Args:
        mask: (H, W) uint8, 0 and 255; not changed.
        generator: The source of all random draws.
        iou_target: Compared after every fourth rectangle; at most 1000 are changed.

    Returns:
        (H, W) uint8, 0 and 255.
    """
    changed = mask.copy()
    area = cv2.countNonZero(mask)
    for _ in range(_ROUNDS // _BLOCK):
        operations = _draw_operations(mask.shape, generator)
        for first in range(0, len(operations), _OPERATIONS):
            for operation in operations[first : first + _OPERATIONS]:
                _apply(operation, changed)
            intersection = cv2.countNonZero(cv2.bitwise_and(changed, mask))
            # The small term keeps the IoU of two empty masks at 1.
            union = area + cv2.countNonZero(changed) - intersection
            if (intersection + _EPSILON) / (union + _EPSILON) < iou_target:
                return changed
    return changed


def _draw_operations(shape: tuple[int, ...], generator: np.random.Generator) -> list[_Operation]:
    """Draw the operations of one block of rounds."""
    height, width = shape
    draws = generator.random((9, _BLOCK * _OPERATIONS))
    # Rectangles of at least one pixel that end within the mask, so that none has to be clipped.
    left, top = (draws[0] * width).astype(int), (draws[1] * height).astype(int)
    columns = (
        left,
        top,
        left + 1 + (draws[2] * (width - left)).astype(int),
        top + 1 + (draws[3] * (height - top)).astype(int),
        draws[4] < _PIXEL_PROBABILITY,
        draws[5] < _DILATION_PROBABILITY,
        _SIDES[0] + (draws[6] * (_SIDES[1] + 1 - _SIDES[0])).astype(int),
        (draws[7] * _ELEMENTS).astype(int),
        np.where(draws[8] < 0.5, 0, _FOREGROUND),
    )
    return [_Operation(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _apply(operation: _Operation, mask: Mask) -> None:
    """Carry out one operation in place; nothing outside its rectangle is read or written."""
    left, top, right, bottom, changes_centre, is_dilation, side, element, centre = operation
    if changes_centre:
        mask[(top + bottom) // 2, (left + right) // 2] = centre
    # OpenCV gets the slice as an image of its own, and writes the result into the mask through it.
    region = mask[top:bottom, left:right]
    change = cv2.dilate if is_dilation else cv2.erode
    change(region, _structuring_element(side, element), region)


@cache
def _structuring_element(side: int, element: int) -> MatLike:
    """Return a square, an ellipse as high as wide, a flat one or a narrow one."""
    if element == 0:
        return cv2.getStructuringElement(cv2.MORPH_RECT, (side, side))
    width, height = ((side, side), (side, side // 2), (side // 2, side))[element - 1]
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, height))

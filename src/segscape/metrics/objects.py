"""Scores of soft masks of one object each, as papers on cut-outs and salient objects report them.

S-measure: arXiv:1708.00786. E-measure: arXiv:1805.10421. Weighted F-measure: How to Evaluate Foreground Maps (CVPR
2014). Boundary IoU: arXiv:2103.16562. PySODMetrics, whose numbers the tests hold, cannot be installed beside current
versions of NumPy and OpenCV. Masks are used unchanged, whereas some scripts stretch each to the full range first.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import Metric

Soft = npt.NDArray[np.float64]
Inside = npt.NDArray[np.bool_]

_LEVELS = 256
_EPSILON = float(np.finfo(np.float64).eps)
_BOUNDARY_SHARE = 0.02
"""The width of the boundary in boundary IoU, as a share of the image's diagonal."""


class ObjectResult(NamedTuple):
    """The scores of soft masks, the means over the images; NaN where there was none.

    Attributes:
        s_measure: The structural similarity, of the regions and of the object, from 0 to 1.
        e_measure: The alignment with the truth, the mean over the thresholds 0 to 255, from 0 to 1.
        weighted_f: The F-measure with errors weighted by their place, from 0 to 1.
        mae: The mean absolute error, from 0 to 1; the lower, the better.
        boundary_iou: The IoU of the two masks' inner boundaries, from 0 to 1.
    """

    s_measure: float
    e_measure: float
    weighted_f: float
    mae: float
    boundary_iou: float


class ObjectScores(Metric):
    """The scores of `ObjectResult`, accumulated over images and processes."""

    full_state_update = False
    sums: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(5, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probability: Tensor, truth: Tensor) -> None:
        """Score a batch of soft masks (N, H, W), floating point from 0 to 1, by the true ones (N, H, W) boolean."""
        for soft, inside in zip(probability.double().cpu().numpy(), truth.cpu().numpy(), strict=True):
            scores = (
                s_measure(soft, inside),
                e_measure(soft, inside),
                weighted_f_measure(soft, inside),
                float(np.abs(soft - inside).mean()),
                boundary_iou(soft > 0.5, inside),
            )
            self.sums += torch.tensor(scores, dtype=torch.float64, device=self.sums.device)
            self.images += 1

    def compute(self) -> ObjectResult:
        """Return the scores of everything counted so far."""
        return ObjectResult(*(self.sums / self.images).tolist())


def s_measure(soft: Soft, inside: Inside) -> float:
    """Compute the S-measure of a mask (H, W), from 0 to 1: half object-aware, half region-aware similarity."""
    share = inside.mean()
    if share in (0, 1):
        return float(1 - soft.mean() if share == 0 else soft.mean())
    of_object = share * _uniformity(soft[inside]) + (1 - share) * _uniformity(1 - soft[~inside])
    # The four regions around the centroid of the true object, each weighted by its area.
    rows, cols = np.nonzero(inside)
    row, col = round(float(rows.mean())) + 1, round(float(cols.mean())) + 1
    regions = [(down, across) for down in (slice(row), slice(row, None)) for across in (slice(col), slice(col, None))]
    of_regions = sum(
        inside[region].size / inside.size * _similarity(soft[region], inside[region].astype(np.float64))
        for region in regions
        if inside[region].size
    )
    return max(0.0, float(0.5 * of_object + 0.5 * of_regions))


def _uniformity(values: npt.NDArray[np.float64]) -> float:
    """Return how near to 1, and to each other, the values of a part are (equation 5 of the S-measure)."""
    mean = values.mean()
    deviation = values.std(ddof=1) if values.size > 1 else 0.0
    return float(2 * mean / (mean**2 + 1 + deviation + _EPSILON))


def _similarity(one: Soft, other: Soft) -> float:
    """Return the structural similarity of two parts (equation 2 of the S-measure)."""
    mean, other_mean = one.mean(), other.mean()
    count = one.size - 1 + _EPSILON
    variances = (((one - mean) ** 2).sum() + ((other - other_mean) ** 2).sum()) / count
    covariance = ((one - mean) * (other - other_mean)).sum() / count
    numerator = 4 * mean * other_mean * covariance
    denominator = (mean**2 + other_mean**2) * variances
    if numerator != 0:
        return float(numerator / (denominator + _EPSILON))
    return 1.0 if denominator == 0 else 0.0


def e_measure(soft: Soft, inside: Inside) -> float:
    """Compute the E-measure of a mask (H, W), from 0 to 1: the mean over the thresholds 0 to 255."""
    levels = (soft * (_LEVELS - 1)).astype(np.uint8)
    # Pixels at each threshold or above: in the true object, and outside.
    right, wrong = (
        np.bincount(levels[part], minlength=_LEVELS)[::-1].cumsum()[::-1].astype(np.float64)
        for part in (inside, ~inside)
    )
    pixels, within = float(inside.size), float(np.count_nonzero(inside))
    found = right + wrong
    if within == 0:
        aligned = pixels - found
    elif within == pixels:
        aligned = found
    else:
        # A binary mask has four kinds of pixels, and each kind the same alignment.
        mean, true_mean = found / pixels, within / pixels
        kinds = (
            (right, 1 - mean, 1 - true_mean),
            (wrong, 1 - mean, -true_mean),
            (within - right, -mean, 1 - true_mean),
            (pixels - within - wrong, -mean, -true_mean),
        )
        parts = [count * (2 * own * true / (own**2 + true**2 + _EPSILON) + 1) ** 2 / 4 for count, own, true in kinds]
        aligned = np.sum(parts, axis=0)
    return float((aligned / (pixels - 1 + _EPSILON)).mean())


def weighted_f_measure(soft: Soft, inside: Inside) -> float:
    """Compute the weighted F-measure of a mask (H, W), from 0 to 1, with precision and recall of equal weight."""
    from scipy import ndimage

    if not inside.any():
        return 0.0
    distance, nearest = ndimage.distance_transform_edt(~inside, return_indices=True)
    error = np.abs(soft - inside)
    # Errors outside count like those at the nearest pixel of the object; within, like their surroundings if those are
    # better.
    spread = cv2.GaussianBlur(error[tuple(nearest)], (7, 7), 5, borderType=cv2.BORDER_CONSTANT)
    weighted = np.where(inside & (spread < error), spread, error)
    weighted *= np.where(inside, 1, 2 - np.exp(math.log(0.5) / 5 * distance))
    missed = weighted[inside]
    hits = missed.size - missed.sum()
    recall, precision = 1 - missed.mean(), hits / (hits + weighted[~inside].sum() + _EPSILON)
    return float(2 * recall * precision / (recall + precision + _EPSILON))


def boundary_iou(found: Inside, inside: Inside) -> float:
    """Compute the boundary IoU of two masks (H, W), from 0 to 1; 1 where neither has a boundary.

    The boundary of a mask is the part of it within a fiftieth of the image's diagonal from its edge; the image's edge
    is an edge too.
    """
    width = max(1, round(_BOUNDARY_SHARE * math.hypot(*inside.shape)))
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    one, other = (
        mask & (cv2.erode(mask.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0) == 0)
        for mask in (found, inside)
    )
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0

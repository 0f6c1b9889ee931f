"""Scores of masks of the main object in photographs: the maximal F-measure and the mean absolute error.

Papers: Achanta et al., Frequency-tuned Salient Region Detection, CVPR 2009, which weighs precision (beta squared is
0.3); Perazzi et al., Saliency Filters, CVPR 2012, which adds the error.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

BETA_SQUARED = 0.3
"""The weight of recall in the F-measure, relative to a weight of 1 for precision."""
_LEVELS = 256


class SaliencyResult(NamedTuple):
    """The scores of soft masks, between 0 and 1; NaN where there was nothing to measure.

    Attributes:
        max_f: The F-measure of the mean precision and the mean recall, at the threshold at which it is largest.
        threshold: That threshold, 0 to 255: pixels of this level or above count as the object.
        mae: The mean over the images of their mean absolute error.
        images: The number of images.
        without_object: The number of images that count in the error only, because their truth is empty.
    """

    max_f: float
    threshold: int
    mae: float
    images: int
    without_object: int


class SaliencyScores(Metric):
    """Maximal F-measure and mean absolute error of soft masks, accumulated over images and processes.

    For each threshold from 0 to 255 precision and recall are averaged over the images, and the F-measure is computed
    from the two means, as is usual. A mask without a pixel at a threshold has precision 0. Masks are used unchanged,
    whereas some scripts stretch each to the full range first.
    """

    full_state_update = False
    precision: Tensor
    recall: Tensor
    error: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("precision", torch.zeros(_LEVELS, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("recall", torch.zeros(_LEVELS, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("error", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, probability: Tensor, truth: Tensor) -> None:
        """Count a batch of soft masks (N, H, W), floating point from 0 to 1, and of true ones (N, H, W) boolean."""
        for soft, inside in zip(probability, truth, strict=True):
            self.images[0] += 1
            self.error += (soft - inside.to(soft.dtype)).abs().mean(dtype=torch.float64)
            levels = (soft * (_LEVELS - 1)).round().long()
            # The number of pixels at each threshold or above: in the whole image, and within the true object.
            marked, right = (
                torch.bincount(part, minlength=_LEVELS).flip(0).cumsum(0).flip(0).double()
                for part in (levels.flatten(), levels[inside])
            )
            if not right[0]:
                self.images[1] += 1
                continue
            self.precision += right / marked.clamp(min=1)
            self.recall += right / right[0]

    def compute(self) -> SaliencyResult:
        """Return the scores of everything counted so far."""
        images, without_object = self.images.tolist()
        count = max(images - without_object, 1)
        precision, recall = self.precision / count, self.recall / count
        f = (1 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
        best = int(f.nan_to_num().argmax())
        return SaliencyResult(
            max_f=float(f[best]),
            threshold=best,
            mae=float(self.error) / images if images else math.nan,
            images=images,
            without_object=without_object,
        )

"""The confusion matrix of a whole data set, and the scores computed from it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric

from segscape.labels import IGNORE_INDEX


@dataclass(frozen=True)
class Scores:
    """Scores between 0 and 1; NaN where a class is neither in the labels nor in the predictions.

    Attributes:
        miou: The mean of the classes' intersection over union, over the classes that are present and not excluded.
        miou_all: The same with the excluded classes.
        pixel_accuracy: The share of labelled pixels that are correct, of all classes.
        class_accuracy: The mean, over the same classes as `miou`, of the share of their pixels that are correct.
        iou: Intersection over union of each class.
        accuracy: The share of each class's pixels that are correct.
    """

    miou: float
    miou_all: float
    pixel_accuracy: float
    class_accuracy: float
    iou: tuple[float, ...]
    accuracy: tuple[float, ...]

    def mean_iou(self, classes: Iterable[int]) -> float:
        """Return the mean intersection over union of some classes, without those that are absent."""
        return float(torch.tensor([self.iou[index] for index in classes], dtype=torch.float64).nanmean())


def scores(confusion: Tensor, *, excluded: Collection[int] = ()) -> Scores:
    """Compute the scores of a confusion matrix.

    Args:
        confusion: (K, K) int64, pixels by true class (row) and predicted class (column); with a further column for
            predictions that are none of the K classes, which count as errors.
        excluded: Classes left out of the means. Their pixels count everywhere else: one that is predicted as another
            class lowers that class's score.
    """
    counts = confusion.double()
    right, truth, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)[: len(counts)]
    iou = right / (truth + predicted - right)
    accuracy = right / truth
    counted = [index for index in range(len(counts)) if index not in excluded]
    return Scores(
        miou=float(iou[counted].nanmean()),
        miou_all=float(iou.nanmean()),
        pixel_accuracy=float(right.sum() / truth.sum()),
        class_accuracy=float(accuracy[counted].nanmean()),
        iou=tuple(iou.tolist()),
        accuracy=tuple(accuracy.tolist()),
    )


class ConfusionMatrix(Metric):
    """Counts of pixels by true and predicted class, accumulated over images and processes.

    Args:
        num_classes: K.
        ignore_index: The label of pixels that do not count.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_classes: int, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        counts = torch.zeros(num_classes, num_classes + 1, dtype=torch.int64)
        self.add_state("counts", counts, dist_reduce_fx="sum")

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Count a batch of predicted classes and labels, both (N, H, W) of an integer type.

        A prediction of K or above is none of the classes: a network may know classes that the data set does not have.
        """
        counted = labels != self.ignore_index
        columns = predicted[counted].long().clamp(max=self.num_classes)
        cells = labels[counted].long() * (self.num_classes + 1) + columns
        self.counts += torch.bincount(cells, minlength=self.counts.numel()).reshape(self.counts.shape)

    def compute(self) -> Tensor:
        """Return the counts, (K, K + 1) int64: rows are true classes, columns predicted ones, the last for none."""
        return self.counts

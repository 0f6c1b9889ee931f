"""The Dice loss: how much the predicted and the labelled area of each class overlap, however small the class is."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.labels import IGNORE_INDEX


class DiceLoss(nn.Module):
    """One minus the soft Dice score, averaged over every image's own classes.

    Every class of an image counts the same, so that small things teach as much as roads and walls do. Source: V-Net
    (arXiv:1606.04797, section 3), with a score for each class, and the plain sums of probabilities below.

    Args:
        smooth: Pixels added to both areas and to what they share; above 0.
        ignore_index: The label of pixels that do not count.

    Raises:
        ValueError: `smooth` is not above 0.
    """

    title = "Dice"

    def __init__(self, smooth: float = 1.0, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        if smooth <= 0:
            raise ValueError(f"smooth must be above 0, not {smooth}.")
        self.smooth = smooth
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits (N, K, H, W) and labels (N, H, W) int64 -> a scalar in [0, 1); 0 where every pixel is ignored."""
        counted = labels != self.ignore_index
        truth = F.one_hot(labels.where(counted, 0), logits.shape[1]).movedim(-1, 1) * counted.unsqueeze(1)
        # Areas of a whole image exceed what half precision counts.
        p = torch.softmax(logits.float(), 1) * counted.unsqueeze(1)
        shared, predicted, labelled = (x.sum((2, 3)) for x in (p * truth, p, truth))
        loss = 1 - (2 * shared + self.smooth) / (predicted + labelled + self.smooth)
        present = labelled > 0
        return (loss * present).sum() / present.sum().clamp(min=1)

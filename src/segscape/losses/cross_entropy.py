"""Cross entropy of every pixel, and of the hard ones only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.labels import IGNORE_INDEX


class CrossEntropy(nn.Module):
    """The mean cross entropy over the pixels that have a label.

    Args:
        class_weights: A factor for each of the K classes; the mean is weighted by them too.
        ignore_index: The label of pixels that do not count.
        mean_over: `"labelled"` pixels, or `"all"`: ignored pixels then add nothing but are counted in the divisor, as
            in the official code of ISDNet and DABNet; not with class weights.

    Raises:
        ValueError: Class weights with the mean over all pixels.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        ignore_index: int = IGNORE_INDEX,
        *,
        mean_over: Literal["labelled", "all"] = "labelled",
    ) -> None:
        super().__init__()
        if class_weights is not None and mean_over == "all":
            raise ValueError("Class weights go with the mean over the labelled pixels; leave mean_over out.")
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        self.ignore_index = ignore_index
        self.mean_over = mean_over

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits (N, K, H, W) and labels (N, H, W) int64 -> a scalar; 0 where every pixel is ignored."""
        loss = F.cross_entropy(
            logits, labels, weight=self.class_weights, ignore_index=self.ignore_index, reduction="sum"
        )
        if self.mean_over == "all":
            return loss / labels.numel()
        counted = labels != self.ignore_index
        if self.class_weights is None:
            return loss / counted.sum().clamp(min=1)
        total = self.class_weights[labels[counted]].sum()
        return loss / torch.where(total > 0, total, 1.0)


class OhemCrossEntropy(nn.Module):
    """Online hard example mining: the mean over the pixels that the network is unsure of, and always over some.

    The losses of all pixels of the batch are sorted. If the one at the 0-based index `min_kept` exceeds
    -ln(threshold), the mean is over all that do; otherwise it is over the first `min_kept`. An ignored pixel stays
    in the list with loss 0, as in the official code of STDC-Seg.

    Args:
        min_kept: The pixels of a batch that always count: an `int` is their number, a `float` their share of the batch,
            rounded down. The official recipe's number, (images a process) x 1024 x 512 / 16, is a share of 0.0625.
        threshold: Probability of the right class below which a pixel counts as hard.
        ignore_index: The label of pixels with loss 0.

    Raises:
        ValueError: `min_kept` is a share that is not between 0 and 1.
    """

    title = "hard-example cross entropy"

    def __init__(self, min_kept: int | float, threshold: float = 0.7, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        if isinstance(min_kept, float) and not 0 < min_kept < 1:
            raise ValueError(f"A share of the batch lies between 0 and 1, not at {min_kept}; a number has no point.")
        self.min_kept = min_kept
        self.hard_loss = -math.log(threshold)
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits (N, K, H, W) and labels (N, H, W) int64 -> a scalar.

        Raises:
            ValueError: The batch has not more than `min_kept` pixels, or its share is no pixel.
        """
        losses = F.cross_entropy(logits, labels, ignore_index=self.ignore_index, reduction="none").flatten()
        min_kept = int(self.min_kept * losses.numel()) if isinstance(self.min_kept, float) else self.min_kept
        if not 0 < min_kept < losses.numel():
            raise ValueError(
                f"A batch of {losses.numel()} pixels is too small for min_kept={self.min_kept}; "
                "change min_kept, or enlarge the batch or the crop."
            )
        # The sorted order matters only through its first min_kept entries, so the full sort is not needed.
        hard = losses > losses.new_tensor(self.hard_loss, dtype=torch.float32)
        if hard.sum() > min_kept:
            return losses[hard].mean()
        return losses.topk(min_kept, sorted=False).values.mean()

"""The losses of mask refinement: on the probabilities and on the strength of their edges.

Papers: CRM, arXiv:2111.14482; the edge term is that of CascadePSP, arXiv:2005.02551. The default weights are those of
the command in the authors' README.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class RefinementWeights:
    """The factor of each term in the total.

    Attributes:
        ce: Of the binary cross entropy.
        l1: Of the mean absolute error.
        l2: Of the mean squared error.
        grad: Of the mean absolute error of the edge strengths.
    """

    ce: float = 1.0
    l1: float = 0.5
    l2: float = 0.5
    grad: float = 2.0


class EdgeStrength(nn.Module):
    """How fast a map changes: the length of its Sobel gradient after a 3 x 3 mean, all with zeros around the map.

    The zeros are the authors': a map that is not zero at its border has an edge there.
    """

    sobel: Tensor

    def __init__(self) -> None:
        super().__init__()
        across = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]) / 4
        self.register_buffer("sobel", torch.stack([across, across.T]).unsqueeze(1), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, 1, H, W) -> their edge strengths (N, 1, H, W), at least 0.01, which keeps the gradient finite."""
        smooth = F.avg_pool2d(maps, 3, stride=1, padding=1)
        slopes = F.conv2d(smooth, self.sobel.to(maps.dtype), padding=1)
        return (slopes.square().sum(1, keepdim=True) + 1e-4).sqrt()


class RefinementLoss(nn.Module):
    """The weighted sum of four losses on a refined mask, each a mean over all pixels.

    Args:
        weights: The factor of each; by default the authors'.
    """

    def __init__(self, weights: RefinementWeights | None = None) -> None:
        super().__init__()
        self.weights = weights or RefinementWeights()
        self.edges = EdgeStrength()

    def forward(self, logits: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """The losses of a batch.

        Args:
            logits: (N, 1, H, W), float32 or float64.
            truth: (N, 1, H, W) in [0, 1], of the same type; soft edges stay soft, but for the cross entropy.

        Returns:
            `ce`, `l1`, `l2` and `grad` before their weights, and the weighted `total`.
        """
        # A convolution in half precision would drown the 1e-4 of the edge strengths.
        with torch.autocast(logits.device.type, enabled=False):
            p = torch.sigmoid(logits)
            terms = {
                "ce": F.binary_cross_entropy_with_logits(logits, (truth > 0.5).to(logits.dtype)),
                "l1": F.l1_loss(p, truth),
                "l2": F.mse_loss(p, truth),
                "grad": F.l1_loss(self.edges(p), self.edges(truth)),
            }
        w = self.weights
        total = w.ce * terms["ce"] + w.l1 * terms["l1"] + w.l2 * terms["l2"] + w.grad * terms["grad"]
        return {**terms, "total": total}

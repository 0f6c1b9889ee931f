"""The detail loss of STDC-Seg: the shallow features must predict where the labels change.

Paper: arXiv:2104.13188, section 3.3, equations 2 to 4, figure 5.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_THRESHOLD = 0.1
_FUSION = (0.6, 0.3, 0.1)
_STRIDES = (1, 2, 4)


class DetailLoss(nn.Module):
    """Binary cross entropy and dice loss between a detail map and the edges of the labels.

    The edges are those of a Laplacian at strides 1, 2 and 4, joined by three factors and a threshold. With the
    official factors an edge counts that is found at stride 1 or 2; 0.1, the third, does not exceed the threshold.

    Args:
        learned_fusion: Make the three factors a parameter, as the official code does. Its gradient is always zero,
            so weight decay shrinks it, and late in the official schedules no edge is left to learn. Off by default.
    """

    title = "detail loss"

    laplacian: Tensor

    def __init__(self, *, learned_fusion: bool = False) -> None:
        super().__init__()
        kernel = torch.full((1, 1, 3, 3), -1.0)
        kernel[..., 1, 1] = 8.0
        self.register_buffer("laplacian", kernel, persistent=False)
        fusion = torch.tensor(_FUSION).reshape(1, 3, 1, 1)
        if learned_fusion:
            self.fusion = nn.Parameter(fusion)
        else:
            self.register_buffer("fusion", fusion, persistent=False)

    def target(self, labels: Tensor) -> Tensor:
        """The edges of a label map.

        Args:
            labels: (N, H, W) int64. The ignore index counts as a label here, so its borders are edges too.

        Returns:
            (N, 1, H, W), 1 on an edge and 0 elsewhere: where a label is above the mean of its eight neighbours.
        """
        # Always float32 and outside autocast: whether the third factor exceeds 0.1 hangs on its rounding.
        with torch.autocast(labels.device.type, enabled=False):
            y = labels.unsqueeze(1).float()
            maps = []
            for stride in _STRIDES:
                response = F.conv2d(y, self.laplacian.float(), stride=stride, padding=1).clamp(min=0)
                if stride > 1:
                    response = F.interpolate(response, size=y.shape[-2:], mode="nearest")
                maps.append((response > _THRESHOLD).float())
            fused = (torch.cat(maps, dim=1) * self.fusion.float()).sum(dim=1, keepdim=True)
            target = (fused > _THRESHOLD).float()
        # A learned fusion keeps the zero gradient that it officially has, so that weight decay acts on it.
        return target + 0 * fused if fused.requires_grad else target

    def forward(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Detail logits (N, 1, H, W) and labels (N, H, W) int64 -> the scalars `bce` and `dice`, of all pixels."""
        target = self.target(labels).to(logits.dtype)
        bce = F.binary_cross_entropy_with_logits(logits, target)
        p, t = torch.sigmoid(logits).flatten(1), target.flatten(1)
        dice = 1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)
        return {"bce": bce, "dice": dice.mean()}

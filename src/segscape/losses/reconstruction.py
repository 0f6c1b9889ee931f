"""ISDNet's losses without labels: the deep branch must keep what the image's fine detail can be restored from.

Paper: ISDNet: Integrating Shallow and Deep Networks for Efficient Ultra-high Resolution Segmentation (CVPR 2022), the
super-resolution loss and the structure loss.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_EPSILON = 1e-6


class ReconstructionLoss(nn.Module):
    """The mean squared error of a reconstruction, enlarged to its target."""

    title = "reconstruction loss"

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """(N, C, h, w), resized bilinearly, and (N, C, H, W) -> a scalar."""
        resized = F.interpolate(reconstruction, size=target.shape[-2:], mode="bilinear", align_corners=False)
        return F.mse_loss(resized, target)


class StructureLoss(nn.Module):
    """How the features' positions relate must be as in a finer map of features.

    Each channel is divided by its norm over the positions; the relation of two positions is the product of their
    features. The loss is the mean absolute difference of the two maps' relations, over all pairs of positions. The
    finer map is a fixed target: no gradient goes to it.
    """

    title = "structure loss"

    def forward(self, features: Tensor, finer: Tensor) -> dict[str, Tensor]:
        """(N, C, h, w), and (N, C, H, W), resized bilinearly to the first -> the scalar `structure`.

        Needs 2 (h w)^2 floating-point values at a time, and holds (h w)^2 an image for the gradient.
        """
        target = F.interpolate(finer.detach(), size=features.shape[-2:], mode="bilinear", align_corners=False)
        pairs = zip(self._normalised(features), self._normalised(target), strict=True)
        # One image after the other, in place of three batches of all pairs at once.
        differences = [torch.addmm(q.mT @ q, p.mT, p, beta=-1).abs().mean() for p, q in pairs]
        return {"structure": torch.stack(differences).mean()}

    @staticmethod
    def _normalised(features: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h w), each channel divided by its norm over the positions."""
        flat = features.flatten(2)
        return flat / (torch.linalg.vector_norm(flat, dim=2, keepdim=True) + _EPSILON)

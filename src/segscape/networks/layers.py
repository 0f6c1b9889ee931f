"""Building blocks that more than one network uses.

Tensors are (N, C, H, W) throughout.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval


class Foldable(nn.Module):
    """A module that knows how its own batch normalisation becomes part of its convolutions for inference.

    As it stands here it does so for modules whose children run in the order in which they are registered; others say
    it in a `fold_norms` of their own.
    """

    def fold_norms(self) -> None:
        """Change the module in place, in evaluation mode, to one without the normalisation that can be folded."""
        fold_in_order(self)


def fold_in_order(module: nn.Module) -> None:
    """Fold each batch normalisation into the convolution that stands before it.

    Args:
        module: One whose children run in the order in which they are registered; changed in place.
    """
    for (conv_name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
        follower = norm[0] if isinstance(norm, nn.Sequential) and len(norm) else norm
        if isinstance(conv, nn.Conv2d) and isinstance(follower, nn.BatchNorm2d):
            setattr(module, conv_name, fuse_conv_bn_eval(conv, follower))
            setattr(module, norm_name, norm[1:] if isinstance(norm, nn.Sequential) else nn.Identity())


class ConvNorm(Foldable):
    """A convolution, without bias unless asked for, then batch normalisation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=bias)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, ceil(H / stride), ceil(W / stride))."""
        return self.bn(self.conv(x))


class ConvNormAct(ConvNorm):
    """`ConvNorm`, then ReLU, or leaky ReLU where a `negative_slope` is given."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        negative_slope: float = 0.0,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride, dilation=dilation, groups=groups, bias=bias)
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, ceil(H / stride), ceil(W / stride))."""
        y = super().forward(x)
        return F.leaky_relu_(y, self.negative_slope) if self.negative_slope else y.relu_()


class GlobalMean(nn.Module):
    """The mean of each channel over the whole image."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 1, 1)."""
        return x.mean(dim=(2, 3), keepdim=True)


class AttentionRefinement(nn.Module):
    """BiSeNet's attention refinement module: features weighted by a gate that sees the whole image.

    Source: BiSeNet (arXiv:1808.00897), figure 2b, as STDC-Seg (arXiv:2104.13188) uses it.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, out_channels, 3)
        self.mean = GlobalMean()
        self.gate = ConvNorm(out_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W)."""
        features = self.conv(x)
        return features * torch.sigmoid(self.gate(self.mean(features)))


class FeatureFusion(nn.Module):
    """BiSeNet's feature fusion module: two maps of one size joined, and their sum gated by their mean.

    Source: BiSeNet (arXiv:1808.00897), figure 2c, as STDC-Seg (arXiv:2104.13188) uses it.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, out_channels, 1)
        self.mean = GlobalMean()
        self.squeeze = nn.Conv2d(out_channels, out_channels // 4, 1, bias=False)
        self.excite = nn.Conv2d(out_channels // 4, out_channels, 1, bias=False)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        """(N, a, H, W) and (N, in - a, H, W) -> (N, out, H, W)."""
        features = self.conv(torch.cat([spatial, context], dim=1))
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(self.mean(features)))))
        return features * gate + features


class SegmentationHead(nn.Module):
    """A convolution and a 1x1 classifier: features to logits, or to a detail map of one channel.

    In training whole channels are dropped before the classifier, at the rate `dropout`.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        num_classes: int,
        *,
        kernel: int = 3,
        bias: bool = False,
        dropout: float = 0.0,
        negative_slope: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, mid_channels, kernel, negative_slope=negative_slope)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(mid_channels, num_classes, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> logits (N, K, H, W)."""
        return self.classifier(self.dropout(self.conv(x)))


def init_kaiming(
    module: nn.Module, *, mode: Literal["fan_in", "fan_out"], nonlinearity: Literal["linear", "relu"]
) -> None:
    """Draw every convolution below `module` from He's normal distribution (arXiv:1502.01852).

    Args:
        module: Changed in place.
        mode: `"fan_in"` or `"fan_out"`.
        nonlinearity: `"relu"`, or `"linear"` for a gain of 1.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity=nonlinearity)

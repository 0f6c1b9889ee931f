"""EfficientNet-B1, built by timm, its stages within reach.

Paper: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (arXiv:1905.11946), table 1 with the
depth of B1. What differs from timm's own: normalisation and activation are two modules, and the mean of the
squeeze-and-excitation is one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from segscape.networks.layers import Foldable, GlobalMean

_BLOCKS = ((0,), (1,), (2,), (3, 4), (5, 6))
"""timm's groups of blocks, by the number of our stage: each stage but the first halves the image once."""


def _norm_act(channels: int, *, apply_act: bool = True, **_: Any) -> nn.Module:
    # timm's BatchNormAct2d is a batch normalisation that activates too, and torch's conversion to synchronised
    # normalisation would replace it by one that does not.
    norm = nn.BatchNorm2d(channels)
    return nn.Sequential(norm, nn.SiLU(inplace=True)) if apply_act else norm


class SqueezeExcite(nn.Module):
    """Channels weighted by a gate that sees the whole map, with the entry names and the arguments of timm's.

    Source: Squeeze-and-Excitation Networks (arXiv:1709.01507), section 3, with SiLU in place of ReLU.
    """

    def __init__(self, channels: int, *, rd_ratio: float, **_: Any) -> None:
        super().__init__()
        squeezed = round(channels * rd_ratio)
        self.mean = GlobalMean()
        self.conv_reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.SiLU(inplace=True)
        self.conv_expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        return x * torch.sigmoid(self.conv_expand(self.act(self.conv_reduce(self.mean(x)))))


class EfficientNetB1(Foldable):
    """The stem and the blocks, without the last 1x1 convolution and the classifier.

    Attributes:
        stage_channels: Of the five stages' outputs, at strides 2 to 32.
    """

    stage_channels = (16, 24, 40, 112, 320)

    def __init__(self) -> None:
        import timm  # seconds to import, and not every network needs it

        super().__init__()
        built: Any = timm.create_model(
            "efficientnet_b1", features_only=True, norm_layer=_norm_act, se_layer=SqueezeExcite
        )
        self.conv_stem, self.bn1, self.blocks = built.conv_stem, built.bn1, built.blocks

    def stage(self, number: int, x: Tensor) -> Tensor:
        """One stage's output, at half the size of its input.

        Args:
            number: 0 to 4; stage 0 includes the stem.
            x: The output of the stage before; for stage 0 normalised images (N, 3, H, W).
        """
        if number == 0:
            x = self.bn1(self.conv_stem(x))
        for group in _BLOCKS[number]:
            x = self.blocks[group](x)
        return x

"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation, with ReLU6 for swish.

Paper: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (arXiv:1905.11946), table 1 (the
stages) and section 3.3 (their scaling).
Origin: github.com/tensorflow/tpu, models/official/efficientnet/lite: first and last stage keep the depth of Lite0, stem
and head its width. What differs: maps are padded alike on both sides, so that features lie where the image has them;
TensorFlow pads strided convolutions on the far side alone, which moves the same features by one pixel. Entries are
named as timm names them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from segscape.networks.layers import Foldable, GlobalMean, init_kaiming
from segscape.normalisation import Normalisation
from segscape.registry import register_model

LITE_NORMALISATION = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Images of these networks lie in [-1, 1]."""

_STEM_CHANNELS = 32
_HEAD_CHANNELS = 1280
# Of TensorFlow's batch normalisation.
_EPS = 1e-3


@dataclass(frozen=True)
class _Stage:
    """A row of the paper's table 1: `repeats` blocks, the first with the stride."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    repeats: int


_STAGES = (
    _Stage(3, 1, 1, 16, 1),
    _Stage(3, 2, 6, 24, 2),
    _Stage(5, 2, 6, 40, 2),
    _Stage(3, 2, 6, 80, 3),
    _Stage(5, 1, 6, 112, 3),
    _Stage(5, 2, 6, 192, 4),
    _Stage(3, 1, 6, 320, 1),
)
_GROUPS = ((0,), (1,), (2,), (3, 4), (5, 6))
"""The paper's stages by the number of ours: each of ours halves the image once."""


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPS)


def _depthwise(channels: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)


class DepthwiseSeparable(nn.Sequential):
    """The block of the first stage: a convolution of each channel by itself, then one of single pixels."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, stride: int) -> None:
        super().__init__(
            OrderedDict(
                conv_dw=_depthwise(in_channels, kernel, stride),
                bn1=_norm(in_channels),
                act=nn.ReLU6(inplace=True),
                conv_pw=nn.Conv2d(in_channels, out_channels, 1, bias=False),
                bn2=_norm(out_channels),
            )
        )


class InvertedResidual(nn.Sequential):
    """More channels, a convolution of each by itself, fewer channels; added to the input where the shapes allow.

    Source: MobileNetV2 (arXiv:1801.04381), figure 3b and 4d.
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, stride: int, expansion: int) -> None:
        inside = in_channels * expansion
        super().__init__(
            OrderedDict(
                conv_pw=nn.Conv2d(in_channels, inside, 1, bias=False),
                bn1=_norm(inside),
                act1=nn.ReLU6(inplace=True),
                conv_dw=_depthwise(inside, kernel, stride),
                bn2=_norm(inside),
                act2=nn.ReLU6(inplace=True),
                conv_pwl=nn.Conv2d(inside, out_channels, 1, bias=False),
                bn3=_norm(out_channels),
            )
        )
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return x + y if self.adds else y


class EfficientNetLite(Foldable):
    """The stem and the stages, without the last 1x1 convolution and the classifier.

    Args:
        number: 0, 1 or 2: Lite0, Lite1 or Lite2.
        image_channels: Of the input; more than three where a mask comes with the image.
        stages: How many of the five stages there are; the later ones are left out.

    Attributes:
        stage_channels: Of the stages' outputs, at strides 2, 4, 8, 16 and 32.
    """

    def __init__(self, number: int, *, image_channels: int = 3, stages: int = 5) -> None:
        super().__init__()
        width, depth = _SCALING[number]
        self.conv_stem = nn.Conv2d(image_channels, _STEM_CHANNELS, 3, 2, 1, bias=False)
        self.bn1 = _norm(_STEM_CHANNELS)
        self.act = nn.ReLU6(inplace=True)
        self.blocks = nn.ModuleList()
        channels = _STEM_CHANNELS
        for place, stage in enumerate(_STAGES[: _GROUPS[stages - 1][-1] + 1]):
            out = _rounded(stage.channels * width)
            fixed = place in (0, len(_STAGES) - 1)
            blocks: list[nn.Module] = []
            for block in range(stage.repeats if fixed else math.ceil(stage.repeats * depth)):
                stride = stage.stride if block == 0 else 1
                if stage.expansion == 1:
                    blocks.append(DepthwiseSeparable(channels, out, kernel=stage.kernel, stride=stride))
                else:
                    blocks.append(
                        InvertedResidual(channels, out, kernel=stage.kernel, stride=stride, expansion=stage.expansion)
                    )
                channels = out
            self.blocks.append(nn.Sequential(*blocks))
        self.stage_channels: Any = tuple(_rounded(_STAGES[group[-1]].channels * width) for group in _GROUPS[:stages])
        init_kaiming(self, mode="fan_out", nonlinearity="relu")

    def stage(self, number: int, x: Tensor) -> Tensor:
        """One stage's output, at half the size of its input.

        Args:
            number: 0 to 4; stage 0 includes the stem.
            x: The output of the stage before; for stage 0 images (N, 3, H, W) in [-1, 1].
        """
        if number == 0:
            x = self.act(self.bn1(self.conv_stem(x)))
        for group in _GROUPS[number]:
            x = self.blocks[group](x)
        return x

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Images (N, 3, H, W) in [-1, 1] -> every stage's output, by its stride: 2, 4, 8, 16 and 32."""
        features, x = {}, images
        for number in range(len(self.stage_channels)):
            x = features[2 << number] = self.stage(number, x)
        return features


_SCALING = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}
"""By which width and depth of Lite0 are multiplied."""


def _rounded(channels: float) -> int:
    """To the nearest multiple of 8, but by no more than a tenth down."""
    nearest = max(int(channels + 4) // 8 * 8, 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


class EfficientNetLiteClassifier(EfficientNetLite):
    """The ImageNet form of the backbone, the source of pre-trained weights."""

    def __init__(self, number: int, num_classes: int) -> None:
        super().__init__(number)
        self.conv_head = nn.Conv2d(self.stage_channels[-1], _HEAD_CHANNELS, 1, bias=False)
        self.bn2 = _norm(_HEAD_CHANNELS)
        self.mean = GlobalMean()
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(_HEAD_CHANNELS, num_classes)

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Images (N, 3, H, W) in [-1, 1] -> class logits (N, K)."""
        features = super().forward(images)[32]
        pooled = self.mean(self.act(self.bn2(self.conv_head(features)))).flatten(1)
        return self.classifier(self.dropout(pooled))


@register_model(task="classification")
def efficientnet_lite0(num_classes: int = 1000) -> EfficientNetLiteClassifier:
    """EfficientNet-Lite0 in its ImageNet form."""
    return EfficientNetLiteClassifier(0, num_classes)


@register_model(task="classification")
def efficientnet_lite1(num_classes: int = 1000) -> EfficientNetLiteClassifier:
    """EfficientNet-Lite1 in its ImageNet form."""
    return EfficientNetLiteClassifier(1, num_classes)


@register_model(task="classification")
def efficientnet_lite2(num_classes: int = 1000) -> EfficientNetLiteClassifier:
    """EfficientNet-Lite2 in its ImageNet form."""
    return EfficientNetLiteClassifier(2, num_classes)

"""DABNet: a context path whose stages look at patches, a spatial path that starts from their early features.

Paper: Real-time Semantic Segmentation via Densely Aggregated Bilateral Network (IEEE TNNLS).
Origin: github.com/isyangshu/DABNet. What differs: a patch is rearranged by pixel unshuffle and average pooling, the
same numbers without loops and copies; nothing is resampled where a patch is one pixel; and weights for the backbone are
never downloaded.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segscape.networks.base import Parts, SegmentationNetwork, SegmentationOutput
from segscape.networks.efficientnet import EfficientNetB1
from segscape.networks.efficientnet_lite import LITE_NORMALISATION, EfficientNetLite
from segscape.networks.layers import (
    AttentionRefinement,
    ConvNormAct,
    Foldable,
    GlobalMean,
    SegmentationHead,
    init_kaiming,
)
from segscape.networks.resnet import DeepStemResNet
from segscape.registry import register_model

_DECODER_CHANNELS = 128
_FUSED_CHANNELS = 256
_AUX_CHANNELS = 64
_DROPOUT = 0.1


class ResNet18(DeepStemResNet):
    """ResNet-18, its stages run one at a time.

    Attributes:
        stage_channels: Of the five stages' outputs, at strides 2 to 32.
    """

    stage_channels = (64, 64, 128, 256, 512)

    def __init__(self) -> None:
        super().__init__(18)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in layer:
                nn.init.ones_(block.bn2.weight)  # timm starts at 0, the authors do not

    def stage(self, number: int, x: Tensor) -> Tensor:
        """One stage's output, at half the size of its input.

        Args:
            number: 0 to 4; stage 0 is the stem.
            x: The output of the stage before; for stage 0 normalised images (N, 3, H, W).
        """
        if number == 0:
            return self.stem(x)
        if number == 1:
            x = self.maxpool(x)
        return self.get_submodule(f"layer{number}")(x)


def _pooling(patch: int) -> nn.Module:
    return nn.AvgPool2d(patch) if patch > 1 else nn.Identity()


def _upsampling(patch: int) -> nn.Module:
    return nn.Upsample(scale_factor=patch, mode="bilinear", align_corners=False) if patch > 1 else nn.Identity()


class JoinedConvs(Foldable):
    """The sum of two convolutions, one of each branch, then batch normalisation and ReLU."""

    def __init__(self, high_channels: int, low_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.high = nn.Conv2d(high_channels, out_channels, kernel, padding=kernel // 2)
        self.low = nn.Conv2d(low_channels, out_channels, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        """(N, high, H, W) and (N, low, H, W) -> (N, out, H, W), not negative."""
        return self.bn(self.high(high) + self.low(low)).relu_()

    def fold_norms(self) -> None:
        """Fold the normalisation of the sum into both convolutions, its shift into one of them."""
        scale_only = copy.deepcopy(self.bn)
        scale_only.reset_parameters()
        scale_only.weight.data, scale_only.running_var = self.bn.weight.data, self.bn.running_var
        self.high = fuse_conv_bn_eval(self.high, self.bn)
        self.low = fuse_conv_bn_eval(self.low, scale_only)
        self.bn = nn.Identity()  # type: ignore[assignment]


class PatchSummary(nn.Module):
    """Each patch as one pixel, seen twice: its pixels as channels, and the mean of each channel."""

    def __init__(self, in_channels: int, out_channels: int, patch: int) -> None:
        super().__init__()
        self.unshuffle = nn.PixelUnshuffle(patch)
        self.pool = _pooling(patch)
        self.channel = ConvNormAct(in_channels * patch**2, out_channels, 3, bias=True)
        self.join = JoinedConvs(out_channels, in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H / patch, W / patch)."""
        return self.join(self.channel(self.unshuffle(x)), self.pool(x))


class PatchModule(nn.Module):
    """A branch of pixels (high) and one of patches (low) that inform each other; their join is added to the input.

    The paper calls it HFA, the authors' code SIM or PCE.

    Args:
        channels: Of input and output.
        hidden: Channels inside.
        patch: The side of a patch, in pixels of the input, whose sides must be multiples of it.
    """

    def __init__(self, channels: int, hidden: int, patch: int) -> None:
        super().__init__()
        self.pool = _pooling(patch)
        self.upsample = _upsampling(patch)
        self.high = ConvNormAct(channels, hidden, 3, bias=True)
        self.low = PatchSummary(channels, hidden, patch)
        self.to_high = JoinedConvs(hidden, hidden, hidden, 3)
        self.to_low = JoinedConvs(hidden, hidden, hidden, 3)
        self.out = JoinedConvs(hidden, hidden, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        high, low = self.high(x), self.low(x)
        high, low = self.to_high(high, self.upsample(low)), self.to_low(self.pool(high), low)
        return self.out(high, self.upsample(low)) + x


class SpatialPath(nn.Module):
    """CGSP: the pooled image and the context's early features, down to stride 8.

    Args:
        channels: Of the context path at strides 2, 4 and 8.
    """

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        stride2, stride4, stride8 = channels
        self.image = ConvNormAct(3 + stride2, stride4, 3, stride=2)
        self.context4 = ConvNormAct(stride4, stride4, 3)
        self.down = ConvNormAct(stride4, 64, 3, stride=2)
        self.context8 = ConvNormAct(stride8, 64, 3)
        self.out = ConvNormAct(64, _DECODER_CHANNELS, 1)

    def forward(self, images: Tensor, x2: Tensor, x4: Tensor, x8: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) and the context path's features, numbered by stride -> (N, 128, h, w)."""
        x = self.image(torch.cat([F.avg_pool2d(images, 2), x2], dim=1))
        x = self.down(x + self.context4(x4))
        return self.out(x + self.context8(x8))


class ContextDecoder(nn.Module):
    """From the coarsest features up: gated features plus the coarser context, upsampled and smoothed.

    As BiSeNet's (arXiv:1808.00897, figure 2a), without the mean of the coarsest features.

    Args:
        channels: Of the context path at strides 16 and 32.
    """

    def __init__(self, channels: tuple[int, int]) -> None:
        super().__init__()
        width = _DECODER_CHANNELS
        self.refine = nn.ModuleDict(
            {stride: AttentionRefinement(count, width) for stride, count in zip(("16", "32"), channels, strict=True)}
        )
        self.smooth = nn.ModuleDict({stride: ConvNormAct(width, width, 3) for stride in ("16", "32")})

    def forward(self, x8: Tensor, x16: Tensor, x32: Tensor) -> tuple[Tensor, Tensor]:
        """Features numbered by stride -> contexts (N, 128, h, w) of the sizes of `x8` and `x16`."""
        coarse = F.interpolate(self.refine["32"](x32), size=x16.shape[-2:], mode="nearest")
        coarse = self.smooth["32"](coarse)
        fine = F.interpolate(self.refine["16"](x16) + coarse, size=x8.shape[-2:], mode="nearest")
        return self.smooth["16"](fine), coarse


class GatedFusion(nn.Module):
    """Two maps of one size joined, plus the same gated by its mean.

    Unlike BiSeNet's feature fusion, the gate is one convolution, normalised and rectified, and so at least 1/2.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, out_channels, 1)
        self.mean = GlobalMean()
        self.gate = ConvNormAct(out_channels, out_channels, 1)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        """(N, a, H, W) and (N, in - a, H, W) -> (N, out, H, W)."""
        features = self.conv(torch.cat([spatial, context], dim=1))
        return features * torch.sigmoid(self.gate(self.mean(features))) + features


class DABNet(SegmentationNetwork):
    """DABNet: logits at stride 8; auxiliary heads in training.

    In training `.aux` holds `aux16` (logits at stride 8, from the context refined at stride 16) and `aux32` (stride
    16). A batch needs two images then: the gates normalise maps of one pixel.

    Args:
        backbone: The context path without its patch modules.
        patches: Four modules that keep the shape of the features at strides 4, 8, 16 and 32.
        spatial: From the images and the features at strides 2, 4 and 8 to 128 channels at stride 8.
        num_classes: K, the number of classes.
        size_multiple: What both sides of the images must be multiples of, in pixels.
    """

    stride = 8
    align_corners = False
    parts = Parts(
        backbone=("backbone",),
        new=("patches", "spatial", "context", "fusion", "head"),
        training_only=("aux16", "aux32"),
        aux_logits=("aux16", "aux32"),
    )

    def __init__(
        self,
        backbone: ResNet18 | EfficientNetB1 | EfficientNetLite,
        patches: Sequence[nn.Module],
        spatial: nn.Module,
        *,
        num_classes: int,
        size_multiple: int,
    ) -> None:
        super().__init__()
        self.size_multiple = size_multiple
        self.backbone = backbone
        self.patches = nn.ModuleList(patches)
        self.spatial = spatial
        self.context = ContextDecoder(backbone.stage_channels[3:])
        self.fusion = GatedFusion(2 * _DECODER_CHANNELS, _FUSED_CHANNELS)
        self.head = SegmentationHead(_FUSED_CHANNELS, _FUSED_CHANNELS, num_classes, bias=True, dropout=_DROPOUT)
        self.aux16 = SegmentationHead(_DECODER_CHANNELS, _AUX_CHANNELS, num_classes, bias=True, dropout=_DROPOUT)
        self.aux32 = SegmentationHead(_DECODER_CHANNELS, _AUX_CHANNELS, num_classes, bias=True, dropout=_DROPOUT)
        for module in (self.spatial, self.context, self.fusion, self.head, self.aux16, self.aux32):
            init_kaiming(module, mode="fan_out", nonlinearity="relu")
        for head in (self.head, self.aux16, self.aux32):
            nn.init.normal_(head.classifier.weight, std=0.01)
            assert head.classifier.bias is not None
            nn.init.zeros_(head.classifier.bias)

    def forward(self, images: Tensor) -> Tensor | SegmentationOutput:
        """Normalised images (N, 3, H, W) -> logits (N, K, ceil(H/8), ceil(W/8)); see the class.

        Raises:
            ValueError: A side of the images is no multiple of `size_multiple`.
        """
        self._check_size(*images.shape[-2:])
        x2 = x = self.backbone.stage(0, images)
        features = []
        for number, patch_module in enumerate(self.patches, start=1):
            x = patch_module(self.backbone.stage(number, x))
            features.append(x)
        x4, x8, x16, x32 = features
        fine, coarse = self.context(x8, x16, x32)
        logits = self.head(self.fusion(self.spatial(images, x2, x4, x8), fine))
        if not self.training:
            return logits
        return SegmentationOutput(logits, {"aux16": self.aux16(fine), "aux32": self.aux32(coarse)})

    def _check_size(self, height: int, width: int) -> None:
        fitting = self.fitting_size(height, width)
        if (height, width) != fitting:
            raise ValueError(
                f"Images of {height} x {width} pixels do not fit this network, whose patches need multiples of "
                f"{self.size_multiple}; pad or resize them, for instance to {fitting[0]} x {fitting[1]}."
            )


def _resnet18(num_classes: int, patch: Literal[1, 2, 4, 8, 16]) -> DABNet:
    backbone = ResNet18()
    hidden = (32, 64, 64, 64)
    patches = [PatchModule(*pair, patch) for pair in zip(backbone.stage_channels[1:], hidden, strict=True)]
    spatial = SpatialPath(backbone.stage_channels[:3])
    size_multiple = 32 * patch if patch > 1 else 2
    return DABNet(backbone, patches, spatial, num_classes=num_classes, size_multiple=size_multiple)


@register_model()
def dabnet_resnet18_p1(num_classes: int) -> DABNet:
    """DABNet on ResNet-18, patches of one pixel."""
    return _resnet18(num_classes, 1)


@register_model()
def dabnet_resnet18_p2(num_classes: int) -> DABNet:
    """DABNet on ResNet-18, patches of 2 x 2 pixels: the authors' default."""
    return _resnet18(num_classes, 2)


@register_model()
def dabnet_resnet18_p4(num_classes: int) -> DABNet:
    """DABNet on ResNet-18, patches of 4 x 4 pixels."""
    return _resnet18(num_classes, 4)


@register_model()
def dabnet_resnet18_p8(num_classes: int) -> DABNet:
    """DABNet on ResNet-18, patches of 8 x 8 pixels: the most accurate on Cityscapes."""
    return _resnet18(num_classes, 8)


@register_model()
def dabnet_resnet18_p16(num_classes: int) -> DABNet:
    """DABNet on ResNet-18, patches of 16 x 16 pixels."""
    return _resnet18(num_classes, 16)


def _efficientnet(num_classes: int, backbone: EfficientNetB1 | EfficientNetLite, weights: str) -> DABNet:
    hidden = (24, 32, 32, 32)
    patches = [PatchModule(*pair, 2) for pair in zip(backbone.stage_channels[1:], hidden, strict=True)]
    spatial = SpatialPath(backbone.stage_channels[:3])
    network = DABNet(backbone, patches, spatial, num_classes=num_classes, size_multiple=64)
    network.imagenet = {"backbone": weights}
    return network


@register_model()
def dabnet_efficientnet_b1(num_classes: int) -> DABNet:
    """DABNet on EfficientNet-B1, patches of 2 x 2 pixels."""
    return _efficientnet(num_classes, EfficientNetB1(), "efficientnet_b1.ft_in1k")


def _efficientnet_lite(num_classes: int, number: int) -> DABNet:
    network = _efficientnet(num_classes, EfficientNetLite(number), f"tf_efficientnet_lite{number}.in1k")
    network.normalisation = LITE_NORMALISATION
    return network


@register_model()
def dabnet_efficientnet_lite0(num_classes: int) -> DABNet:
    """DABNet on EfficientNet-Lite0, patches of 2 x 2 pixels; ours, to start from ImageNet weights and to stream."""
    return _efficientnet_lite(num_classes, 0)


@register_model()
def dabnet_efficientnet_lite2(num_classes: int) -> DABNet:
    """DABNet on EfficientNet-Lite2, patches of 2 x 2 pixels; ours."""
    return _efficientnet_lite(num_classes, 2)

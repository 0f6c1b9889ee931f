"""STDC-Seg: the STDC backbones, and a context path that looks at their deep stages.

Paper: Rethinking BiSeNet for Real-time Semantic Segmentation (CVPR 2021, arXiv:2104.13188): section 3.1 and
figure 3 (the block), table 2 (the backbones), figure 4 (STDC-Seg).
Origin: github.com/MichaelFan01/STDC-Seg. What differs: each tensor is held once, ordinary batch normalisation
replaces the synchronised one with |weight| + 1e-5, and the heads that the published recipe computes but never
uses (detail maps at strides 2, 4 and 16, the ImageNet classifier inside the segmentation network) are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.networks.base import Parts, SegmentationNetwork, SegmentationOutput
from segscape.networks.layers import (
    AttentionRefinement,
    ConvNorm,
    ConvNormAct,
    FeatureFusion,
    GlobalMean,
    SegmentationHead,
    init_kaiming,
)
from segscape.registry import register_model


class STDCBlock(nn.Module):
    """Short-term dense concatenate block: four convolutions, each seeing more of the image, side by side (figure 3)."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        half, quarter, eighth = out_channels // 2, out_channels // 4, out_channels // 8
        self.convs = nn.ModuleList(
            [
                ConvNormAct(in_channels, half, 1),
                ConvNormAct(half, quarter, 3),
                ConvNormAct(quarter, eighth, 3),
                ConvNormAct(eighth, eighth, 3),
            ]
        )
        self.down = ConvNorm(half, half, 3, stride=2, groups=half) if stride == 2 else nn.Identity()
        self.skip = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, ceil(H / stride), ceil(W / stride))."""
        pointwise = self.convs[0](x)
        maps = [self.skip(pointwise)]
        y = self.down(pointwise)
        for conv in self.convs[1:]:
            y = conv(y)
            maps.append(y)
        return torch.cat(maps, dim=1)


class STDC(nn.Module):
    """The backbone: two plain stages, then three of STDC blocks (table 2)."""

    def __init__(self, blocks: tuple[int, int, int]) -> None:
        super().__init__()
        self.stage2 = ConvNormAct(3, 32, 3, stride=2)
        self.stage4 = ConvNormAct(32, 64, 3, stride=2)
        self.stage8 = self._stage(64, 256, blocks[0])
        self.stage16 = self._stage(256, 512, blocks[1])
        self.stage32 = self._stage(512, 1024, blocks[2])
        init_kaiming(self, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(in_channels: int, out_channels: int, blocks: int) -> nn.Sequential:
        rest = (STDCBlock(out_channels, out_channels, stride=1) for _ in range(blocks - 1))
        return nn.Sequential(STDCBlock(in_channels, out_channels, stride=2), *rest)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Images (N, 3, H, W) -> features by stride: 4, 8, 16 and 32, with 64, 256, 512 and 1024 channels."""
        f4 = self.stage4(self.stage2(images))
        f8 = self.stage8(f4)
        f16 = self.stage16(f8)
        f32 = self.stage32(f16)
        return {4: f4, 8: f8, 16: f16, 32: f32}


class STDCClassifier(nn.Module):
    """The ImageNet form of the backbone, the source of pre-trained weights."""

    def __init__(self, blocks: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.backbone = STDC(blocks)
        self.conv_last = ConvNormAct(1024, 1024, 1)
        self.mean = GlobalMean()
        self.fc = nn.Linear(1024, 1024, bias=False)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(1024, num_classes, bias=False)
        init_kaiming(self.conv_last, mode="fan_out", nonlinearity="relu")
        for linear in (self.fc, self.classifier):
            nn.init.normal_(linear.weight, std=0.001)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) -> class logits (N, K)."""
        # The official classifier pools the squared features.
        pooled = self.mean(self.conv_last(self.backbone(images)[32]).square()).flatten(1)
        return self.classifier(self.dropout(torch.relu(self.fc(pooled))))


class ContextPath(nn.Module):
    """From the coarsest features up: gated features plus the coarser context, upsampled and smoothed (figure 4).

    Args:
        channels: Channels of the features at each stride that is refined, the coarsest (32) included.
    """

    width = 128

    def __init__(self, channels: dict[int, int]) -> None:
        super().__init__()
        self.strides = sorted(channels, reverse=True)
        self.mean = GlobalMean()
        self.average = ConvNormAct(channels[32], self.width, 1)
        self.refine = nn.ModuleDict({str(s): AttentionRefinement(channels[s], self.width) for s in self.strides})
        self.smooth = nn.ModuleDict({str(s): ConvNormAct(self.width, self.width, 3) for s in self.strides})

    def forward(self, features: dict[int, Tensor]) -> dict[int, Tensor]:
        """Features by stride -> context (N, 128, h, w) by stride, one step finer than each refined stride."""
        contexts = {}
        context = self.average(self.mean(features[32]))
        for stride in self.strides:
            context = self.refine[str(stride)](features[stride]) + context
            context = F.interpolate(context, size=features[stride // 2].shape[-2:], mode="nearest")
            context = self.smooth[str(stride)](context)
            contexts[stride // 2] = context
        return contexts


class STDCSeg(SegmentationNetwork):
    """STDC-Seg (figure 4): logits at stride 8; detail and auxiliary heads in training.

    In training `.aux` holds `aux16` (logits at stride 8, from the context refined at stride 16), `aux32` (logits at
    stride 16) and `detail` (N, 1, h, w), the logit of an edge at stride 8.
    """

    stride = 8
    align_corners = True
    parts = Parts(
        backbone=("backbone",),
        new=("fusion", "head"),
        training_only=("aux16", "aux32", "detail"),
        aux_logits=("aux16", "aux32"),
    )

    def __init__(self, blocks: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.backbone = STDC(blocks)
        self.context = ContextPath({16: 512, 32: 1024})
        self.fusion = FeatureFusion(256 + 128, 256)
        self.head = SegmentationHead(256, 256, num_classes)
        self.aux16 = SegmentationHead(128, 64, num_classes)
        self.aux32 = SegmentationHead(128, 64, num_classes)
        self.detail = SegmentationHead(256, 64, 1)
        for name in ("context", *self.parts.new, *self.parts.training_only):
            init_kaiming(self.get_submodule(name), mode="fan_in", nonlinearity="linear")

    def forward(self, images: Tensor) -> Tensor | SegmentationOutput:
        """Normalised images (N, 3, H, W) of any size -> logits (N, K, ceil(H/8), ceil(W/8)); see the class."""
        features = self.backbone(images)
        context = self.context(features)
        logits = self.head(self.fusion(features[8], context[8]))
        if not self.training:
            return logits
        aux = {
            "aux16": self.aux16(context[8]),
            "aux32": self.aux32(context[16]),
            "detail": self.detail(features[8]),
        }
        return SegmentationOutput(logits, aux)


STDC1_BLOCKS = (2, 2, 2)
STDC2_BLOCKS = (4, 5, 3)


@register_model(task="classification")
def stdc1(num_classes: int = 1000) -> STDCClassifier:
    """STDC1 (STDCNet813, 813 MFLOPs at 224x224) in its ImageNet form."""
    return STDCClassifier(STDC1_BLOCKS, num_classes)


@register_model(task="classification")
def stdc2(num_classes: int = 1000) -> STDCClassifier:
    """STDC2 (STDCNet1446, 1446 MFLOPs at 224x224) in its ImageNet form."""
    return STDCClassifier(STDC2_BLOCKS, num_classes)


@register_model()
def stdc1_seg(num_classes: int) -> STDCSeg:
    """STDC1-Seg, the lighter of the two."""
    return STDCSeg(STDC1_BLOCKS, num_classes)


@register_model()
def stdc2_seg(num_classes: int) -> STDCSeg:
    """STDC2-Seg, the deeper of the two."""
    return STDCSeg(STDC2_BLOCKS, num_classes)

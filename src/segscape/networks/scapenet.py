"""ScapeNet: our own network for street and aerial images on small machines, with logits at stride 4.

It joins what the published systems taught, on EfficientNet-Lite, which starts from ImageNet weights:

- DABNet's spatial path that starts from early features of the context path (IEEE TNNLS, CGSP), cut off at stride 4;
- BiSeSTDC's decoder step to stride 4 for thin and small things, and its STDC block in the fine branch
  (arXiv:2104.13188, figure 3);
- STDC-Seg's detail head, which only training has (arXiv:2104.13188, section 3.3), and its attention refinement.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from segscape.networks.base import SegmentationNetwork, SegmentationOutput
from segscape.networks.efficientnet_lite import LITE_NORMALISATION, EfficientNetLite
from segscape.networks.layers import AttentionRefinement, ConvNormAct, GlobalMean, SegmentationHead, init_kaiming
from segscape.networks.stdc import STDCBlock
from segscape.registry import register_model

_DROPOUT = 0.1
_CONTEXT_CHANNELS = 96
_FINE_CHANNELS = 48
_AUX_CHANNELS = 64


def _upsampled(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class FineBranch(nn.Module):
    """The backbone's features at stride 2, down to stride 4 and through an STDC block.

    Args:
        early_channels: Of the backbone at stride 2.
        width: Of the result.
    """

    def __init__(self, early_channels: int, width: int) -> None:
        super().__init__()
        self.down = ConvNormAct(early_channels, width // 2, 3, stride=2)
        self.block = STDCBlock(width // 2, width, stride=1)

    def forward(self, x2: Tensor) -> Tensor:
        """(N, early, h, w) at stride 2 -> (N, width, ceil(h / 2), ceil(w / 2))."""
        return self.block(self.down(x2))


class ContextPath(nn.Module):
    """From the mean of the coarsest features up to stride 8: gated features plus the coarser context, smoothed.

    Args:
        channels: Of the backbone's features at strides 8, 16 and 32.
        width: Of the contexts.
    """

    strides: ClassVar[tuple[int, ...]] = (32, 16, 8)

    def __init__(self, channels: dict[int, int], width: int) -> None:
        super().__init__()
        self.mean = GlobalMean()
        self.average = ConvNormAct(channels[32], width, 1)
        self.refine = nn.ModuleDict({str(s): AttentionRefinement(channels[s], width) for s in self.strides})
        self.smooth = nn.ModuleDict({str(s): ConvNormAct(width, width, 3) for s in self.strides[1:]})

    def forward(self, features: dict[int, Tensor]) -> dict[int, Tensor]:
        """Features by stride -> contexts (N, width, h, w) by stride, 16 and 8."""
        context = self.refine["32"](features[32]) + self.average(self.mean(features[32]))
        contexts = {}
        for stride in self.strides[1:]:
            refined = self.refine[str(stride)](features[stride])
            context = self.smooth[str(stride)](refined + _upsampled(context, refined))
            contexts[stride] = context
        return contexts


class ScapeNet(SegmentationNetwork):
    """The network; see the module.

    In training `.aux` holds `aux8` and `aux16` (logits at strides 8 and 16, from the contexts there) and `detail`
    (N, 1, h, w), the logit of an edge at stride 4.

    Args:
        number: Of the EfficientNet-Lite.
        num_classes: K.
    """

    stride = 4
    align_corners = False
    aux_logits = ("aux8", "aux16")
    training_heads = (*aux_logits, "detail")
    new_modules = ("fine", "context", "from_context", "from_backbone", "from_fine", "head", *training_heads)
    backbone_modules = ("backbone",)
    normalisation = LITE_NORMALISATION

    def __init__(self, number: int, num_classes: int) -> None:
        super().__init__()
        self.imagenet = {"backbone": f"tf_efficientnet_lite{number}.in1k"}
        self.backbone = EfficientNetLite(number)
        width, fine = _CONTEXT_CHANNELS, _FINE_CHANNELS
        at_stride = dict(zip((2, 4, 8, 16, 32), self.backbone.stage_channels, strict=True))
        self.fine = FineBranch(at_stride[2], fine)
        self.context = ContextPath({stride: at_stride[stride] for stride in (8, 16, 32)}, width)
        self.from_context = nn.Conv2d(width, fine, 1)
        self.from_backbone = nn.Conv2d(at_stride[4], fine, 1)
        self.from_fine = ConvNormAct(fine, fine, 1)
        self.head = SegmentationHead(fine, fine, num_classes, bias=True, dropout=_DROPOUT)
        self.aux8 = SegmentationHead(width, _AUX_CHANNELS, num_classes, bias=True, dropout=_DROPOUT)
        self.aux16 = SegmentationHead(width, _AUX_CHANNELS, num_classes, bias=True, dropout=_DROPOUT)
        self.detail = SegmentationHead(fine, 32, 1, bias=True)
        for name in self.new_modules:
            init_kaiming(self.get_submodule(name), mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor | SegmentationOutput:
        """Images (N, 3, H, W) in [-1, 1], of any size -> logits (N, K, ceil(H/4), ceil(W/4)); see the class."""
        features = self.backbone(images)
        contexts = self.context(features)
        fine = self.fine(features[2])
        joined = self.from_fine(fine) + self.from_backbone(features[4])
        logits = self.head(joined + _upsampled(self.from_context(contexts[8]), fine))
        if not self.training:
            return logits
        aux = {"aux8": self.aux8(contexts[8]), "aux16": self.aux16(contexts[16]), "detail": self.detail(fine)}
        return SegmentationOutput(logits, aux)


@register_model()
def scapenet_lite0(num_classes: int) -> ScapeNet:
    """ScapeNet on EfficientNet-Lite0."""
    return ScapeNet(0, num_classes)


@register_model()
def scapenet_lite2(num_classes: int) -> ScapeNet:
    """ScapeNet on EfficientNet-Lite2."""
    return ScapeNet(2, num_classes)

"""ScapeNet: our own network for street and aerial images on small machines, with logits at stride 4.

EfficientNet-Lite, which starts from ImageNet weights, and on it a feature pyramid (arXiv:1612.03144, figure 3) that
goes on to stride 4 for thin and small things, as BiSeSTDC's decoder does. What else the published systems have
(DABNet's path of details and its patch module, STDC-Seg's detail loss) was tried on it and did not pay, see
docs/comparison.md. Nothing in it takes a mean over the whole image: logits depend on a bounded part of it, and a scene
needs one pass.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from segscape.networks.base import Parts, SegmentationNetwork, SegmentationOutput
from segscape.networks.efficientnet_lite import LITE_NORMALISATION, EfficientNetLite
from segscape.networks.layers import ConvNormAct, SegmentationHead, init_kaiming
from segscape.registry import register_model

_DROPOUT = 0.1
_COARSE_CHANNELS = 96
_FINE_CHANNELS = 64
_AUX_CHANNELS = 64


def _upsampled(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class ScapeNet(SegmentationNetwork):
    """The network; see the module.

    In training `.aux` holds `aux8` and `aux16`: logits at strides 8 and 16, from the pyramid there.

    Args:
        number: Of the EfficientNet-Lite.
        num_classes: K.
    """

    stride = 4
    # Else coarse maps would cover more than the image, and what they add to finer ones would lie beside its place.
    size_multiple = 32
    align_corners = False
    parts = Parts(
        backbone=("backbone",),
        new=("lateral", "smooth", "classifier"),
        training_only=("aux8", "aux16"),
        aux_logits=("aux8", "aux16"),
    )
    normalisation = LITE_NORMALISATION

    def __init__(self, number: int, num_classes: int) -> None:
        super().__init__()
        self.imagenet = {"backbone": f"tf_efficientnet_lite{number}.in1k"}
        self.backbone = EfficientNetLite(number)
        channels = self.backbone.stage_channels[1:]
        widths = {"4": _FINE_CHANNELS, "8": _COARSE_CHANNELS, "16": _COARSE_CHANNELS, "32": _COARSE_CHANNELS}
        self.lateral = nn.ModuleDict(
            {stride: ConvNormAct(n, widths[stride], 1) for stride, n in zip(widths, channels, strict=True)}
        )
        # The sums at strides 16, 8 and 4; each comes out as wide as the next finer one.
        self.smooth = nn.ModuleDict(
            {
                "16": ConvNormAct(_COARSE_CHANNELS, _COARSE_CHANNELS, 3),
                "8": ConvNormAct(_COARSE_CHANNELS, _FINE_CHANNELS, 3),
                "4": ConvNormAct(_FINE_CHANNELS, _FINE_CHANNELS, 3),
            }
        )
        self.classifier = nn.Conv2d(_FINE_CHANNELS, num_classes, 1)
        self.aux8 = SegmentationHead(_FINE_CHANNELS, _AUX_CHANNELS, num_classes, bias=True, dropout=_DROPOUT)
        self.aux16 = SegmentationHead(_COARSE_CHANNELS, _AUX_CHANNELS, num_classes, bias=True, dropout=_DROPOUT)
        for name in (*self.parts.new, *self.parts.training_only):
            init_kaiming(self.get_submodule(name), mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor | SegmentationOutput:
        """Images (N, 3, H, W) in [-1, 1], of any size -> logits (N, K, ceil(H/4), ceil(W/4)); see the class."""
        features = self.backbone(images)
        at32 = self.lateral["32"](features[32])
        lateral16 = self.lateral["16"](features[16])
        at16 = self.smooth["16"](lateral16 + _upsampled(at32, lateral16))
        lateral8 = self.lateral["8"](features[8])
        at8 = self.smooth["8"](lateral8 + _upsampled(at16, lateral8))
        lateral4 = self.lateral["4"](features[4])
        at4 = self.smooth["4"](lateral4 + _upsampled(at8, lateral4))
        logits = self.classifier(at4)
        if not self.training:
            return logits
        return SegmentationOutput(logits, {"aux8": self.aux8(at8), "aux16": self.aux16(at16)})


@register_model()
def scapenet_lite0(num_classes: int) -> ScapeNet:
    """ScapeNet on EfficientNet-Lite0."""
    return ScapeNet(0, num_classes)


@register_model()
def scapenet_lite2(num_classes: int) -> ScapeNet:
    """ScapeNet on EfficientNet-Lite2."""
    return ScapeNet(2, num_classes)

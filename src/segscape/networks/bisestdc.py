"""BiSeSTDC: STDC1 as the context branch, a shallow spatial branch at stride 4 beside it, for small objects.

Origin: github.com/bearking79/BiSeSTDC. What differs: as in `stdc`, each tensor is held once, batch normalisation is
the ordinary one, and the heads that the published recipe never uses are left out.
"""

from __future__ import annotations

from torch import Tensor, nn

from segscape.networks.base import Parts, SegmentationNetwork, SegmentationOutput
from segscape.networks.layers import ConvNormAct, FeatureFusion, SegmentationHead, init_kaiming
from segscape.networks.stdc import STDC, STDC1_BLOCKS, ContextPath, STDCBlock
from segscape.registry import register_model


class BiSeSTDC(SegmentationNetwork):
    """BiSeSTDC: logits at stride 4; detail and auxiliary heads in training.

    In training `.aux` holds `aux8` (logits at stride 4, from the context refined at stride 8), `aux16` (stride 8),
    `aux32` (stride 16) and `detail` (N, 1, h, w), the logit of an edge at stride 4.

    Args:
        stem: Channels of the spatial branch's two convolutions; its STDC block has four times the second.
        stem_strides: Strides of those two convolutions.
        num_classes: K, the number of classes.
    """

    stride = 4
    align_corners = True
    parts = Parts(
        backbone=("backbone", "spatial"),
        new=("fusion", "head"),
        training_only=("aux8", "aux16", "aux32", "detail"),
        aux_logits=("aux8", "aux16", "aux32"),
    )

    def __init__(self, stem: tuple[int, int], stem_strides: tuple[int, int], num_classes: int) -> None:
        super().__init__()
        self.backbone = STDC(STDC1_BLOCKS)
        self.spatial = nn.Sequential(
            ConvNormAct(3, stem[0], 3, stride=stem_strides[0]),
            ConvNormAct(stem[0], stem[1], 3, stride=stem_strides[1]),
            STDCBlock(stem[1], 4 * stem[1], stride=2),
        )
        self.spatial_fusion = FeatureFusion(4 * stem[1] + 64, 256)
        self.context = ContextPath({8: 256, 16: 512, 32: 1024})
        self.fusion = FeatureFusion(256 + 128, 256)
        self.head = SegmentationHead(256, 256, num_classes)
        self.aux8 = SegmentationHead(128, 128, num_classes)
        self.aux16 = SegmentationHead(128, 64, num_classes)
        self.aux32 = SegmentationHead(128, 64, num_classes)
        self.detail = SegmentationHead(256, 64, 1)
        init_kaiming(self.spatial, mode="fan_out", nonlinearity="relu")
        for name in ("spatial_fusion", "context", *self.parts.new, *self.parts.training_only):
            init_kaiming(self.get_submodule(name), mode="fan_in", nonlinearity="linear")

    def forward(self, images: Tensor) -> Tensor | SegmentationOutput:
        """Normalised images (N, 3, H, W) of any size -> logits (N, K, ceil(H/4), ceil(W/4)); see the class."""
        features = self.backbone(images)
        spatial = self.spatial_fusion(self.spatial(images), features[4])
        context = self.context(features)
        logits = self.head(self.fusion(spatial, context[4]))
        if not self.training:
            return logits
        aux = {
            "aux8": self.aux8(context[4]),
            "aux16": self.aux16(context[8]),
            "aux32": self.aux32(context[16]),
            "detail": self.detail(spatial),
        }
        return SegmentationOutput(logits, aux)


@register_model()
def bisestdc(num_classes: int) -> BiSeSTDC:
    """BiSeSTDC as its published recipe builds it (`BiSeSTDCNet`)."""
    return BiSeSTDC((32, 64), (2, 1), num_classes)


@register_model()
def bisestdc2(num_classes: int) -> BiSeSTDC:
    """The wider variant in the stride order of the paper's figure (`BiSeSTDC2`)."""
    return BiSeSTDC((64, 128), (1, 2), num_classes)

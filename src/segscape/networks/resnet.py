"""ResNet and ResNeSt with the deep stem ("v1c"), built by timm, their stages within reach.

Papers: Deep Residual Learning for Image Recognition (arXiv:1512.03385), with the three 3x3 convolutions of Bag of
Tricks (arXiv:1812.01187, figure 2b) in place of the 7x7 one; ResNeSt: Split-Attention Networks (arXiv:2004.08955).
Where the output stride is held, the first block of a dilated stage has half the dilation of the others, and in basic
blocks only the first convolution is dilated.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

_TIMM_NAMES = {18: "resnet18", 50: "resnet50", 101: "resnet101"}
_CHANNELS = {18: (64, 128, 256, 512), 50: (256, 512, 1024, 2048), 101: (256, 512, 1024, 2048)}


class DeepStemBackbone(nn.Module):
    """The stem and the four stages of a residual network, without a classifier.

    Args:
        built: timm's network.
        channels: Of the four stages' outputs.

    Attributes:
        channels: Of the four stages' outputs.
        stem: Three convolutions, at stride 2.
        maxpool: To stride 4.
        layer1: The first stage; `layer2`, `layer3` and `layer4` follow.
    """

    def __init__(self, built: Any, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.channels = channels
        self.stem = nn.Sequential(*built.conv1, built.bn1, built.act1)
        self.maxpool = built.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = built.layer1, built.layer2, built.layer3, built.layer4

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalised images (N, 3, H, W) -> the outputs of `layer1` to `layer4`, the first at stride 4."""
        x1 = self.layer1(self.maxpool(self.stem(images)))
        x2 = self.layer2(x1)
        x3 = self.layer3(x2)
        return x1, x2, x3, self.layer4(x3)


class DeepStemResNet(DeepStemBackbone):
    """ResNet.

    Args:
        depth: The number of layers.
        output_stride: Of the last stage; 8 dilates the last two stages instead of striding.
    """

    def __init__(self, depth: Literal[18, 50, 101], *, output_stride: Literal[8, 32] = 32) -> None:
        import timm  # seconds to import, and not every network needs it
        from timm.models.resnet import BasicBlock

        built = timm.create_model(
            _TIMM_NAMES[depth], stem_type="deep", stem_width=32, num_classes=0, output_stride=output_stride
        )
        super().__init__(built, _CHANNELS[depth])
        for block in self.modules():
            # timm also dilates the second convolution of a basic block; OpenMMLab's ResNet, and its weights, do not.
            if isinstance(block, BasicBlock):
                block.conv2.dilation = block.conv2.padding = (1, 1)


class _HalvingMean(nn.Module):
    """The mean of 2x2 pixels, of those that there are at an odd side: pooling that rounds the size up, for any size.

    The same as `nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)`, of which no graph for all sizes can be made.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, ceil(H / 2), ceil(W / 2))."""
        return F.avg_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2)


class DeepStemResNeSt101(DeepStemBackbone):
    """ResNeSt-101 at output stride 8: each 3x3 convolution is split into two, which attend to each other."""

    def __init__(self) -> None:
        import timm  # seconds to import, and not every network needs it

        super().__init__(timm.create_model("resnest101e", num_classes=0, output_stride=8), _CHANNELS[101])
        self.layer2[0].downsample[0] = _HalvingMean()
        for stage in (self.layer3, self.layer4):
            # Where a stage is dilated timm averages the shortcut over 2x2 pixels; OpenMMLab's ResNeSt, and its weights,
            # average as many as the stride, which is one.
            stage[0].downsample[0] = nn.Identity()

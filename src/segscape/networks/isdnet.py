"""ISDNet: a deep network on the reduced image, a shallow one on the full image, fused by their relation.

Paper: ISDNet: Integrating Shallow and Deep Networks for Efficient Ultra-high Resolution Segmentation (CVPR 2022).
Origin: github.com/cedricgsh/ISDNet. What differs: each tensor is held once, batch normalisation is the ordinary one,
the Laplacian filters skip the products that are known to be dropped or zero, evaluation leaves out the deep branch's
own logits, which the authors compute and discard, and the relation's frequency statistic, which they never switch on,
is left out.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.networks.base import Parts, SegmentationNetwork, SegmentationOutput
from segscape.networks.layers import ConvNorm, ConvNormAct, GlobalMean, SegmentationHead, init_kaiming
from segscape.networks.resnet import DeepStemResNet
from segscape.networks.stdc import STDCBlock
from segscape.registry import register_model

_WIDTH = 128
_REDUCTION = 4
_RELATION_GROUPS = 16
_DROPOUT = 0.1
_PYRAMID_LEVELS = 2


class LaplacianPyramid(nn.Module):
    """The image's high frequencies in two bands: what a Gaussian pyramid loses from each level to the next.

    Attributes:
        sizes_vary: Whether a graph of the forward pass is to serve even and odd sizes alike; it then always resizes.
    """

    blur: Tensor
    phases: Tensor
    sizes_vary = False

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.channels = channels
        taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        # Enlarging inserts zeros and blurs with twice the taps; these are the taps that meet no zero, for a pixel at
        # an even and at an odd place.
        even_odd = 2 * torch.stack([taps[0::2], torch.stack([torch.zeros(()), taps[1], taps[3]])])
        phases = torch.einsum("ai,bj->abij", even_odd, even_odd).reshape(4, 1, 3, 3)
        self.register_buffer("blur", torch.outer(taps, taps).repeat(channels, 1, 1, 1), persistent=False)
        self.register_buffer("phases", phases.repeat(channels, 1, 1, 1), persistent=False)

    def _halve(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, ceil(H / 2), ceil(W / 2)): blurred, then every second row and column."""
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), self.blur, stride=2, groups=self.channels)

    def _double(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 2H, 2W)."""
        # Reflecting the map with its zeros mirrors the first row and column but repeats the last.
        x = F.pad(F.pad(x, (1, 0, 1, 0), mode="reflect"), (0, 1, 0, 1), mode="replicate")
        return F.pixel_shuffle(F.conv2d(x, self.phases, groups=self.channels), 2)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W), sides of at least 5 pixels -> (N, 2C, H, W), the finer band first."""
        size = images.shape[-2:]
        bands = []
        for _ in range(_PYRAMID_LEVELS):
            halved = self._halve(images)
            doubled = self._double(halved)
            if self.sizes_vary or doubled.shape != images.shape:
                doubled = F.interpolate(doubled, size=images.shape[-2:], mode="nearest")
            bands.append(images - doubled)
            images = halved
        fine, coarse = bands
        return torch.cat([fine, F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)], dim=1)


class ShallowBranch(nn.Module):
    """STDC1 without its last stage, on the two bands of the pyramid."""

    def __init__(self) -> None:
        super().__init__()
        self.stage8 = nn.Sequential(
            ConvNormAct(6, 32, 3, stride=2),
            ConvNormAct(32, 64, 3, stride=2),
            STDCBlock(64, 256, stride=2),
            STDCBlock(256, 256, stride=1),
        )
        self.stage16 = nn.Sequential(STDCBlock(256, 512, stride=2), STDCBlock(512, 512, stride=1))

    def forward(self, bands: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 6, H, W) -> features at stride 8 with 256 channels and at stride 16 with 512."""
        shallow8 = self.stage8(bands)
        return shallow8, self.stage16(shallow8)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: five views of the deep features, from one pixel to the whole image.

    Source: DeepLabV3 (arXiv:1706.05587), figure 5, for features at stride 8.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.mean = GlobalMean()
        self.pool = ConvNormAct(in_channels, out_channels, 1)
        self.branches = nn.ModuleList(
            [
                ConvNormAct(in_channels, out_channels, 1),
                *(ConvNormAct(in_channels, out_channels, 3, dilation=dilation) for dilation in (12, 24, 36)),
            ]
        )
        self.bottleneck = ConvNormAct(5 * out_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W)."""
        pooled = self.pool(self.mean(x)).expand(-1, -1, *x.shape[-2:])
        return self.bottleneck(torch.cat([pooled, *(branch(x) for branch in self.branches)], dim=1))


class Summary(nn.Module):
    """A map reduced to 128 channels, and a vector that sums it up."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, _WIDTH, 3)
        self.mean = GlobalMean()
        self.project = ConvNorm(_WIDTH, _WIDTH, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, in, H, W) -> the map (N, 128, H, W) and the vector (N, 128)."""
        features = self.conv(x)
        return features, self.project(self.mean(features)).flatten(1)


class FusedMaps(NamedTuple):
    """What a fusion returns.

    Attributes:
        fused: Both branches joined (N, 128, H, W).
        context: The deep branch's part of it (N, 128, H, W).
    """

    fused: Tensor
    context: Tensor


class RelationAwareFusion(nn.Module):
    """Each branch's channels weighted by a gate that knows how the two branches relate; then their sum."""

    def __init__(self, spatial_channels: int, context_channels: int) -> None:
        super().__init__()
        self.spatial = Summary(spatial_channels)
        self.context = Summary(context_channels)
        self.spatial_mlp = self._mlp()
        self.context_mlp = self._mlp()
        self.spatial_scale = nn.Parameter(torch.zeros(1))
        self.context_scale = nn.Parameter(torch.zeros(1))
        self.context_conv = ConvNormAct(_WIDTH, _WIDTH, 3)
        self.smooth = ConvNorm(_WIDTH, _WIDTH, 3)

    @staticmethod
    def _mlp() -> nn.Sequential:
        return nn.Sequential(nn.Linear(_RELATION_GROUPS**2, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _WIDTH), nn.ReLU())

    def forward(self, shallow: Tensor, deep: Tensor) -> FusedMaps:
        """(N, spatial, H, W) and (N, context, h, w) -> both joined at the size of the first; see `FusedMaps`."""
        spatial, spatial_vector = self.spatial(shallow)
        context, context_vector = self.context(deep)
        # The relation: every group of one vector's channels times every group of the other's.
        groups = (_RELATION_GROUPS, _WIDTH // _RELATION_GROUPS)
        relation = spatial_vector.unflatten(1, groups) @ context_vector.unflatten(1, groups).transpose(1, 2)
        relation = relation.flatten(1)
        spatial_gate = torch.sigmoid(spatial_vector + self.spatial_scale * self.spatial_mlp(relation))
        context_gate = torch.sigmoid(context_vector + self.context_scale * self.context_mlp(relation))
        context = context * context_gate[..., None, None]
        context = F.interpolate(context, size=spatial.shape[-2:], mode="bilinear", align_corners=False)
        context = self.context_conv(context)
        return FusedMaps(self.smooth(spatial * spatial_gate[..., None, None] + context), context)


class ReconstructionDecoder(nn.Module):
    """From the deep features back to the image's high frequencies (the paper's super-resolution task)."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([ConvNormAct(_WIDTH, 64, 3), ConvNormAct(64, 64, 3), ConvNormAct(64, _WIDTH, 3)])
        self.head = SegmentationHead(_WIDTH, 64, 3, bias=True)

    def forward(self, deep: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 128, h, w) -> features (N, 128, 16h, 16w) and the reconstruction (N, 3, 16h, 16w)."""
        for factor, conv in zip((4, 2, 2), self.convs, strict=True):
            deep = conv(F.interpolate(deep, scale_factor=factor, mode="nearest"))
        return deep, self.head(deep)


class ISDNet(SegmentationNetwork):
    """ISDNet: logits at stride 8; four more logits and a reconstruction in training.

    In training `.aux` holds four logits: `deep` (stride 32, from the deep features), `layer3` (stride 32, from the
    backbone), `context16` and `context8` (strides 16 and 8, from the context of each fusion). For the losses without
    labels it holds `reconstruction` (N, 3, h, w) at stride 2 and what it should show, `high_frequencies`
    (N, 3, H, W); `deep_features` (N, 128, h, w) at stride 32 and `reconstruction_features` (N, 128, h, w) at stride 2.

    Sides must be at least 5 pixels; training needs at least two images, for it normalises vectors over the batch.

    Args:
        depth: Of the backbone; one of 50 layers has deep features of 512 channels, reduced to 128 for all that follows.
        num_classes: K, the number of classes.
    """

    stride = 8
    align_corners = False
    parts = Parts(
        backbone=("backbone", "shallow"),
        new=("aspp", "reduce", "fuse16", "fuse8", "head"),
        training_only=("deep", "layer3", "context16", "context8", "reconstruction"),
        aux_logits=("deep", "layer3", "context16", "context8"),
    )
    min_size = 5

    def __init__(self, depth: Literal[18, 50], num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.backbone = DeepStemResNet(depth, output_stride=8)
        _, _, third, last = self.backbone.channels
        # The widths of the pyramid and of the auxiliary head follow the backbone's.
        self.deep_width, layer3_width = last // 4, third // 4
        self.aspp = ASPP(last, self.deep_width)
        self.reduce = nn.Identity() if self.deep_width == _WIDTH else ConvNormAct(self.deep_width, _WIDTH, 1)
        self.pyramid = LaplacianPyramid()
        self.shallow = ShallowBranch()
        self.fuse16 = RelationAwareFusion(512, _WIDTH)
        self.fuse8 = RelationAwareFusion(256, _WIDTH)
        self.head = nn.Sequential(nn.Dropout2d(_DROPOUT), SegmentationHead(_WIDTH, 64, num_classes, bias=True))
        self.deep = nn.Sequential(nn.Dropout2d(_DROPOUT), nn.Conv2d(self.deep_width, num_classes, 1))
        self.layer3 = nn.Sequential(
            ConvNormAct(third, layer3_width, 3), nn.Dropout2d(_DROPOUT), nn.Conv2d(layer3_width, num_classes, 1)
        )
        self.context16 = SegmentationHead(_WIDTH, 64, num_classes, bias=True)
        self.context8 = SegmentationHead(_WIDTH, 64, num_classes, bias=True)
        self.reconstruction = ReconstructionDecoder()
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, ConvNorm):
                init_kaiming(module, mode="fan_out", nonlinearity="relu")
        # The authors draw the whole final head from this narrow distribution, its normalisation scale included.
        for layer in (*self.head.modules(), self.deep[-1], self.layer3[-1]):
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor | SegmentationOutput:
        """Normalised images (N, 3, H, W) -> logits (N, K, ceil(H/8), ceil(W/8)); see the class."""
        reduced_size = (images.shape[-2] // _REDUCTION, images.shape[-1] // _REDUCTION)
        _, _, layer3, layer4 = self.backbone(F.interpolate(images, size=reduced_size, mode="nearest"))
        pooled = self.aspp(layer4)
        deep = self.reduce(pooled)
        bands = self.pyramid(images)
        shallow8, shallow16 = self.shallow(bands)
        fused16 = self.fuse16(shallow16, deep)
        fused8 = self.fuse8(shallow8, fused16.fused)
        logits = self.head(fused8.fused)
        if not self.training:
            return logits
        reconstruction_features, reconstruction = self.reconstruction(deep)
        aux = {
            "deep": self.deep(pooled),
            "layer3": self.layer3(layer3),
            "context16": self.context16(fused16.context),
            "context8": self.context8(fused8.context),
            "reconstruction": reconstruction,
            "high_frequencies": sum(bands.chunk(_PYRAMID_LEVELS, dim=1)),
            "deep_features": deep,
            "reconstruction_features": reconstruction_features,
        }
        return SegmentationOutput(logits, aux)

    def prepare_export(self, *, sizes_vary: bool) -> None:
        """The pyramid resizes always, where sizes vary: a graph cannot tell odd sides from even ones."""
        self.pyramid.sizes_vary = sizes_vary

    def skipped_macs(self, height: int, width: int) -> int:
        """The deep branch's logits, and the pyramid's products with inserted zeros or for dropped pixels."""
        rows, cols = -(-(height // _REDUCTION) // 8), -(-(width // _REDUCTION) // 8)
        skipped = rows * cols * self.deep_width * self.num_classes
        for _ in range(_PYRAMID_LEVELS):
            half = (-(-height // 2), -(-width // 2))
            theirs = 25 * (height * width + 4 * half[0] * half[1])
            ours = (25 + 4 * 9) * half[0] * half[1]
            skipped += self.pyramid.channels * (theirs - ours)
            height, width = half
        return skipped


@register_model()
def isdnet_resnet18(num_classes: int) -> ISDNet:
    """ISDNet with ResNet-18 as the deep branch's backbone, as published."""
    return ISDNet(18, num_classes)


@register_model()
def isdnet_resnet50(num_classes: int) -> ISDNet:
    """ISDNet with ResNet-50 as the deep branch's backbone, for which the authors publish neither score nor weights."""
    return ISDNet(50, num_classes)

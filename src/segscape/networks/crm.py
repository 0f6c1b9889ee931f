"""CRM: a coarse mask refined by an image's features and a decoder that is asked for single points.

Paper: High Quality Segmentation for Ultra High-resolution Images (CVPR 2022, arXiv:2111.14482), section 3, figure 2.
Origin: github.com/dvlab-research/Entity, folder High-Quality-Segmention. What differs: the extractor's last stage,
which the authors compute and discard, does not exist; the decoder's first layer is applied to each feature once
instead of to each of its copies at the points; coordinates are float64 until they are relative to a feature, so that
no row of a large image picks its neighbours twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.networks.base import RefinementNetwork
from segscape.networks.efficientnet_lite import LITE_NORMALISATION, EfficientNetLite
from segscape.networks.layers import ConvNormAct, Foldable, init_kaiming
from segscape.registry import register_model

_DROPOUT = 0.5
# Of a mask's value that a residual network starts from.
_LEAST_DOUBT = 0.01
# Added to every shifted coordinate: a point at a feature's centre is half-way between two neighbours, and takes the
# later one.
_TIE = 1e-6
AREA_FLOOR = 1e-9
"""Added to every area, so that their sum is not 0."""
_SHIFTS = (-1.0, 1.0)


class Extractor(nn.Module):
    """A backbone of an image and its mask, whose maps at several strides the fusion reads.

    Attributes:
        channels: Of the maps, from the finest on.
    """

    channels: tuple[int, ...]

    def sections(self) -> Sequence[Sequence[nn.Module]]:
        """For each map the layers and blocks that make it of the one before, in their order."""
        raise NotImplementedError

    def forward(self, images: Tensor, masks: Tensor) -> list[Tensor]:
        """Normalised images (N, 3, H, W) and masks (N, 1, H, W) in [-1, 1] -> the maps, the first at stride 2."""
        x, maps = torch.cat([images, masks], dim=1), []
        for section in self.sections():
            for part in section:
                x = part(x)
            maps.append(x)
        return maps


class ResNetExtractor(Extractor, Foldable):
    """ResNet dilated to stride 8, up to its third stage: maps at strides 2, 4 and 8.

    Args:
        depth: The number of layers of the ResNet whose first three stages these are.
    """

    def __init__(self, depth: Literal[18, 50]) -> None:
        import timm  # seconds to import, and not every network needs it

        super().__init__()
        built: Any = timm.create_model(f"resnet{depth}", in_chans=4, num_classes=0, output_stride=8)
        self.channels = (64, 64, 256) if depth == 18 else (64, 256, 1024)
        self.conv1, self.bn1, self.act1, self.maxpool = built.conv1, built.bn1, built.act1, built.maxpool
        self.layer1, self.layer2, self.layer3 = built.layer1, built.layer2, built.layer3
        init_kaiming(self, mode="fan_out", nonlinearity="relu")

    def sections(self) -> Sequence[Sequence[nn.Module]]:
        """The stem, the first stage, the other two."""
        stem = nn.Sequential(self.conv1, self.bn1, self.act1)
        return [stem], [self.maxpool, *self.layer1], [*self.layer2, *self.layer3]


class LiteExtractor(Extractor):
    """EfficientNet-Lite0 without its last stage: maps at strides 2, 4, 8 and 16."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = EfficientNetLite(0, image_channels=4, stages=4)
        self.channels = self.backbone.stage_channels

    def sections(self) -> Sequence[Sequence[nn.Module]]:
        """The four stages, the stem with the first."""
        net = self.backbone
        stem = nn.Sequential(net.conv_stem, net.bn1, net.act)
        groups: Any = net.blocks
        return [stem, *groups[0]], [*groups[1]], [*groups[2]], [*groups[3], *groups[4]]


class Branch(nn.Module):
    """A 1x1 convolution with its normalisation, and another normalisation behind it, as published."""

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float) -> None:
        super().__init__()
        self.conv = ConvNormAct(in_channels, out_channels, 1)
        self.norm = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, H, W)."""
        return self.dropout(self.norm(self.conv(x)).relu_())


class Fusion(nn.Module):
    """The maps of the extractor at stride 2, joined by a convolution.

    Args:
        in_channels: Of the maps.
        widths: Of a branch for each map; the result has as many channels as they have together.
        dropout: The share of values that training drops in every branch and in the result.
    """

    def __init__(self, in_channels: Sequence[int], widths: Sequence[int], *, dropout: float) -> None:
        super().__init__()
        self.channels = sum(widths)
        pairs = zip(in_channels, widths, strict=True)
        self.branches = nn.ModuleList(Branch(*pair, dropout=dropout) for pair in pairs)
        self.join = ConvNormAct(self.channels, self.channels, 3)
        self.dropout = nn.Dropout(dropout)
        init_kaiming(self, mode="fan_in", nonlinearity="relu")

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The extractor's maps -> (N, C, ceil(H / 2), ceil(W / 2))."""
        first, *others = (branch(x) for branch, x in zip(self.branches, maps, strict=True))
        size = first.shape[-2:]
        resized = [F.interpolate(x, size=size, mode="bilinear", align_corners=True) for x in others]
        return self.dropout(self.join(torch.cat([first, *resized], dim=1)))


class Axis(NamedTuple):
    """Where the n rows (or columns) of queried points stand among the m rows of features.

    Attributes:
        cells: (2, n) int64, the two rows of features nearest to each.
        offsets: (2, n) float64, the distances to their centres in rows of features.
        positions: (n,) float64, the coordinates, from -1 to 1.
        step: The distance of two neighbouring rows of points, in rows of features.
    """

    cells: Tensor
    offsets: Tensor
    positions: Tensor
    step: float

    @classmethod
    def of(cls, points: int, features: int, *, device: torch.device | None = None) -> Axis:
        """The axis of a grid of so many `points` over so many `features`, both of which span the image."""
        return cls.at((torch.arange(points, dtype=torch.float64, device=device) * 2 + 1) / points - 1, features, points)

    @classmethod
    def at(cls, positions: Tensor, features: int, points: int) -> Axis:
        """As `of`, for any float64 positions (n,) of a grid of so many `points`."""
        shifts = torch.tensor(_SHIFTS, dtype=torch.float64, device=positions.device)[:, None] / features
        near = (positions + shifts + _TIE).clamp(_TIE - 1, 1 - _TIE)
        cells = ((near + 1) * features / 2).floor().long().clamp(0, features - 1)
        centres = (2 * cells.double() + 1) / features - 1
        offsets = (positions - centres) * features
        return cls(cells, offsets, positions, 2 * features / points)

    def part(self, chosen: slice | Tensor) -> Axis:
        """Some of the points."""
        return Axis(self.cells[:, chosen], self.offsets[:, chosen], self.positions[chosen], self.step)

    def to(self, dtype: torch.dtype) -> Axis:
        """The same with offsets and positions of another type."""
        return self._replace(offsets=self.offsets.to(dtype), positions=self.positions.to(dtype))


class ImplicitDecoder(nn.Module):
    """The implicit function: logits at any point from the four features around it (the paper's equations 2 to 4).

    Its input at a point is a feature, the point's offset from the feature's centre, its absolute position and the
    size of what is queried. The four results are weighted by the areas opposite to them.

    Args:
        channels: Of the features.
        width: Of the hidden layers.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        self.channels = channels
        self.first = nn.Linear(channels + 6, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.last = nn.Linear(width, 1)

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Features (N, C, h, w) -> logits (N, 1, H, W) at the centres of a grid of `size` (H, W)."""
        rows, cols = (
            Axis.of(points, count, device=features.device)
            for points, count in zip(size, features.shape[-2:], strict=True)
        )
        return self.decode(self.project(features), rows, cols)

    def project(self, features: Tensor) -> Tensor:
        """The features' part of the first layer, once for each: (N, C, h, w) -> (N, h, w, width)."""
        return F.linear(features.movedim(1, -1), self.first.weight[:, : self.channels])

    def decode(self, projected: Tensor, rows: Axis, cols: Axis) -> Tensor:
        """Logits (N, 1, H, W) at the points of all `rows` (H) in all `cols` (W), from the result of `project`."""
        rows, cols = rows.to(projected.dtype), cols.to(projected.dtype)
        logits = total = torch.zeros((), dtype=projected.dtype, device=projected.device)
        for row in (0, 1):
            for col in (0, 1):
                hidden = self._first(projected, rows, cols, (row, col))
                for layer in self.hidden:
                    hidden = layer(hidden).relu_()
                # Each result counts by the area of the rectangle opposite to its feature.
                area = torch.outer(rows.offsets[1 - row], cols.offsets[1 - col]).abs_() + AREA_FLOOR
                logits = logits + self.last(hidden).squeeze(-1) * area
                total = total + area
        return (logits / total).unsqueeze(1)

    def _first(self, projected: Tensor, rows: Axis, cols: Axis, shift: tuple[int, int]) -> Tensor:
        """The first layer at every point for one of the four features, (N, H, W, width): a row part and a column part.

        Its inputs beside the feature are, in this order, the offsets by row and column, the positions by row and
        column, and the steps by row and column.
        """
        by_place = self.first.weight[:, self.channels :].T
        of_row = rows.offsets[shift[0], :, None] * by_place[0] + rows.positions[:, None] * by_place[2]
        of_col = cols.offsets[shift[1], :, None] * by_place[1] + cols.positions[:, None] * by_place[3]
        of_col = of_col + (self.first.bias + rows.step * by_place[4] + cols.step * by_place[5])
        taken = projected.index_select(1, rows.cells[shift[0]]) + of_row[:, None]
        return (taken.index_select(2, cols.cells[shift[1]]) + of_col).relu_()


class CRM(RefinementNetwork):
    """Refines masks of one object each; see the module.

    Args:
        extractor: Of the features.
        widths: Of the fusion's branches.
        dropout: In the fusion; see there.
        residual: Whether the decoder's results are what is added to the logits of the mask that is refined, at the
            points themselves: a mask then stays as sharp as it is where nothing is to be mended, whatever the size at
            which the extractor sees it. The published network has to draw every mask anew.
    """

    def __init__(
        self, extractor: Extractor, widths: Sequence[int], *, dropout: float = _DROPOUT, residual: bool = False
    ) -> None:
        super().__init__()
        self.extractor = extractor
        self.fusion = Fusion(extractor.channels, widths, dropout=dropout)
        self.decoder = ImplicitDecoder(self.fusion.channels)
        self.residual = residual
        if residual:  # a fresh network leaves masks as they are
            nn.init.zeros_(self.decoder.last.weight)
            nn.init.zeros_(self.decoder.last.bias)

    def features(self, images: Tensor, masks: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W), masks (N, 1, H, W) in [-1, 1] -> (N, C, ceil(H / 2), ceil(W / 2))."""
        return self.fusion(self.extractor(images, masks))

    def forward(
        self, images: Tensor, masks: Tensor, *, size: tuple[int, int], masks_at_points: Tensor | None = None
    ) -> Tensor:
        """Refine masks.

        Args:
            images: (N, 3, H, W), normalised.
            masks: (N, 1, H, W), -1 outside the object and 1 inside it, or anything between.
            size: (h, w) of the grid whose centres are queried.
            masks_at_points: (N, 1, h, w), the same masks at the points, where they are known better than from `masks`;
                only a `residual` network reads them.

        Returns:
            Logits (N, 1, h, w); their sigmoid is the probability of the object.
        """
        logits = self.decoder(self.features(images, masks), size)
        if not self.residual:
            return logits
        if masks_at_points is None:
            masks_at_points = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
        return logits + mask_logits((masks_at_points + 1) / 2)


def mask_logits(masks: Tensor) -> Tensor:
    """The logits of a mask from 0 to 1, none so sure that it could not be refined: they are at most 4.6 from zero."""
    doubtful = masks.clamp(_LEAST_DOUBT, 1 - _LEAST_DOUBT)
    return (doubtful / (1 - doubtful)).log()  # OpenVINO knows no logit


def _resnet(depth: Literal[18, 50], widths: tuple[int, int, int], weights: str) -> CRM:
    network = CRM(ResNetExtractor(depth), widths)
    network.imagenet = {"extractor": weights}
    return network


@register_model(task="refinement")
def crm_resnet50() -> CRM:
    """CRM as published."""
    return _resnet(50, (64, 64, 128), "resnet50.tv_in1k")


@register_model(task="refinement")
def crm_resnet18() -> CRM:
    """CRM of the same design on ResNet-18, with half as many channels in the fusion; ours."""
    return _resnet(18, (32, 32, 64), "resnet18.tv_in1k")


@register_model(task="refinement")
def crm_efficientnet_lite0() -> CRM:
    """A small CRM on EfficientNet-Lite0 that adds to the masks it is given; ours.

    Its context reaches to stride 16 without dilation, and without dropout it learns from few images in few steps.
    """
    network = CRM(LiteExtractor(), (16, 24, 24, 32), dropout=0.0, residual=True)
    network.normalisation = LITE_NORMALISATION
    network.imagenet = {"extractor.backbone": "tf_efficientnet_lite0.in1k"}
    return network

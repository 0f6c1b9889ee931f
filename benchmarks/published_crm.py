"""CRM's refinement as its authors run it: the yardstick for speed and numbers, written to be plain, not fast.

Every stage runs the whole ResNet-50, its unused last stage included, on the whole image, and asks the decoder for every
point, in chunks: four times the nearest feature by `grid_sample`, 262 inputs a point, five linear layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import timm
import torch
from torch import Tensor
from torch.nn import functional as F

from segscape.networks.crm import CRM, ImplicitDecoder
from segscape.normalisation import Normalisation

CHUNK = 16 * 224**2
"""Points decoded at a time."""
SCALES = (0.125, 0.25, 0.5, 1.0)
BORDER = 32

Features = Callable[[Tensor, Tensor], Tensor]


def centres(size: tuple[int, int]) -> Tensor:
    """(H, W, 2): row and column, from -1 to 1, of the centres of a grid."""
    axes = [(torch.arange(count) * 2 + 1) / count - 1 for count in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def decode_points(decoder: ImplicitDecoder, features: Tensor, points: Tensor, grid: tuple[int, int]) -> Tensor:
    """Logits (Q,) at some points (Q, 2) of a `grid`, from features (1, C, h, w)."""
    sides = torch.tensor(features.shape[-2:])
    cell_centres = centres((features.shape[2], features.shape[3])).permute(2, 0, 1)[None]
    step = (2 / torch.tensor(grid) * sides).expand(len(points), 2)
    logits, areas = [], []
    for row in (-1, 1):
        for col in (-1, 1):
            shifted = points + torch.tensor([row, col]) / sides + 1e-6
            place = shifted.clamp(-1 + 1e-6, 1 - 1e-6).flip(-1)[None, None]
            feature, centre = (
                F.grid_sample(x, place, mode="nearest", align_corners=False)[0, :, 0].T
                for x in (features, cell_centres)
            )
            offset = (points - centre) * sides
            hidden = decoder.first(torch.cat([feature, offset, points, step], dim=-1)).relu()
            for layer in decoder.hidden:
                hidden = layer(hidden).relu()
            logits.append(decoder.last(hidden)[:, 0])
            areas.append(offset.prod(dim=-1).abs() + 1e-9)
    weighted = sum(logit * area for logit, area in zip(logits, reversed(areas), strict=True))
    return weighted / torch.stack(areas).sum(dim=0)


def published_decoder(decoder: ImplicitDecoder, features: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (H, W) at all points of a grid, from features (1, C, h, w)."""
    points = centres(size).flatten(0, 1)
    return torch.cat([decode_points(decoder, features, chunk, size) for chunk in points.split(CHUNK)]).view(size)


def published_features(network: CRM) -> Features:
    """The network's features, computed along with the last stage of the ResNet that nobody reads."""
    depth = {256: 18, 1024: 50}[network.extractor.channels[-1]]
    last_stage = timm.create_model(f"resnet{depth}", num_classes=0, output_stride=8).layer4.eval()

    def compute(images: Tensor, masks: Tensor) -> Tensor:
        stages = network.extractor(images, masks)
        last_stage(stages[2])
        return network.fusion(stages)

    return compute


def published_stages(network: CRM, image: np.ndarray, mask: np.ndarray) -> Iterator[Tensor]:
    """The probabilities (H, W), without the mirrored border, of each of the four stages.

    Args:
        network: In evaluation mode.
        image: (H, W, 3) uint8.
        mask: (H, W) uint8.
    """
    features = published_features(network)
    around = (BORDER, BORDER)
    pixels = torch.from_numpy(np.pad(image, (around, around, (0, 0)), mode="reflect"))
    images = Normalisation()(pixels.permute(2, 0, 1)[None].float())
    masks = (torch.from_numpy(np.pad(mask, (around, around), mode="reflect"))[None, None] / 255 - 0.5) / 0.5
    size = (images.shape[2], images.shape[3])
    for scale in SCALES:
        small = [round(side * scale) for side in size]
        inputs = [F.interpolate(x, size=small, mode="bilinear", align_corners=True) for x in (images, masks)]
        probability = published_decoder(network.decoder, features(*inputs), size).sigmoid()
        if (masks + 1).sum() < 2:
            probability = torch.zeros_like(probability)
        yield probability[BORDER:-BORDER, BORDER:-BORDER]
        masks = 2 * (probability - 0.5)[None, None]

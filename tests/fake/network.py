"""The least that is a segmentation network, with a card, and images for it."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from segscape.checkpoints.card import WeightsCard
from segscape.networks import SegmentationNetwork
from segscape.normalisation import Normalisation


class Coarse(SegmentationNetwork):
    """One convolution to four classes at stride 8."""

    stride = 8

    def __init__(self, *, align_corners: bool = False, size_multiple: int = 1) -> None:
        super().__init__()
        self.align_corners, self.size_multiple = align_corners, size_multiple
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 9, stride=8, padding=4)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images)


def card(**stated) -> WeightsCard:
    """A card of four classes; it names a real network, whose corners are aligned, for files that ask for it."""
    return WeightsCard("stdc1_seg", tuple("abcd"), tuple((60 * n, 0, 9) for n in range(4)), Normalisation(), **stated)


def noise(*size: int) -> np.ndarray:
    """Fine noise over larger features, (H, W, 3) uint8."""
    values = np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), np.uint8)
    blurred = cv2.GaussianBlur(values, (31, 31), 9).reshape(values.shape).astype(np.float32)
    return ((blurred - 128) * 6 + values / 4 + 96).clip(0, 255).astype(np.uint8)

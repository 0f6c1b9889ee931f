"""Normalisation of 8-bit images for the networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# The statistics of ImageNet, which all five systems use.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel (red, green, blue) of an image scaled to [0, 1]."""

    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD

    def __call__(self, images: Tensor) -> Tensor:
        """Convert images (N, 3, H, W) uint8 to (N, 3, H, W) float32, of mean about 0 and standard deviation about 1."""
        # Cards hold a normalisation, and are read by commands that must answer before PyTorch could be loaded.
        import torch

        scale = torch.tensor([1 / (255 * s) for s in self.std], device=images.device).reshape(1, -1, 1, 1)
        shift = torch.tensor([-m / s for m, s in zip(self.mean, self.std, strict=True)], device=images.device)
        return torch.addcmul(shift.reshape(1, -1, 1, 1), images, scale)

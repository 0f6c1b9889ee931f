"""What every segmentation network promises."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from segscape.normalisation import Normalisation


class SegmentationOutput(NamedTuple):
    """What a segmentation network returns in training.

    Attributes:
        logits: (N, K, h, w) at the network's stride.
        aux: What the losses need beside it, by name, each (N, C, h', w') at a stride of its own.
    """

    logits: Tensor
    aux: dict[str, Tensor]


class SegmentationNetwork(nn.Module):
    """A network from normalised images (N, 3, H, W) to logits (N, K, h, w).

    In `eval()` a call returns the logits as a plain tensor; in `train()` it returns a `SegmentationOutput`.
    Neither upsamples: h = ceil(H / stride), w = ceil(W / stride).

    Attributes:
        stride: Pixels of the image per pixel of the logits, along each side.
        align_corners: Whether the logits are meant to be resized with `align_corners=True`.
        aux_logits: Names of the auxiliary outputs that are logits, each to be trained on the labels too.
        training_heads: Names of the submodules that only training uses.
        new_modules: Names of the submodules that start from scratch where the rest is pre-trained.
        backbone_modules: Names of the submodules that hold the backbone's own normalisation layers.
        normalisation: Of the images that it takes.
        imagenet: The submodules that can start from ImageNet weights by name, each with timm's name of the weights.
        size_multiple: What both sides of the images must be multiples of, in pixels; whoever calls the network pads.
        min_size: The least side of the images, in pixels.
    """

    stride: ClassVar[int]
    align_corners: ClassVar[bool]
    aux_logits: ClassVar[tuple[str, ...]]
    training_heads: ClassVar[tuple[str, ...]]
    new_modules: ClassVar[tuple[str, ...]]
    backbone_modules: ClassVar[tuple[str, ...]]
    normalisation: Normalisation = Normalisation()
    imagenet: Mapping[str, str] = MappingProxyType({})
    size_multiple: int = 1
    min_size: int = 1

    def skipped_macs(self, height: int, width: int) -> int:
        """Multiply-accumulates that the authors' evaluation of one image spends and ours saves.

        Args:
            height: Of the image, in pixels.
            width: Of the image, in pixels.

        Returns:
            What to add to the cost of our forward pass to get the authors' figure; 0 where nothing is saved.
        """
        return 0

"""What every segmentation network promises."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from torch import Tensor, nn


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
        training_heads: Names of the submodules that only training uses.
        new_modules: Names of the submodules that start from scratch where the rest is pre-trained.
        backbone_modules: Names of the submodules that hold the backbone's own normalisation layers.
    """

    stride: ClassVar[int]
    align_corners: ClassVar[bool]
    training_heads: ClassVar[tuple[str, ...]]
    new_modules: ClassVar[tuple[str, ...]]
    backbone_modules: ClassVar[tuple[str, ...]]

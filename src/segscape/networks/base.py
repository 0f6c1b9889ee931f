"""What a network says of itself. Nothing outside `networks` knows one by its name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor, nn

from segscape.normalisation import Normalisation


class ImageNetwork(nn.Module):
    """A network that reads images: what it takes, from what it may start, how it is made ready to leave PyTorch.

    Attributes:
        normalisation: Of the images that it takes.
        imagenet: The submodules that can start from ImageNet weights by name, each with timm's name of the weights.
        size_multiple: What both sides of the images must be multiples of, in pixels; whoever calls the network pads.
        min_size: The least side of the images, in pixels.
    """

    normalisation: Normalisation = Normalisation()
    imagenet: Mapping[str, str] = MappingProxyType({})
    size_multiple: int = 1
    min_size: int = 1

    def fitting_size(self, height: int, width: int) -> tuple[int, int]:
        """The least size (height, width), in pixels, that the network takes and that holds an image of the given one.

        It is the one answer to what sizes a network takes: a size is taken if it is its own fitting size.
        """
        multiple, least = self.size_multiple, self.min_size
        return -(-max(height, least) // multiple) * multiple, -(-max(width, least) // multiple) * multiple

    def prepare_export(self, *, sizes_vary: bool) -> None:
        """Change the network in place to one with the same results whose graph PyTorch can take.

        Args:
            sizes_vary: Whether the graph is to serve images of any size that the network takes.
        """


class SegmentationOutput(NamedTuple):
    """What a segmentation network returns in training.

    Attributes:
        logits: (N, K, h, w) at the network's stride.
        aux: What the losses need beside it, by name, each (N, C, h', w') at a stride of its own.
    """

    logits: Tensor
    aux: dict[str, Tensor]


class Parts(NamedTuple):
    """What the submodules of a segmentation network are there for; each is named once, those named nowhere are plain.

    Attributes:
        backbone: They begin pre-trained, and recipes may leave their normalisation layers as they are.
        new: They begin from scratch where the backbone is pre-trained, and recipes may train them faster.
        training_only: New ones too, which only training uses; deployment drops them and weights files lack them.
        aux_logits: Not submodules, but the names of those auxiliary outputs that are logits of the classes, each of
            which a recipe trains on the labels too.
    """

    backbone: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    training_only: tuple[str, ...] = ()
    aux_logits: tuple[str, ...] = ()


class SegmentationNetwork(ImageNetwork):
    """A network from normalised images (N, 3, H, W) to logits (N, K, h, w).

    In `eval()` a call returns the logits as a plain tensor; in `train()` it returns a `SegmentationOutput`.
    Neither upsamples: h = ceil(H / stride), w = ceil(W / stride).

    Attributes:
        stride: Pixels of the image per pixel of the logits, along each side.
        align_corners: Whether the logits are meant to be resized with `align_corners=True`.
        parts: What its submodules are there for.
    """

    stride: int
    align_corners: bool = False
    parts: Parts = Parts()

    def skipped_macs(self, height: int, width: int) -> int:
        """Multiply-accumulates that the authors' evaluation of one image spends and ours saves.

        Args:
            height: Of the image, in pixels.
            width: Of the image, in pixels.

        Returns:
            What to add to the cost of our forward pass to get the authors' figure; 0 where nothing is saved.
        """
        return 0


class RefinementNetwork(ImageNetwork):
    """A network from normalised images and coarse masks of one object each to logits of sharper masks.

    A call takes images (N, 3, H, W), masks (N, 1, H, W) from -1 outside the object to 1 inside it, and the `size`
    (h, w) of the logits (N, 1, h, w) that it returns.
    """

"""Padding of images for networks that do not accept every size."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from segscape.networks import SegmentationNetwork


def pad_to_fit(network: SegmentationNetwork, images: Tensor) -> Tensor:
    """Pad images on the right and below with the mean colour, to a size that `network` accepts.

    The network's results are for the padded size. The caller crops them to their upper left part, which belongs to the
    images themselves.

    Args:
        network: Its `fitting_size` gives the size that it accepts.
        images: (N, 3, H, W), normalised, so that 0 is the mean colour.

    Returns:
        (N, 3, H', W') with H' >= H and W' >= W; the images themselves where they fit.
    """
    height, width = images.shape[-2:]
    new_height, new_width = network.fitting_size(height, width)
    if (new_height, new_width) == (height, width):
        return images
    return F.pad(images, (0, new_width - width, 0, new_height - height))

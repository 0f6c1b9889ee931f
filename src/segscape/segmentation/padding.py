"""Images made to fit a network that does not take every size."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from segscape.networks import SegmentationNetwork


def pad_to_fit(network: SegmentationNetwork, images: Tensor) -> Tensor:
    """Images padded on the right and below with the mean colour, to a size that `network` takes.

    What is computed for the padding is to be cut off: results belong to the padded size, and of those to the upper left
    part of the images' own size.

    Args:
        network: Its `fitting_size` says what it takes.
        images: (N, 3, H, W), normalised, so that 0 is the mean colour.

    Returns:
        (N, 3, H', W') with H' >= H and W' >= W; the images themselves where they fit.
    """
    height, width = images.shape[-2:]
    new_height, new_width = network.fitting_size(height, width)
    if (new_height, new_width) == (height, width):
        return images
    return F.pad(images, (0, new_width - width, 0, new_height - height))

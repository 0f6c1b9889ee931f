"""How the published scores are measured: the whole image, at one scale, resized back."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F


def whole_image_logits(
    network: Callable[[Tensor], Tensor], images: Tensor, *, scale: float = 1.0, align_corners: bool
) -> Tensor:
    """Logits at the images' own size, as STDC-Seg's evaluation computes them.

    The images are resized to (int(H * scale), int(W * scale)), the logits to that size, then to (H, W); every step is
    bilinear and of the same `align_corners`.

    Args:
        network: From normalised images to logits at its own stride.
        images: (N, 3, H, W), normalised.
        scale: The factor of both sides.
        align_corners: The network's convention.

    Returns:
        (N, K, H, W).
    """

    def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)

    height, width = images.shape[-2:]
    size = int(height * scale), int(width * scale)
    resized = images if size == (height, width) else resize(images, size)
    logits = resize(network(resized), size)
    return logits if size == (height, width) else resize(logits, (height, width))

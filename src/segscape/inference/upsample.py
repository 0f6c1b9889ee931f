"""Labels at the image's size from logits at the network's stride, without ever holding logits at the image's size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Full-width logits held at a time: within a core's share of the cache, large enough for a GPU to be busy.
_BLOCK_BYTES = {"cpu": 2 * 2**20, "cuda": 256 * 2**20}


def upsample_argmax(logits: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """The class of the largest logit at every pixel, the logits resized bilinearly.

    Equal to `F.interpolate(logits, size, mode="bilinear", align_corners=align_corners).argmax(1)`, but for pixels
    whose two best logits are equal up to rounding.

    Args:
        logits: (K, h, w), K at most 256.
        size: (H, W), the size of the labels.
        align_corners: The network's convention.

    Returns:
        (H, W) uint8, on the logits' device.
    """
    # A class's map must lie together: networks leave them interleaved.
    logits = logits.contiguous()
    num_classes, rows_in, _ = logits.shape
    height, width = size
    upper, lower, share = _rows(rows_in, height, align_corners=align_corners, like=logits)
    labels = torch.empty(size, dtype=torch.uint8, device=logits.device)
    budget = _BLOCK_BYTES.get(logits.device.type, _BLOCK_BYTES["cpu"])
    block = max(1, budget // (num_classes * width * logits.element_size()))
    for start in range(0, height, block):
        rows = slice(start, min(start + block, height))
        mixed = torch.lerp(logits[:, upper[rows]], logits[:, lower[rows]], share[rows, None])
        full = F.interpolate(mixed[None], (mixed.shape[1], width), mode="bilinear", align_corners=align_corners)[0]
        labels[rows] = full.max(dim=0).indices
    return labels


def _rows(rows_in: int, rows_out: int, *, align_corners: bool, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For every output row the input row above it, the one below, and the share of the latter."""
    position = torch.arange(rows_out, dtype=torch.float64)
    if align_corners:
        position *= (rows_in - 1) / max(rows_out - 1, 1)
    else:
        position = ((position + 0.5) * (rows_in / rows_out) - 0.5).clamp(min=0)
    upper = position.long().clamp(max=rows_in - 1)
    lower = (upper + 1).clamp(max=rows_in - 1)
    return upper.to(like.device), lower.to(like.device), (position - upper).to(like)

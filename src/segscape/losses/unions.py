"""Labels that say only that a pixel is of one of several classes.

Sources: Multi-domain semantic segmentation with overlapping labels (arXiv:2108.11224): the negative logarithm of the
summed probability of the classes that a label allows; Marginal loss and exclusion loss for partially supervised
multi-organ segmentation (arXiv:2007.03868): summed probabilities in place of a class's in any loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def join_unions(logits: Tensor, labels: Tensor, unions: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    """Logits and labels in which every union is one class, so that any loss of classes has the right value.

    At a pixel whose label is a union, its members' probabilities are added up and stand in the first member's place;
    the others get none. The cross entropy with that member as the label is then minus the logarithm of the sum, and so
    is the loss by which hard pixels are told; a class weight is the first member's. Elsewhere nothing changes.

    Args:
        logits: (N, K, H, W).
        labels: (N, H, W) int64: class indices below K, K + i for union i, and the ignore index.
        unions: Class indices of each union, sorted.

    Returns:
        Logits (N, K, H, W) and labels (N, H, W), without unions.
    """
    classes = logits.shape[1]
    here = (labels >= classes) & (labels < classes + len(unions))
    if not here.any():
        return logits, labels
    # Only the pixels of unions are worked on, each with its logits side by side.
    pixels = logits.movedim(1, -1)
    own = pixels[here]
    members = torch.zeros(len(unions), classes, dtype=torch.bool, device=logits.device)
    for number, union in enumerate(unions):
        members[number, list(union)] = True
    numbers = labels[here] - classes
    of_label = members[numbers]
    first = members.int().argmax(1)[numbers]
    joined = own.masked_fill(~of_label, -torch.inf).logsumexp(1, keepdim=True)
    own = own.masked_fill(of_label, torch.finfo(logits.dtype).min).scatter(1, first.unsqueeze(1), joined)
    return pixels.index_put((here,), own).movedim(-1, 1), labels.masked_scatter(here, first)

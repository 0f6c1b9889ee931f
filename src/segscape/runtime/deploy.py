"""The preparation of a trained network for inference: the same outputs from less work."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from segscape.networks import SegmentationNetwork
from segscape.networks.layers import Foldable, fold_in_order

_Network = TypeVar("_Network", bound=nn.Module)


def deploy(network: _Network) -> _Network:
    """Copy a network for inference: without training heads, batch normalisation folded, channels last.

    Batch normalisation is folded into convolutions where a module defines how (`Foldable`), in every `nn.Sequential`
    and in timm's blocks; elsewhere it is computed as it stands.

    Args:
        network: The network; it is left as it is.

    Returns:
        A network in evaluation mode with the same logits, up to rounding. It cannot be trained.
    """
    deployed = copy.deepcopy(network).eval().requires_grad_(False)
    for name in deployed.parts.training_only if isinstance(deployed, SegmentationNetwork) else ():
        delattr(deployed, name)
    for module in list(deployed.modules()):
        if isinstance(module, Foldable):
            module.fold_norms()
        elif isinstance(module, nn.Sequential) or type(module).__module__.startswith("timm."):
            fold_in_order(module)
    return deployed.to(memory_format=torch.channels_last)

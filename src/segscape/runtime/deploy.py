"""A trained network made ready to run: the same outputs from less work."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segscape.networks import SegmentationNetwork
from segscape.networks.layers import ConvNorm


def deploy(network: SegmentationNetwork) -> SegmentationNetwork:
    """A copy for inference: training heads dropped, batch normalisation folded into convolutions, channels last.

    Args:
        network: Left as it is.

    Returns:
        A network in evaluation mode with the same logits, up to rounding. It cannot be trained.
    """
    deployed = copy.deepcopy(network).eval().requires_grad_(False)
    for name in deployed.training_heads:
        delattr(deployed, name)
    for module in deployed.modules():
        if isinstance(module, ConvNorm):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = nn.Identity()  # type: ignore[assignment]
    return deployed.to(memory_format=torch.channels_last)

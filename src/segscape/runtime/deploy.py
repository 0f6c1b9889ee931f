"""A trained network made ready to run: the same outputs from less work."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from segscape.networks import SegmentationNetwork
from segscape.networks.crm import ResNetExtractor
from segscape.networks.dabnet import JoinedConvs
from segscape.networks.efficientnet import EfficientNetB1
from segscape.networks.efficientnet_lite import EfficientNetLite
from segscape.networks.layers import ConvNorm

_Network = TypeVar("_Network", bound=nn.Module)


def deploy(network: _Network) -> _Network:
    """A copy for inference: training heads dropped, batch normalisation folded into convolutions, channels last.

    Args:
        network: Left as it is.

    Returns:
        A network in evaluation mode with the same logits, up to rounding. It cannot be trained.
    """
    deployed = copy.deepcopy(network).eval().requires_grad_(False)
    for name in deployed.training_heads if isinstance(deployed, SegmentationNetwork) else ():
        delattr(deployed, name)
    for module in list(deployed.modules()):
        if isinstance(module, JoinedConvs):
            _fold_joined(module)
        elif isinstance(module, (ConvNorm, EfficientNetB1, EfficientNetLite, ResNetExtractor, nn.Sequential)) or type(
            module
        ).__module__.startswith("timm."):
            _fold_neighbours(module)
    return deployed.to(memory_format=torch.channels_last)


def _fold_neighbours(module: nn.Module) -> None:
    """Fold each batch normalisation into the convolution that stands before it.

    Args:
        module: One whose children run in the order in which they are registered; changed in place.
    """
    for (conv_name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
        follower = norm[0] if isinstance(norm, nn.Sequential) and len(norm) else norm
        if isinstance(conv, nn.Conv2d) and isinstance(follower, nn.BatchNorm2d):
            setattr(module, conv_name, fuse_conv_bn_eval(conv, follower))
            setattr(module, norm_name, norm[1:] if isinstance(norm, nn.Sequential) else nn.Identity())


def _fold_joined(module: JoinedConvs) -> None:
    """Fold the normalisation of a sum into both of its convolutions, its shift into one of them."""
    norm = module.bn
    scale_only = copy.deepcopy(norm)
    scale_only.reset_parameters()
    scale_only.weight.data, scale_only.running_var = norm.weight.data, norm.running_var
    module.high = fuse_conv_bn_eval(module.high, norm)
    module.low = fuse_conv_bn_eval(module.low, scale_only)
    module.bn = nn.Identity()  # type: ignore[assignment]

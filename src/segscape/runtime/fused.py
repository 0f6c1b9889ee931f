"""Convolutions that also clip what they give, on a CPU: one pass through memory less for each activation.

PyTorch's own compiler turns a convolution and the activation behind it into the same oneDNN call. Results are the same
up to rounding.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from segscape.networks.layers import ConvNormAct

_Network = TypeVar("_Network", bound=nn.Module)

AVAILABLE = hasattr(torch.ops.mkldnn, "_convolution_pointwise")
"""Whether this PyTorch has the call; those for other processors come without oneDNN."""


class ClippedConv(nn.Module):
    """A convolution and a ReLU, or a ReLU6, in one.

    Args:
        conv: The convolution, whose weights are shared.
        most: What larger results are clipped to, or nothing.
    """

    def __init__(self, conv: nn.Conv2d, most: float | None) -> None:
        super().__init__()
        self.conv = conv
        self._activation = ("relu", []) if most is None else ("hardtanh", [0.0, most])

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, h, w), not negative."""
        conv = self.conv
        return torch.ops.mkldnn._convolution_pointwise(
            x, conv.weight, conv.bias, conv.padding, conv.stride, conv.dilation, conv.groups, *self._activation, ""
        )


def fuse_activations(network: _Network) -> _Network:
    """A copy of a deployed network, over the same weights, whose convolutions activate too.

    Args:
        network: As `segscape.runtime.deploy.deploy` returns it, on a CPU.
    """
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    fused = copy.deepcopy(network, shared)
    for module in list(fused.modules()):
        for name, child in list(module.named_children()):
            if type(child) is ConvNormAct and isinstance(child.bn, nn.Identity) and not child.negative_slope:
                setattr(module, name, ClippedConv(child.conv, None))
        if isinstance(module, nn.Sequential):
            _fuse_neighbours(module)
    return fused


def _fuse_neighbours(module: nn.Sequential) -> None:
    """Join each convolution with the ReLU or ReLU6 that follows it, identities between them left aside."""
    before = ""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d):
            before = name
        elif isinstance(child, (nn.ReLU, nn.ReLU6)) and before:
            conv = module.get_submodule(before)
            assert isinstance(conv, nn.Conv2d)
            setattr(module, before, ClippedConv(conv, 6.0 if isinstance(child, nn.ReLU6) else None))
            setattr(module, name, nn.Identity())
            before = ""
        elif not isinstance(child, nn.Identity):
            before = ""

"""Convolutions that spare a CPU's memory: those that also clip what they give, and chains that run band by band.

PyTorch's own compiler turns a convolution and the activation behind it into the same oneDNN call. An inverted residual
block has six times the channels inside; band by band they stay in the cache. Results are the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segscape.networks.efficientnet_lite import EfficientNetLite
from segscape.networks.layers import ConvNormAct

AVAILABLE = hasattr(torch.ops.mkldnn, "_convolution_pointwise")
"""Whether this PyTorch has the call; those for other processors come without oneDNN."""

_BAND_BYTES = 12 << 20
"""Of the largest map inside a chain of convolutions, in one band."""


class FusedConv(nn.Module):
    """A convolution and the activation behind it in one.

    Args:
        conv: The convolution, whose weights are shared.
        activation: Its oneDNN name, `"none"`, `"relu"` or `"hardtanh"`.
        bounds: Of `"hardtanh"`: what results are clipped to.
    """

    def __init__(self, conv: nn.Conv2d, activation: str = "none", bounds: Sequence[float] = ()) -> None:
        super().__init__()
        self.conv = conv
        self._activation = (activation, list(bounds), "")

    def forward(self, x: Tensor, padding: Sequence[int] | None = None) -> Tensor:
        """(N, in, H, W) -> (N, out, h, w).

        Args:
            x: On the CPU.
            padding: Rows and columns of zeros at each edge, in place of the convolution's own.
        """
        conv = self.conv
        return torch.ops.mkldnn._convolution_pointwise(
            *(x, conv.weight, conv.bias, padding or conv.padding, conv.stride, conv.dilation, conv.groups),
            *self._activation,
        )


class BandedConvs(nn.Module):
    """Convolutions one after another, a band of rows at a time.

    Rows between two bands are computed for both, which is little beside the way of a large map to memory and back.

    Args:
        convs: At least two.
    """

    def __init__(self, convs: Sequence[FusedConv]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(convs)
        self._convs = [layer.conv for layer in convs]

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, H, W) -> (N, out, h, w)."""
        heights, width, widest = [x.shape[2]], x.shape[3], 0
        for conv in self._convs:
            for axis, side in enumerate((heights[-1], width)):
                reach = conv.dilation[axis] * (conv.kernel_size[axis] - 1)
                side = (side + 2 * int(conv.padding[axis]) - reach - 1) // conv.stride[axis] + 1
                if axis == 0:
                    heights.append(side)
                else:
                    width = side
            widest = max(widest, heights[-1] * width * conv.out_channels)
        rows = max(_BAND_BYTES * heights[-1] // (x.shape[0] * x.element_size() * widest), 1)
        bands = -(-heights[-1] // rows)
        if bands == 1:
            return self._rows(x, heights, 0, heights[-1])
        size = (x.shape[0], self._convs[-1].out_channels, heights[-1], width)
        result = torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last)
        edges = [heights[-1] * band // bands for band in range(bands + 1)]
        for first, end in pairwise(edges):
            result[:, :, first:end] = self._rows(x, heights, first, end)
        return result

    def _rows(self, x: Tensor, heights: Sequence[int], first: int, end: int) -> Tensor:
        """Some rows of the result.

        Args:
            x: The whole input.
            heights: Of the input and of each convolution's whole result.
            first: The first of the rows.
            end: The one behind the last.
        """
        zeros = []
        for conv, height in zip(reversed(self._convs), reversed(heights[:-1]), strict=True):
            above = int(conv.padding[0])
            first = first * conv.stride[0] - above
            end = (end - 1) * conv.stride[0] - above + conv.dilation[0] * (conv.kernel_size[0] - 1) + 1
            zeros.append((max(-first, 0), max(end - height, 0)))
            first, end = max(first, 0), min(end, height)
        y = x[:, :, first:end]
        for layer, conv, (above, below) in zip(self.layers, self._convs, reversed(zeros), strict=True):
            if above or below:
                y = F.pad(y, (0, 0, above, below))
            y = layer(y, (0, int(conv.padding[1])))
        return y


def fuse(network: nn.Module) -> None:
    """Replace convolutions of a deployed network by those that activate too, and by chains in bands.

    Args:
        network: On a CPU; changed in place, over the same weights.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is ConvNormAct and isinstance(child.bn, nn.Identity) and not child.negative_slope:
                setattr(module, name, FusedConv(child.conv, "relu"))
        if isinstance(module, (nn.Sequential, EfficientNetLite)):
            _fuse_neighbours(module)
        if isinstance(module, nn.Sequential):
            _join_chains(module)


def _fuse_neighbours(module: nn.Module) -> None:
    """Join each convolution with the ReLU or ReLU6 that follows it, identities between them left aside."""
    before = ""
    for name, child in list(module.named_children()):
        if isinstance(child, (nn.ReLU, nn.ReLU6)) and before:
            conv = module.get_submodule(before)
            assert isinstance(conv, nn.Conv2d)
            fused = FusedConv(conv, "hardtanh", (0.0, 6.0)) if isinstance(child, nn.ReLU6) else FusedConv(conv, "relu")
            setattr(module, before, fused)
            setattr(module, name, nn.Identity())
            before = ""
        elif _is_plain(child):
            before = name
        elif not isinstance(child, nn.Identity):
            before = ""


def _join_chains(module: nn.Sequential) -> None:
    """Have convolutions that follow one another run in bands, where one of them takes each channel by itself."""
    chain: dict[str, FusedConv] = {}
    for name, child in [*module.named_children(), ("", nn.Module())]:
        if isinstance(child, FusedConv):
            chain[name] = child
        elif _is_plain(child):
            chain[name] = FusedConv(child)
        elif not isinstance(child, nn.Identity):
            if len(chain) > 1 and any(layer.conv.groups > 1 for layer in chain.values()):
                first, *others = chain
                setattr(module, first, BandedConvs(list(chain.values())))
                for each in others:
                    setattr(module, each, nn.Identity())
            chain = {}


def _is_plain(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a module is a convolution with zeros around, and nothing else."""
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)

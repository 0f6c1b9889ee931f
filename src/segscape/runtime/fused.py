"""Convolutions with less memory traffic on a CPU: fused with their activation, or in chains that run band by band.

PyTorch's own compiler turns a convolution and the activation behind it into the same oneDNN call. An inverted residual
block has six times the channels inside; computed band by band, its maps stay in the cache. Results are the same up to
rounding.
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
"""Whether this PyTorch has the oneDNN call; builds for other processors come without oneDNN."""

_BAND_BYTES = 12 << 20
"""The size of one band of the largest map inside a chain of convolutions, in bytes."""


class FusedConv(nn.Module):
    """A convolution and the activation behind it in one call.

    Args:
        conv: The convolution, whose weights are shared.
        activation: The activation's oneDNN name, `"none"`, `"relu"` or `"hardtanh"`.
        bounds: The bounds that `"hardtanh"` clips results to.
    """

    def __init__(self, conv: nn.Conv2d, activation: str = "none", bounds: Sequence[float] = ()) -> None:
        super().__init__()
        self.conv = conv
        self._activation = (activation, list(bounds), "")

    def forward(self, x: Tensor, padding: Sequence[int] | None = None) -> Tensor:
        """Convolve and activate maps, (N, in, H, W) -> (N, out, h, w).

        Args:
            x: The maps, on the CPU.
            padding: Rows and columns of zeros at each edge, in place of the convolution's own.
        """
        conv = self.conv
        return torch.ops.mkldnn._convolution_pointwise(
            *(x, conv.weight, conv.bias, padding or conv.padding, conv.stride, conv.dilation, conv.groups),
            *self._activation,
        )


class BandedConvs(nn.Module):
    """A chain of convolutions that computes a band of rows at a time.

    Rows of inner maps that two neighbouring bands need are computed twice, which costs less than moving a large map to
    memory and back.

    Args:
        convs: The convolutions in their order, at least two.
    """

    def __init__(self, convs: Sequence[FusedConv]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(convs)
        self._convs = [layer.conv for layer in convs]

    def forward(self, x: Tensor) -> Tensor:
        """Compute the chain, (N, in, H, W) -> (N, out, h, w)."""
        # The heights of all maps, the width of the result, and the elements per image of the largest map.
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
        # The rows of the result for which the band of the largest map has `_BAND_BYTES`: each map is cut in proportion.
        rows = max(_BAND_BYTES * heights[-1] // (x.shape[0] * x.element_size() * widest), 1)
        bands = -(-heights[-1] // rows)
        if bands == 1:
            return self._rows(x, heights, 0, heights[-1])
        size = (x.shape[0], self._convs[-1].out_channels, heights[-1], width)
        result = torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last)
        # Bands of the same height, up to one row, rather than a short last one.
        edges = [heights[-1] * band // bands for band in range(bands + 1)]
        for first, end in pairwise(edges):
            result[:, :, first:end] = self._rows(x, heights, first, end)
        return result

    def _rows(self, x: Tensor, heights: Sequence[int], first: int, end: int) -> Tensor:
        """Compute some rows of the result.

        Args:
            x: The whole input.
            heights: Heights of the input and of each convolution's whole result.
            first: The first of the rows.
            end: The row behind the last.
        """
        # From the last convolution back to the first: the rows that it needs of its input. Those outside of the map
        # are zeros of its padding, and are counted, since only bands at the map's edges have them.
        zeros = []
        for conv, height in zip(reversed(self._convs), reversed(heights[:-1]), strict=True):
            above = int(conv.padding[0])
            first = first * conv.stride[0] - above
            end = (end - 1) * conv.stride[0] - above + conv.dilation[0] * (conv.kernel_size[0] - 1) + 1
            zeros.append((max(-first, 0), max(end - height, 0)))
            first, end = max(first, 0), min(end, height)
        # Forwards again. Rows are padded here by what was counted, so each convolution pads columns alone.
        y = x[:, :, first:end]
        for layer, conv, (above, below) in zip(self.layers, self._convs, reversed(zeros), strict=True):
            if above or below:
                y = F.pad(y, (0, 0, above, below))
            y = layer(y, (0, int(conv.padding[1])))
        return y


def fuse(network: nn.Module) -> None:
    """Fuse a deployed network's convolutions with their activations, and compute chains of them in bands.

    Args:
        network: The network, on a CPU; changed in place, with the same weights.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is ConvNormAct and isinstance(child.bn, nn.Identity) and not child.negative_slope:
                setattr(module, name, FusedConv(child.conv, "relu"))
        if isinstance(module, (nn.Sequential, EfficientNetLite)):
            _fuse_neighbours(module)
        # After the activations are fused, since one between two convolutions would end a chain.
        if isinstance(module, nn.Sequential):
            _join_chains(module)


def _fuse_neighbours(module: nn.Module) -> None:
    """Fuse each convolution with the ReLU or ReLU6 that follows it, skipping identities between them."""
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
    """Replace chains of convolutions by `BandedConvs` where one of them is grouped, such as a depthwise one."""
    chain: dict[str, FusedConv] = {}
    # The module at the end of the list is not the network's: it ends a chain that the last child belongs to.
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
    """Return whether a module is an `nn.Conv2d`, not of a subclass, that pads with a fixed number of zeros."""
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)

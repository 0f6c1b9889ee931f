"""The replacement of a network's convolutions by Winograd's form of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segscape.networks.layers import ConvNormAct
from segscape.runtime.winograd.kernels import convolve, transformed
from segscape.runtime.winograd.native import LANES


class WinogradConv2d(nn.Module):
    """A convolution with 3 x 3 weights and stride 1 by Winograd's algorithm.

    Args:
        conv: The convolution; its numbers of input and output channels are multiples of `LANES`.
        relu: Whether a ReLU follows.
    """

    def __init__(self, conv: nn.Conv2d, *, relu: bool = False) -> None:
        super().__init__()
        self.relu = relu
        self.dilation = conv.dilation[0]
        self._weights = transformed(conv.weight.detach().double().numpy())
        self._bias = (torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().clone()).numpy()

    def forward(self, x: Tensor, padding: tuple[int, int] | None = None) -> Tensor:
        """Compute the convolution, (N, in, H, W) -> (N, out, H', W'), float32, channels last.

        Args:
            x: The maps, float32.
            padding: Rows and columns of zeros at each edge, in place of the convolution's own.
        """
        images = x.permute(0, 2, 3, 1).contiguous().numpy()
        padding = padding or (self.dilation, self.dilation)
        outputs = convolve(images, self._weights, self._bias, padding=padding, dilation=self.dilation, relu=self.relu)
        return torch.from_numpy(outputs).permute(0, 3, 1, 2)


def use_winograd(module: nn.Module, prefix: str = "") -> dict[str, WinogradConv2d]:
    """Replace all convolutions of a deployed network that have a Winograd form.

    Args:
        module: The network or a part of it; changed in place.
        prefix: Prefix of the names of its layers.

    Returns:
        The new layers, by the names that the convolutions had.
    """
    made: dict[str, WinogradConv2d] = {}
    for name, child in module.named_children():
        if type(child) is ConvNormAct and not child.negative_slope and _has_winograd(child.conv):
            made[f"{prefix}{name}.conv"] = layer = WinogradConv2d(child.conv, relu=True)
            setattr(module, name, layer)
        elif isinstance(child, nn.Conv2d) and _has_winograd(child):
            made[f"{prefix}{name}"] = layer = WinogradConv2d(child)
            setattr(module, name, layer)
        else:
            made |= use_winograd(child, f"{prefix}{name}.")
    return made


def _has_winograd(conv: nn.Conv2d) -> bool:
    return (
        (conv.kernel_size, conv.stride, conv.groups) == ((3, 3), (1, 1), 1)
        and conv.padding == conv.dilation
        and conv.dilation[0] == conv.dilation[1]
        and conv.padding_mode == "zeros"
        # With fewer than two vectors of channels, the additions take as long as the products that they save.
        and all(channels % LANES == 0 and channels >= 2 * LANES for channels in (conv.in_channels, conv.out_channels))
    )

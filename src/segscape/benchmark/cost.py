"""Parameters and multiply-accumulates of a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segscape.networks import SegmentationNetwork
from segscape.registry import model_entry


@dataclass(frozen=True)
class NetworkCost:
    """The cost of a segmentation network at inference.

    Attributes:
        parameters: Number of parameters, without those of the heads that only training uses.
        macs: Multiply-accumulates of convolutions, linear layers and attention for one image.
        authors_macs: Multiply-accumulates of the authors' evaluation of the same image.
        stride: Stride of the logits.
    """

    parameters: int
    macs: int
    authors_macs: int
    stride: int


def network_cost(name: str, *, num_classes: int = 19, size: tuple[int, int] = (1024, 2048)) -> NetworkCost:
    """Return the cost of a segmentation network at inference, counted without computing anything.

    Args:
        name: The network's registered name.
        num_classes: K, the number of classes.
        size: (height, width) of the image, in pixels; it is padded to a size that the network takes.
    """
    with torch.device("meta"):
        network = model_entry(name).build(num_classes=num_classes).eval()
        assert isinstance(network, SegmentationNetwork)
        height, width = network.fitting_size(*size)
        images = torch.empty(1, 3, height, width)
    for head in network.parts.training_only:
        setattr(network, head, nn.Identity())
    with FlopCounterMode(display=False) as counter:
        network(images)
    macs = counter.get_total_flops() // 2
    return NetworkCost(
        parameters=parameter_count(network),
        macs=macs,
        authors_macs=macs + network.skipped_macs(height, width),
        stride=network.stride,
    )


def parameter_count(network: nn.Module) -> int:
    """Return the number of parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())

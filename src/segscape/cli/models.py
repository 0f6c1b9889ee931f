"""`segscape models`: what there is to choose from."""

from __future__ import annotations

import argparse

import torch
from rich.console import Console
from rich.table import Column, Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segscape.checkpoints.store import find_weights, list_weights, read_card
from segscape.networks import SegmentationNetwork, list_models
from segscape.registry import model_entry

_SIZE = (512, 1024)
_NUM_CLASSES = 19


def main(words: list[str]) -> int:
    """Run `segscape models`."""
    parser = argparse.ArgumentParser(prog="segscape models", description="List networks and weights.")
    parser.add_argument("pattern", nargs="?", default="*", help="only networks that match, such as 'stdc*'")
    pattern = parser.parse_args(words[1:]).pattern
    console = Console(soft_wrap=True, highlight=False)

    networks = Table(
        "network", "parameters", "GMAC", "stride", title=f"networks ({_NUM_CLASSES} classes, {_SIZE[0]}x{_SIZE[1]})"
    )
    for name in list_models(pattern):
        parameters, macs, stride = network_cost(name)
        networks.add_row(name, f"{parameters / 1e6:.2f} M", f"{macs / 1e9:.2f}", str(stride))
    console.print(networks)

    weights = Table(Column("weights", no_wrap=True), "classes", "score", "protocol", "licence", title="weights")
    for name in list_weights():
        card = read_card(find_weights(name))
        score = ", ".join(f"{key} {value:.4f}" for key, value in card.score.items())
        weights.add_row(name, str(card.num_classes), score, card.protocol, card.licence)
    console.print(weights)
    return 0


def network_cost(name: str, *, num_classes: int = _NUM_CLASSES, size: tuple[int, int] = _SIZE) -> tuple[int, int, int]:
    """A segmentation network's cost at inference, counted without computing anything.

    Args:
        name: Its registered name.
        num_classes: K.
        size: (height, width) of the image.

    Returns:
        Its parameters without training heads, the multiply-accumulates of its convolutions and linear layers for one
        image, and its stride.
    """
    with torch.device("meta"):
        network = model_entry(name).build(num_classes=num_classes).eval()
        images = torch.empty(1, 3, *size)
    assert isinstance(network, SegmentationNetwork)
    for head in network.training_heads:
        setattr(network, head, nn.Identity())
    with FlopCounterMode(display=False) as counter:
        network(images)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return parameters, counter.get_total_flops() // 2, network.stride

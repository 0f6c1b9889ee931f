"""`segscape models`: the list of networks and weights."""

from __future__ import annotations

import argparse

import torch
from rich.table import Column, Table

from segscape.benchmark.cost import network_cost, parameter_count
from segscape.checkpoints.store import find_weights, list_weights, read_card
from segscape.cli.console import PlainConsole
from segscape.networks import list_models
from segscape.registry import model_entry

_SIZE = (1024, 2048)
_NUM_CLASSES = 19


def main(words: list[str]) -> int:
    """Run `segscape models`."""
    parser = argparse.ArgumentParser(prog="segscape models", description="List networks and weights.")
    parser.add_argument("pattern", nargs="?", default="*", help="only networks that match, such as 'stdc*'")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        default=_SIZE,
        help="of the image (default: %(default)s)",
    )
    parser.add_argument("--num-classes", type=int, default=_NUM_CLASSES, help="(default: %(default)s)")
    arguments = parser.parse_args(words[1:])
    console = PlainConsole()

    height, width = arguments.size
    networks = Table(
        "network",
        "parameters",
        "GMAC",
        "GMAC of the authors' code",
        "stride",
        title=f"networks ({arguments.num_classes} classes, {height}x{width})",
    )
    for name in list_models(arguments.pattern):
        cost = network_cost(name, num_classes=arguments.num_classes, size=(height, width))
        networks.add_row(
            name,
            _millions(cost.parameters),
            f"{cost.macs / 1e9:.2f}",
            f"{cost.authors_macs / 1e9:.2f}",
            str(cost.stride),
        )
    console.print(networks)

    refiners = Table("network", "parameters", title="networks that refine masks")
    for name in list_models(arguments.pattern, task="refinement"):
        with torch.device("meta"):
            refiners.add_row(name, _millions(parameter_count(model_entry(name).build())))
    if refiners.row_count:
        console.print(refiners)

    weights = Table(Column("weights", no_wrap=True), "classes, scores, protocol and licence", title="weights")
    for name in list_weights():
        card = read_card(find_weights(name))
        scores = ", ".join(f"{key} {value:.4f}" for key, value in card.score.items())
        classes = "1 class" if card.num_classes == 1 else f"{card.num_classes} classes"
        weights.add_row(name, f"{classes}: {scores}\n{card.protocol}\n{card.licence}", end_section=True)
    console.print(weights)
    return 0


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"

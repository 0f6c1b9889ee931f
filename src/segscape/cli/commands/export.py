"""`segscape export`: a network as a file that runs without Segscape."""

from __future__ import annotations

import argparse

from segscape.checkpoints.shipped import find_weights, read_card
from segscape.checkpoints.store import create_model
from segscape.cli.output import Output
from segscape.export.write import export_network
from segscape.networks import RefinementNetwork, SegmentationNetwork


def run(arguments: argparse.Namespace) -> int:
    """Run `segscape export`."""
    output = Output(arguments)
    weights, path = find_weights(arguments.weights), arguments.output
    card = read_card(weights)
    network = create_model(card.network, weights=weights)
    if not isinstance(network, SegmentationNetwork | RefinementNetwork):
        raise ValueError(f"{weights} holds weights of {card.network}, which neither segments images nor refines masks.")
    record = {"output": path, "format": arguments.format, "network": card.network, "dry_run": arguments.dry_run}
    if arguments.dry_run:
        output.console.print(f"{card.network} would be written to {path}")
        output.record("export", **record)
        return 0
    verification = export_network(network, card, path, size=arguments.size, labels=arguments.labels)
    output.console.print(f"{path}: {verification}")
    output.record("export", **record, verification=str(verification))
    return 0

"""`segscape export-weights`: any checkpoint of a run as a weights file."""

from __future__ import annotations

import argparse

from segscape.cli.output import Output
from segscape.training.weights import card_of, export_weights


def run(arguments: argparse.Namespace) -> int:
    """Run `segscape export-weights`."""
    output = Output(arguments)
    checkpoint, target = arguments.checkpoint, arguments.output
    card = card_of(checkpoint) if arguments.dry_run else export_weights(checkpoint, target)
    if card is None:
        raise ValueError(f"{checkpoint} is no checkpoint of `segscape fit`: it has no card.")
    scores = ", ".join(f"{name} {value:.4f}" for name, value in card.score.items()) or "none at this step"
    output.console.print(f"{target}: {card.network}, {card.training}, from {checkpoint}")
    output.console.print(f"scores: {scores} ({card.protocol})")
    output.record(
        "weights",
        network=card.network,
        checkpoint=checkpoint,
        output=target,
        score=card.score,
        dry_run=arguments.dry_run,
    )
    return 0

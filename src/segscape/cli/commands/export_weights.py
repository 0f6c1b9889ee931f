"""`segscape export-weights`: any checkpoint of a run as a weights file."""

from __future__ import annotations

import argparse
from pathlib import Path

from segscape.cli.console import PlainConsole
from segscape.training.weights import export_weights


def main(words: list[str]) -> int:
    """Run `segscape export-weights`."""
    parser = argparse.ArgumentParser(
        prog="segscape export-weights",
        description="Write a checkpoint of `segscape fit` as a weights file, for all commands that take weights.",
    )
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="RUN_OR_CHECKPOINT",
        help="a run's folder, whose last checkpoint is taken, or one of the files in its checkpoints/",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the weights file to write (.safetensors)"
    )
    arguments = parser.parse_args(words[1:])
    checkpoint, target = arguments.checkpoint, arguments.output
    if target.suffix != ".safetensors":
        raise ValueError(f"A weights file ends in .safetensors; rename {target}.")
    if checkpoint.is_dir():
        folder, checkpoint = checkpoint, checkpoint / "checkpoints" / "last.ckpt"
        if not checkpoint.is_file():
            raise FileNotFoundError(f"{folder} is no run of `segscape fit`: it has no checkpoints/last.ckpt.")
    card = export_weights(checkpoint, target)
    console = PlainConsole()
    scores = ", ".join(f"{name} {value:.4f}" for name, value in card.score.items()) or "none at this step"
    console.print(f"{target}: {card.network}, {card.training}, from {checkpoint}")
    console.print(f"scores: {scores} ({card.protocol})")
    return 0

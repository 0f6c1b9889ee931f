"""`segscape export`: a network as a file that runs without Segscape."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import get_args

from segscape.checkpoints.store import create_model, find_weights, read_card
from segscape.cli.console import PlainConsole
from segscape.export.metadata import SUFFIXES, Format, format_of
from segscape.export.write import export_network
from segscape.networks import RefinementNetwork, SegmentationNetwork


def image_size(text: str) -> tuple[int, int] | None:
    """Parse a (height, width) such as `1024x2048`, or return None for `dynamic`.

    Raises:
        argparse.ArgumentTypeError: The text is neither.
    """
    if text == "dynamic":
        return None
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text, re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError(f"{text} is no size; write HEIGHTxWIDTH, as in 1024x2048, or dynamic.")
    return int(found[1]), int(found[2])


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="segscape export",
        description="Write a network as a file that runs without Segscape. The file is compared with PyTorch on real "
        "images, and is there only if it computes the same. `segscape segment --weights FILE` runs it, too.",
    )
    parser.add_argument("weights", metavar="NAME|PATH", help="a name of `segscape models`, or a weights file")
    parser.add_argument("--format", choices=get_args(Format), required=True, help="what the file is for")
    parser.add_argument(
        "--size",
        type=image_size,
        required=True,
        metavar="HxW|dynamic",
        help="of the images that it takes, height x width in pixels, or any",
    )
    parser.add_argument("--labels", action="store_true", help="return labels at the image's size instead of logits")
    endings = ", ".join(f"{suffix} for {kind}" for suffix, kind in SUFFIXES.items())
    parser.add_argument("--output", type=Path, required=True, help=f"the file to write: {endings}")
    return parser


def main(words: list[str]) -> int:
    """Run `segscape export`."""
    arguments = parser().parse_args(words[1:])
    path: Path = arguments.output
    if format_of(path) != arguments.format:
        suffix = next(suffix for suffix, kind in SUFFIXES.items() if kind == arguments.format)
        raise ValueError(f"A file of the format {arguments.format} ends in {suffix}; rename {path}.")
    weights = find_weights(arguments.weights)
    card = read_card(weights)
    network = create_model(card.network, weights=weights)
    if not isinstance(network, SegmentationNetwork | RefinementNetwork):
        raise ValueError(f"{weights} holds weights of {card.network}, which neither segments images nor refines masks.")
    verification = export_network(network, card, path, size=arguments.size, labels=arguments.labels)
    PlainConsole().print(f"{path}: {verification}")
    return 0

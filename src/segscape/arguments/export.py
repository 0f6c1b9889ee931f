"""The arguments of `segscape export`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from segscape.arguments.base import add_dry_run, add_reporting
from segscape.arguments.values import size_or_dynamic
from segscape.checkpoints.shipped import find_weights
from segscape.export.metadata import SUFFIXES, Format, format_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.description = (
        "Write a network as a file that runs without Segscape. The file is compared with PyTorch on real images, and "
        "is there only if it computes the same. `segscape segment --weights FILE` runs it, too."
    )
    parser.add_argument(
        "weights", metavar="NAME|FILE", help="a name of `segscape models`, or a weights file"
    ).completes = "weights"  # type: ignore[attr-defined]
    parser.add_argument("--format", choices=get_args(Format), required=True, help="what the file is for")
    parser.add_argument(
        "--size",
        type=size_or_dynamic,
        required=True,
        metavar="HxW|dynamic",
        help="of the images that it takes, height x width in pixels, or any",
    )
    parser.add_argument("--labels", action="store_true", help="return labels at the image's size instead of logits")
    endings = ", ".join(f"{suffix} for {kind}" for suffix, kind in SUFFIXES.items())
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help=f"the file to write: {endings}")
    add_dry_run(parser, "what would be written")
    add_reporting(parser)


def check(arguments: argparse.Namespace) -> None:
    """Refuse weights that are not there, and an output whose suffix is of another format.

    Raises:
        FileNotFoundError: There are no such weights.
        ValueError: The suffix is of another format.
    """
    find_weights(arguments.weights)
    path: Path = arguments.output
    if format_of(path) != arguments.format:
        suffix = next(suffix for suffix, kind in SUFFIXES.items() if kind == arguments.format)
        raise ValueError(f"A file of the format {arguments.format} ends in {suffix}; rename {path}.")

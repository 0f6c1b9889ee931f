"""The arguments of `segscape convert`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from segscape.arguments.base import add_dry_run, add_reporting
from segscape.arguments.values import count
from segscape.choices import Which
from segscape.figures import check_network


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.description = "Convert a checkpoint of the network's authors to a weights file, or a weights file back."
    parser.add_argument("name", metavar="NETWORK", help="the network, one of `segscape models`").completes = "networks"  # type: ignore[attr-defined]
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help="the official file (.pth, .pt, .tar, .safetensors) to convert",
    )
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="the weights file to write (.safetensors)")
    parser.add_argument("--num-classes", type=count, help="the number of classes (default: what the checkpoint says)")
    parser.add_argument("--labels", help="the data set, or the labels.yaml, whose class names and colours it has")
    parser.add_argument(
        "--which",
        choices=get_args(Which),
        default="averaged",
        help="of a checkpoint that holds averaged weights beside the raw ones (default: %(default)s)",
    )
    parser.add_argument(
        "--to-official",
        action="store_true",
        help="the other way: CHECKPOINT is a weights file, OUTPUT the official one (.pth)",
    )
    parser.add_argument(
        "--origin", help="with --to-official: the code base whose names are wanted (default: where it came from)"
    )
    add_dry_run(parser, "what would be written, after the checkpoint was read and understood")
    add_reporting(parser)


def check(arguments: argparse.Namespace) -> None:
    """Refuse an unknown network, a missing checkpoint, and an output with the wrong suffix.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: The network is unknown, the suffix is wrong, or --origin stands without --to-official.
    """
    check_network(arguments.name)
    suffix, kind = (".pth", "An official checkpoint") if arguments.to_official else (".safetensors", "A weights file")
    if arguments.output.suffix != suffix:
        raise ValueError(f"{kind} ends in {suffix}; rename {arguments.output}.")
    if arguments.origin is not None and not arguments.to_official:
        raise ValueError("--origin goes with --to-official; an official file's format is told by its entries.")
    if not arguments.to_official and not arguments.checkpoint.exists():
        raise FileNotFoundError(f"There is no checkpoint {arguments.checkpoint}.")

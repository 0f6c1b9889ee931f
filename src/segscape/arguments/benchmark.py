"""The arguments of `segscape benchmark`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from segscape.arguments.base import add_device, add_dry_run, add_reporting
from segscape.arguments.values import size
from segscape.checkpoints.shipped import find_weights
from segscape.choices import TIMED_RUNS, WARM_UP_RUNS, Precision, RuntimeName
from segscape.figures import networks

_SIZE = (1024, 2048)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.description = (
        "Time networks here, one image at a time, each in a process of its own: the network alone, with upsampling and "
        "arg-max, and from an image file to a label file. All timed runs count."
    )
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="networks, which get random weights, or weights by name or file"
    ).completes = "networks"  # type: ignore[attr-defined]
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=size,
        metavar="HxW",
        default=[_SIZE],
        help="of the image, height x width (default: 1024x2048)",
    )
    parser.add_argument(
        "--runtimes",
        nargs="+",
        choices=["auto", *get_args(RuntimeName)],
        default=["torch", "auto"],
        help="what computes (default: torch auto)",
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=["auto", *get_args(Precision)],
        default=["auto"],
        help="the numbers to compute with; int8 is calibrated on the shipped street frames (default: auto)",
    )
    add_device(parser)
    parser.add_argument(
        "--repeats", type=int, default=TIMED_RUNS, help="timed runs of each figure (default: %(default)s)"
    )
    parser.add_argument("--warm-up", type=int, default=WARM_UP_RUNS, help="runs before them (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write all results, after every row")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw speed against the mIoU of the weights")
    add_dry_run(parser, "what would be measured")
    add_reporting(parser)


def check(arguments: argparse.Namespace) -> None:
    """Refuse names that are neither networks nor weights.

    Raises:
        FileNotFoundError: There is neither a network nor weights of a name.
    """
    for name in arguments.names:
        if name not in networks():
            find_weights(name)

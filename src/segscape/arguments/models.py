"""The arguments of `segscape models`."""

from __future__ import annotations

import argparse

from segscape.arguments.base import add_reporting
from segscape.arguments.values import count, pixels

SIZE = (1024, 2048)
"""(height, width) of the image for which costs are kept."""

NUM_CLASSES = 19
"""The number of classes for which costs are kept."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.description = "List networks and weights."
    parser.add_argument(
        "pattern", nargs="?", default="*", help="only networks that match, such as 'stdc*'"
    ).completes = "networks"  # type: ignore[attr-defined]
    parser.add_argument(
        "--size",
        type=pixels,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        default=SIZE,
        help="of the image (default: %(default)s)",
    )
    parser.add_argument("--num-classes", type=count, default=NUM_CLASSES, help="(default: %(default)s)")
    add_reporting(parser)

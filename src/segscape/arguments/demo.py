"""The arguments of `segscape demo`."""

from __future__ import annotations

import argparse
from pathlib import Path

from segscape.arguments.base import add_reporting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.description = "Segment the street frames that ship with Segscape, and refine a mask."
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("demo"),
        metavar="FOLDER",
        help="the folder to write to (default: %(default)s)",
    )
    add_reporting(parser)

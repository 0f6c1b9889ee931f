"""The arguments of `segscape doctor`."""

from __future__ import annotations

import argparse

from segscape.arguments.base import add_reporting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.description = (
        "Show what matters for a report of a fault, on one page: versions, devices, extras that are there and that are "
        "missing, the cache, and how fast this machine computes."
    )
    parser.add_argument("--no-speed", action="store_true", help="leave out the measurement of speed, a few seconds")
    add_reporting(parser)

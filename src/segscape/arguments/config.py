"""The arguments of `segscape config`."""

from __future__ import annotations

import argparse

from segscape.arguments.base import add_reporting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.description = "List the configs that ship with Segscape, and show what one of them resolves to."
    actions = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")
    listing = actions.add_parser("list", help="list the configs that ship")
    add_reporting(listing)
    showing = actions.add_parser("show", help="print a config with everything that it builds on")
    showing.add_argument(
        "name", metavar="NAME|FILE", help="such as stdc1_seg/cityscapes, or a file"
    ).completes = "configs"  # type: ignore[attr-defined]
    add_reporting(showing)

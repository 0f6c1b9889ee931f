"""The arguments of `segscape data`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from segscape.arguments.base import add_dry_run, add_reporting
from segscape.figures import figures

PAIRS = "pairs"
"""The name for `--dataset` of a folder of images with the mask of one object each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.description = "Look after data sets."
    commands = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")
    names = figures()["datasets"]
    preparing = commands.add_parser("prepare", help="bring a download into the layout and the labels that are read")
    preparable = sorted({*names, *figures()["pair_preparations"]})
    preparing.add_argument("name", choices=preparable, metavar="NAME", help=", ".join(preparable))
    preparing.add_argument("--source", type=Path, required=True, metavar="FOLDER", help="the unpacked download")
    preparing.add_argument("--root", type=Path, required=True, metavar="FOLDER", help="the folder to write")
    add_dry_run(preparing, "how many files would be written")
    preparing.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: every core)")
    add_reporting(preparing)
    checking = commands.add_parser("check", help="read every file and report counts, sizes, classes and problems")
    checking.add_argument("root", type=Path, metavar="FOLDER", help="the data set's folder")
    checking.add_argument(
        "--dataset", choices=[*names, PAIRS], help="which data set it is (default: told by its layout)"
    )
    add_reporting(checking)

"""The arguments of `segscape cutout`."""

from __future__ import annotations

import argparse
from pathlib import Path

from segscape.arguments.base import add_device, add_dry_run, add_reporting, add_skip_existing, add_weights
from segscape.arguments.inputs import find_all
from segscape.arguments.runtimes import add_runtime, check_runtime
from segscape.arguments.values import pixels
from segscape.checkpoints.shipped import find_weights
from segscape.choices import CUTOUT_WEIGHTS, REFINER_WEIGHTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.description = (
        "Cut out the main object of photographs: <name>_cutout.png is the object on transparency, of the photograph's "
        "own size."
    )
    parser.add_argument(
        "photos",
        nargs="+",
        help="files, folders (searched for images with their subfolders), globs, or - for a list of files on standard "
        "input",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="the folder to write to")
    parser.add_argument(
        "--background",
        metavar="COLOUR|PICTURE",
        help="put the object on a colour, such as white or '#ff8800', or on a picture, which is cropped to fit",
    )
    parser.add_argument("--mask", action="store_true", help="also write <name>_mask.png, the opacity from 0 to 255")
    add_weights(parser, CUTOUT_WEIGHTS)
    add_dry_run(parser, "which files would be written")
    add_skip_existing(parser)
    add_device(parser)
    add_runtime(parser)
    refining = parser.add_argument_group("refinement")
    refining.add_argument("--no-refine", action="store_true", help="write the mask of the first network as it is")
    refining.add_argument(
        "--refine-weights", metavar="NAME|FILE", help=f"a name or a weights file (default: {REFINER_WEIGHTS})"
    ).completes = "weights"  # type: ignore[attr-defined]
    refining.add_argument(
        "--band",
        type=pixels,
        metavar="PIXELS",
        help="refine only so near to the mask's edge (default: a 32nd of the photograph's shorter side)",
    )
    add_reporting(parser)


def check(arguments: argparse.Namespace) -> None:
    """Refuse arguments that contradict each other, or weights and photographs that are not there.

    The files that are found become `arguments.found`, each with its place below the output folder.

    Raises:
        FileNotFoundError: There are no such weights, or an input matches nothing.
        ValueError: Two arguments contradict each other.
    """
    if arguments.no_refine and (arguments.refine_weights or arguments.band):
        raise ValueError("--refine-weights and --band are for refinement, which --no-refine leaves out.")
    check_runtime(arguments)
    find_weights(arguments.weights)
    if arguments.refine_weights:
        find_weights(arguments.refine_weights, task="refinement")
    arguments.found = find_all(arguments.photos, arguments.output)

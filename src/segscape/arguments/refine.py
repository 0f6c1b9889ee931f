"""The arguments of `segscape refine`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from segscape.arguments.base import add_device, add_dry_run, add_reporting, add_skip_existing, add_weights
from segscape.arguments.values import bands, memory, pixels, scaling
from segscape.checkpoints.shipped import find_weights
from segscape.choices import CLASS_BAND, REFINER_WEIGHTS, RefinerPrecision


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.description = "Make coarse masks, or every class of class maps, follow the image's edges."
    parser.add_argument("image", help="an image, a folder, or a quoted glob")
    parser.add_argument(
        "mask", nargs="?", help="its coarse mask; a folder or glob is matched with the images by file name"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE|FOLDER",
        help="the file to write (.png or .tif), or a folder (default, for one pair: <image>_refined beside the image)",
    )
    add_weights(parser, REFINER_WEIGHTS)
    add_dry_run(parser, "which files would be written")
    add_skip_existing(parser)
    parser.add_argument(
        "--steps", type=int, choices=range(1, 5), default=4, help="stages, from coarse to fine (default: %(default)s)"
    )
    parser.add_argument(
        "--band",
        type=pixels,
        metavar="PIXELS",
        help=f"refine only so near to the mask's edge (default: everywhere, in class maps {CLASS_BAND})",
    )
    parser.add_argument("--bands", type=bands, metavar="R,G,B", help="of the image, from 1, such as 4,3,2 or 1")
    parser.add_argument(
        "--scaling",
        type=scaling,
        metavar="LOW,HIGH",
        help="the image's values that become black and white, or `common` for those that suit all",
    )
    parser.add_argument("--max-memory", type=memory, metavar="AMOUNT", help="such as 2GB, 1500MB or 4GiB")
    parser.add_argument(
        "--precision", choices=get_args(RefinerPrecision), default="fp32", help="(default: %(default)s)"
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--binary", action="store_true", help="write 0 and 255 instead of a soft mask")
    kinds.add_argument("--classes", action="store_true", help="take grey masks for class maps")
    parser.add_argument("--alpha", action="store_true", help="also write <image>_alpha.png, the object cut out")
    parser.add_argument(
        "--layout",
        choices=("big",),
        help="IMAGE is a folder of <name>_im.* and <name>_seg.* files, as of the data set BIG; --output gets the files "
        "that CRM's own script leaves",
    )
    parser.add_argument("--stages", action="store_true", help="with --layout big: write the masks of every stage")
    add_device(parser)
    add_reporting(parser)


def check(arguments: argparse.Namespace) -> None:
    """Refuse arguments that contradict each other, or weights that are not there.

    Raises:
        FileNotFoundError: There are no such weights.
        ValueError: Two arguments contradict each other, or one is missing.
    """
    if arguments.layout is not None:
        _check_big(arguments)
    elif arguments.stages:
        raise ValueError("--stages goes with --layout big.")
    elif arguments.mask is None:
        raise ValueError(f"Name the coarse mask after the image: segscape refine {arguments.image} MASK.")
    elif arguments.classes and arguments.alpha:
        raise ValueError("--alpha cuts out one object; it does not go with --classes.")
    find_weights(arguments.weights, task="refinement")


def _check_big(arguments: argparse.Namespace) -> None:
    if arguments.mask is not None or arguments.output is None:
        raise ValueError("--layout big takes one folder, and another as --output.")
    defaults = {"steps": 4, "band": None, "bands": None, "scaling": None}
    defaults |= dict.fromkeys(("binary", "classes", "alpha", "dry_run", "skip_existing"), False)
    strange = [f"--{name.replace('_', '-')}" for name, value in defaults.items() if getattr(arguments, name) != value]
    if strange:
        raise ValueError(f"{strange[0]} does not go with --layout big, which does what the authors' script does.")

"""The arguments of `segscape segment`."""

from __future__ import annotations

import argparse
from pathlib import Path

from segscape.arguments.base import add_device, add_dry_run, add_reporting, add_skip_existing, add_weights
from segscape.arguments.inputs import find_all
from segscape.arguments.runtimes import add_runtime, check_runtime
from segscape.arguments.values import bands, memory, numbers, pixels, scaling
from segscape.checkpoints.shipped import find_weights
from segscape.choices import CLASS_BAND, REFINER_WEIGHTS, STREET_WEIGHTS
from segscape.rasters.suffixes import VIDEO_SUFFIXES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.description = (
        "Segment images of any size, and write a label map with its colours for each: GeoTIFF for TIFF and other "
        "rasters, PNG for photographs, a video for a video. A large scene that was interrupted goes on when the same "
        "command is given again."
    )
    parser.add_argument(
        "images",
        nargs="+",
        help="files, folders (searched for images with their subfolders), globs, or - for a list of files on standard "
        "input",
    )
    add_weights(parser, STREET_WEIGHTS)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="the folder to write to")
    add_device(parser)
    add_dry_run(parser, "how each image would be segmented")
    add_skip_existing(parser)
    _add_sizes(parser)
    add_runtime(parser)
    _add_outputs(parser)
    _add_scenes(parser)
    _add_engine(parser)
    refining = parser.add_argument_group("refinement")
    refining.add_argument("--refine", action="store_true", help="make every class follow the image's edges afterwards")
    refining.add_argument(
        "--refine-weights", metavar="NAME|FILE", help=f"a name or a weights file (default: {REFINER_WEIGHTS})"
    ).completes = "weights"  # type: ignore[attr-defined]
    refining.add_argument(
        "--band", type=pixels, metavar="PIXELS", help=f"refine only so near to a class's edge (default: {CLASS_BAND})"
    )
    add_reporting(parser)


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("size at which the network sees")
    group.add_argument(
        "--working-size",
        type=pixels,
        metavar="PIXELS",
        help="the shorter side to which photographs and videos are brought; results keep their own size (default: what "
        "the weights state)",
    )
    group.add_argument(
        "--full-size", action="store_true", help="see photographs, videos and rasters as they are, whatever is stated"
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("further files")
    group.add_argument(
        "--overlay",
        action="store_true",
        help="also write <name>_overlay.jpg, the image in class colours; of large scenes reduced",
    )
    group.add_argument(
        "--confidence",
        action="store_true",
        help="also write <name>_confidence, 255 times the probability of the label",
    )
    group.add_argument(
        "--scores",
        action="store_true",
        help="also write <name>_scores.tif, 255 times the probability of every class, a band each",
    )
    group.add_argument("--polygons", choices=["gpkg", "geojson"], help="also write the classes' areas as polygons")
    group.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        metavar="UNITS",
        help="simplify polygons by so much, in units of the coordinate reference system (default: not at all)",
    )


def _add_scenes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("images of any size")
    group.add_argument(
        "--max-memory", type=memory, metavar="AMOUNT", help="such as 2GB or 4GiB (default: half of what is free)"
    )
    group.add_argument(
        "--context",
        choices=["scene", "window"],
        help="what a network's global means are taken of: the whole image, however large, or windows of the training "
        "crops' size (default: the whole of photographs; windows of other rasters, where a network takes such means)",
    )
    group.add_argument("--bands", type=bands, metavar="R,G,B", help="of a raster, from 1, such as 4,3,2 or 1")
    group.add_argument(
        "--scaling",
        type=scaling,
        metavar="LOW,HIGH",
        help="the values that become black and white, such as 0,3000, or `common` for those that suit all images "
        "together (default: for images that are not of 8 bits, those that suit each)",
    )
    group.add_argument(
        "--nodata",
        type=float,
        metavar="VALUE",
        help="pixels of this value in every band hold no data: no class there",
    )
    group.add_argument(
        "--scales", type=numbers, default=(1.0,), metavar="S,S", help="average over the image at these scales"
    )
    group.add_argument("--flip", action="store_true", help="average over the image and its mirror image")


def _add_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("many machines")
    group.add_argument(
        "--engine", choices=["local", "ray"], default="local", help="where to compute: in this process, or with Ray"
    )
    group.add_argument(
        "--address", help="of a Ray cluster, such as auto or host:6379 (default: a Ray of this machine is started)"
    )


def check(arguments: argparse.Namespace) -> None:
    """Refuse arguments that contradict each other, or weights and images that are not there.

    The images that are found become `arguments.found`, each with its place below the output folder.

    Raises:
        FileNotFoundError: There are no such weights, or an input matches nothing.
        ValueError: Two arguments contradict each other, or one does not apply to a video.
    """
    if arguments.full_size and arguments.working_size:
        raise ValueError("--full-size and --working-size contradict each other; leave out one of them.")
    if not arguments.refine and (arguments.refine_weights or arguments.band):
        raise ValueError("--refine-weights and --band are for --refine, which is missing.")
    if arguments.address and arguments.engine != "ray":
        raise ValueError("--address is for --engine ray, which is missing.")
    if arguments.tolerance and not arguments.polygons:
        raise ValueError("--tolerance is for --polygons, which is missing.")
    if not arguments.tolerance >= 0:
        raise ValueError(f"--tolerance is a length and cannot be {arguments.tolerance:g}.")
    check_runtime(arguments)
    find_weights(arguments.weights)
    if arguments.refine_weights:
        find_weights(arguments.refine_weights, task="refinement")
    arguments.found = find_all(arguments.images, arguments.output)
    for image in arguments.found:
        if image.suffix.lower() in VIDEO_SUFFIXES:
            _refuse_for_video(image, arguments)


def _refuse_for_video(video: Path, arguments: argparse.Namespace) -> None:
    """Refuse what is for images only.

    Raises:
        ValueError: The message names the arguments.
    """
    options = (
        "confidence",
        "scores",
        "polygons",
        "bands",
        "scaling",
        "flip",
        "context",
        "refine",
        "dry_run",
        "address",
    )
    given = [f"--{name.replace('_', '-')}" for name in options if getattr(arguments, name)]
    given += ["--scales"] if arguments.scales != (1.0,) else []
    given += ["--engine ray"] if arguments.engine == "ray" else []
    if given:
        raise ValueError(f"{video} is a video, and {', '.join(given)} is for images only; leave out one of them.")

"""The arguments that choose the runtime: `--runtime`, `--precision` and `--calibration`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from segscape.cli.jobs.files import find_images, names_many
from segscape.runtime.create import RUNTIME_NAMES
from segscape.segmentation.segmenter import Segmenter


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to those of a command."""
    group = parser.add_argument_group("speed")
    group.add_argument(
        "--runtime",
        choices=["auto", *RUNTIME_NAMES],
        default="torch",
        help="what computes: auto tries what is installed once, and takes the fastest that gives the right result "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--precision",
        choices=["auto", "fp32", "bf16", "fp16", "int8"],
        default="auto",
        help="the numbers to compute with (default: fp32, but with --runtime auto bf16 where the processor has it and "
        "99.5%% of the labels stay the same)",
    )
    group.add_argument(
        "--calibration",
        metavar="FOLDER",
        help="images that show --precision int8 the range of the network's layers (default: the photographs to be "
        "segmented)",
    )


def calibration_images(arguments: argparse.Namespace, photographs: Sequence[Path]) -> list[Path]:
    """Return the images that int8 is calibrated on; none for other precisions.

    Args:
        arguments: As the parser returns them.
        photographs: The photographs to segment, which are the default.

    Raises:
        FileNotFoundError: The folder holds no image.
        ValueError: Images are given for another precision than int8.
    """
    if arguments.precision != "int8":
        if arguments.calibration:
            raise ValueError("--calibration is for --precision int8, which is missing.")
        return []
    if not arguments.calibration:
        return list(photographs)
    if not (names_many(arguments.calibration) or Path(arguments.calibration).exists()):
        raise FileNotFoundError(f"There are no images {arguments.calibration} for --calibration.")
    return [image for image, _ in find_images(arguments.calibration, None)]


def print_choice(segmenter: Segmenter, console: Console) -> None:
    """Print the choice of `--runtime auto`, its reason, and the time or the fault of the others."""
    if segmenter.choice is not None:
        console.print(f"runtime: {segmenter.choice}")
        for line in segmenter.choice.others:
            console.print(f"  not {line}")

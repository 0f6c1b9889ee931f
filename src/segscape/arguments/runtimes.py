"""The arguments that choose the runtime: `--runtime`, `--precision` and `--calibration`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from segscape.arguments.inputs import names_many
from segscape.choices import Precision, RuntimeName


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to those of a command."""
    group = parser.add_argument_group("speed")
    group.add_argument(
        "--runtime",
        choices=["auto", *get_args(RuntimeName)],
        default="torch",
        help="what computes: auto tries what is installed once, and takes the fastest that gives the right result "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--precision",
        choices=["auto", *get_args(Precision)],
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


def check_runtime(arguments: argparse.Namespace) -> None:
    """Refuse images for a calibration that is not wanted, or that are not there.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: They are given for another precision than int8.
    """
    if not arguments.calibration:
        return
    if arguments.precision != "int8":
        raise ValueError("--calibration is for --precision int8, which is missing.")
    if not (names_many(arguments.calibration) or Path(arguments.calibration).exists()):
        raise FileNotFoundError(f"There are no images {arguments.calibration} for --calibration.")

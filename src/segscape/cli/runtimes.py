"""What the arguments on the runtime stand for: the images of a calibration, and what `auto` has chosen."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from segscape.arguments.inputs import find_images
from segscape.segmentation.segmenter import Segmenter


def calibration_images(arguments: argparse.Namespace, photographs: Sequence[Path]) -> list[Path]:
    """Return the images that int8 is calibrated on; none for other precisions.

    Args:
        arguments: As the parser returns them.
        photographs: The photographs to segment, which are the default.

    Raises:
        FileNotFoundError: The folder holds no image.
    """
    if arguments.precision != "int8":
        return []
    if not arguments.calibration:
        return list(photographs)
    return [image for image, _ in find_images(arguments.calibration, None)]


def print_choice(segmenter: Segmenter, console: Console) -> None:
    """Print the choice of `--runtime auto`, its reason, and the time or the fault of the others."""
    if segmenter.choice is not None:
        console.print(f"runtime: {segmenter.choice}")
        for line in segmenter.choice.others:
            console.print(f"  not {line}")

"""The arguments of `segscape export-weights`."""

from __future__ import annotations

import argparse
from pathlib import Path

from segscape.arguments.base import add_dry_run, add_reporting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.description = "Write a checkpoint of `segscape fit` as a weights file, for all commands that take weights."
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="RUN|CHECKPOINT",
        help="a run's folder, whose last checkpoint is taken, or one of the files in its checkpoints/",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the weights file to write (.safetensors)"
    )
    add_dry_run(parser, "what would be written")
    add_reporting(parser)


def check(arguments: argparse.Namespace) -> None:
    """Refuse a checkpoint that is not there, and an output with the wrong suffix.

    Raises:
        FileNotFoundError: There is no such checkpoint, or the folder is no run.
        ValueError: The output does not end in `.safetensors`.
    """
    if arguments.output.suffix != ".safetensors":
        raise ValueError(f"A weights file ends in .safetensors; rename {arguments.output}.")
    if arguments.checkpoint.is_dir():
        folder, arguments.checkpoint = arguments.checkpoint, arguments.checkpoint / "checkpoints" / "last.ckpt"
        if not arguments.checkpoint.is_file():
            raise FileNotFoundError(f"{folder} is no run of `segscape fit`: it has no checkpoints/last.ckpt.")
    elif not arguments.checkpoint.exists():
        raise FileNotFoundError(f"There is no checkpoint {arguments.checkpoint}.")

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
        help="a run's folder, or one of the files in its checkpoints/",
    )
    parser.add_argument(
        "--which",
        metavar="NAME",
        help="of a run's checkpoints, such as best, last or step-2000; without it last (a mistyped name lists them)",
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
        ValueError: The output does not end in `.safetensors`, or --which is given for a file.
    """
    if arguments.output.suffix != ".safetensors":
        raise ValueError(f"A weights file ends in .safetensors; rename {arguments.output}.")
    given: Path = arguments.checkpoint
    if given.is_dir():
        arguments.checkpoint = given / "checkpoints" / f"{arguments.which or 'last'}.ckpt"
        kept = sorted(path.stem for path in (given / "checkpoints").glob("*.ckpt"))
        if "last" not in kept and not arguments.checkpoint.is_file():
            raise FileNotFoundError(f"{given} is no run of `segscape fit`: it has no checkpoints/last.ckpt.")
        if not arguments.checkpoint.is_file():
            raise FileNotFoundError(f"{given} has kept no checkpoint {arguments.which}; it has {', '.join(kept)}.")
    elif arguments.which is not None:
        raise ValueError(f"--which is for a run's folder, and {given} is none.")
    elif not given.exists():
        raise FileNotFoundError(f"There is no checkpoint {arguments.checkpoint}.")

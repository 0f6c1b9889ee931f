"""What can be typed: the arguments of every command, checked before PyTorch, or anything else that is large, is loaded.

One module a command: `add_arguments` tells argparse, `check` refuses what contradicts itself or cannot be found. What
the commands then do is in `segscape.cli.commands`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from segscape import __version__
from segscape.arguments import (
    benchmark,
    completion,
    config,
    convert,
    cutout,
    data,
    demo,
    doctor,
    export,
    export_weights,
    models,
    refine,
    segment,
    training,
)
from segscape.arguments.base import USAGE_ERROR, Parser
from segscape.arguments.usage import UsageAction


class Command(NamedTuple):
    """A command of `segscape`.

    Attributes:
        help: What it does, in a line.
        add_arguments: Adds its arguments to a parser.
        check: Refuses arguments that cannot be, by a ValueError or OSError.
        module: The module whose function `run` carries it out.
    """

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    check: Callable[[argparse.Namespace], None]
    module: str


def _nothing(_: argparse.Namespace) -> None:
    """Check nothing: argparse has seen all that can be wrong."""


COMMANDS = {
    "segment": Command("segment images and videos", segment.add_arguments, segment.check, "segment"),
    "refine": Command("make coarse masks and class maps sharp", refine.add_arguments, refine.check, "refine"),
    "cutout": Command(
        "cut out the main object of photographs and videos", cutout.add_arguments, cutout.check, "cutout"
    ),
    "demo": Command(
        "segment the street frames that ship with the package, and refine a mask", demo.add_arguments, _nothing, "demo"
    ),
    "models": Command("list networks and weights", models.add_arguments, _nothing, "models"),
    "convert": Command(
        "convert an authors' checkpoint to a weights file, and back", convert.add_arguments, convert.check, "convert"
    ),
    "export-weights": Command(
        "write any checkpoint of a run as a weights file",
        export_weights.add_arguments,
        export_weights.check,
        "export_weights",
    ),
    "export": Command(
        "write a network as an ONNX, OpenVINO or PyTorch file", export.add_arguments, export.check, "export"
    ),
    "benchmark": Command(
        "time networks and runtimes on this machine", benchmark.add_arguments, benchmark.check, "benchmark"
    ),
    "data": Command("prepare and check data sets", data.add_arguments, _nothing, "data"),
    "config": Command("list and show configs", config.add_arguments, _nothing, "config"),
    "fit": Command("train a network", training.add_fit, training.check, "train"),
    "validate": Command("measure a network on the validation split", training.add_validate, training.check, "train"),
    "test": Command("measure a network on the test split", training.add_test, training.check, "train"),
    "predict": Command(
        "write predicted labels of a split as its data set has them", training.add_predict, training.check, "train"
    ),
    "doctor": Command(
        "show versions, devices, extras and this machine's speed", doctor.add_arguments, _nothing, "doctor"
    ),
    "completion": Command("print the completion script of a shell", completion.add_arguments, _nothing, "completion"),
}


def whole_parser(only: str | None = None) -> Parser:
    """Return the parser of the command line.

    Args:
        only: The command whose arguments are added, or none of this name; by default those of all.
    """
    parser = Parser(
        prog="segscape",
        description="Semantic segmentation of high-resolution images.",
        epilog="`segscape COMMAND --help` tells a command's arguments.",
    )
    parser.add_argument("--version", action="version", version=f"segscape {__version__}")
    parser.add_argument("--json-usage", action=UsageAction, help="print all commands and arguments as JSON, and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        added = commands.add_parser(name, help=command.help)
        if only in (None, name):
            command.add_arguments(added)
    return parser


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Parse the words after `segscape`.

    Returns:
        The arguments, with the command's name as `command`; those of training commands hold the settings as words.

    Raises:
        SystemExit: Help was printed (0), or the words are wrong, which was said (2).
    """
    if not words:
        whole_parser("").print_help(sys.stderr)
        raise SystemExit(USAGE_ERROR)
    name = words[0]
    if name in training.COMMANDS and not {"-h", "--help"} & set(words[1:]):
        return training.parse(words)
    # Without a known command all of it is needed, for the usage as JSON.
    return whole_parser(name if name in COMMANDS else None).parse_args(words)

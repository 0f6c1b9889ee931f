"""`segscape convert`: an official checkpoint as a weights file, and back."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch

from segscape.checkpoints.convert import official_formats, to_official
from segscape.checkpoints.convert.file import read_official
from segscape.checkpoints.convert.official import Which
from segscape.checkpoints.store import find_weights, read_leftovers, read_weights, write_weights
from segscape.cli.console import PlainConsole
from segscape.data.datasets import find_dataset
from segscape.files import write_from_memory
from segscape.labels.file import read_label_file
from segscape.registry import model_entry

_log = logging.getLogger(__name__)


def main(words: list[str]) -> int:
    """Run `segscape convert`."""
    arguments = _parser().parse_args(words[1:])
    console = PlainConsole()
    written = _write_official(arguments) if arguments.to_official else _write_ours(arguments)
    console.print(f"{written} entries written to {arguments.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="segscape convert",
        description="Convert a checkpoint of the network's authors to a weights file, or a weights file back.",
    )
    parser.add_argument("name", help="the network, one of `segscape models`")
    parser.add_argument("checkpoint", type=Path, help="the official file (.pth, .pt, .tar, .safetensors) to convert")
    parser.add_argument("output", type=Path, help="the weights file to write (.safetensors)")
    parser.add_argument("--num-classes", type=int, help="the number of classes (default: what the checkpoint says)")
    parser.add_argument("--labels", help="the data set, or the labels.yaml, whose class names and colours it has")
    parser.add_argument(
        "--which",
        choices=get_args(Which),
        default="averaged",
        help="of a checkpoint that holds averaged weights beside the raw ones (default: %(default)s)",
    )
    parser.add_argument(
        "--to-official",
        action="store_true",
        help="the other way: CHECKPOINT is a weights file, OUTPUT the official one (.pth)",
    )
    parser.add_argument(
        "--origin", help="with --to-official: the code base whose names are wanted (default: where it came from)"
    )
    return parser


def _write_ours(arguments: argparse.Namespace) -> int:
    if arguments.output.suffix != ".safetensors":
        raise ValueError(f"A weights file ends in .safetensors; rename {arguments.output}.")
    if arguments.origin is not None:
        raise ValueError("--origin goes with --to-official; an official file's format is told by its entries.")
    official = read_official(arguments.checkpoint, arguments.name, arguments.num_classes, which=arguments.which)
    card = official.card
    if arguments.labels is not None and model_entry(arguments.name).task != "refinement":
        card = replace(card, **_classes(arguments.labels, card.num_classes))
    write_weights(arguments.output, card, official.state, leftovers=official.leftovers)
    return len(official.state)


def _write_official(arguments: argparse.Namespace) -> int:
    if arguments.output.suffix != ".pth":
        raise ValueError(f"An official checkpoint ends in .pth; rename {arguments.output}.")
    path = find_weights(arguments.checkpoint)
    card, state = read_weights(path)
    if card.network != arguments.name:
        raise ValueError(f"{path} holds weights of {card.network}, not of {arguments.name}.")
    origin = arguments.origin or card.origin or official_formats(card.network)[0].origin
    # The kept entries have the names of the format that they came from, and fit no other.
    kept = read_leftovers(path) if origin == card.origin else {}
    official = to_official(card.network, state, origin=origin, kept=kept)
    with torch.device("meta"):
        complete = model_entry(card.network).create(card.num_classes).state_dict()
    if absent := complete.keys() - state.keys():
        _log.warning(
            "%s lacks %d entries of heads that only training uses, such as %s; so does the official file.",
            path,
            len(absent),
            min(absent),
        )
    wrapper = next(known.wrapper for known in official_formats(card.network) if known.origin == origin)
    write_from_memory(arguments.output, partial(torch.save, {wrapper: official} if wrapper else official))
    return len(official)


def _classes(labels: str, num_classes: int) -> dict[str, Any]:
    """Return a card's class names and colours, those of a data set or of a labels.yaml."""
    is_file = labels.endswith((".yaml", ".yml"))
    spec = read_label_file(Path(labels)) if is_file else find_dataset(labels).spec(Path())
    if spec.num_classes != num_classes:
        raise ValueError(f"{spec.name} has {spec.num_classes} classes, not {num_classes}; change --labels.")
    return {"class_names": spec.class_names, "palette": spec.palette}

"""`segscape convert`: an official checkpoint as a weights file, and back."""

from __future__ import annotations

import argparse
import colorsys
import logging
from pathlib import Path

import torch
from rich.console import Console

from segscape.checkpoints.card import FOREGROUND, WeightsCard
from segscape.checkpoints.convert import (
    convert_checkpoint,
    detect_format,
    leftovers,
    num_classes_of,
    official_formats,
    to_official,
)
from segscape.checkpoints.read import read_state_dict
from segscape.checkpoints.store import find_weights, read_leftovers, read_weights, write_weights
from segscape.data.datasets import find_dataset
from segscape.files import atomic_path
from segscape.labels.file import read_label_file
from segscape.normalisation import Normalisation
from segscape.registry import model_entry

_log = logging.getLogger(__name__)


def main(words: list[str]) -> int:
    """Run `segscape convert`."""
    arguments = _parser().parse_args(words[1:])
    console = Console(soft_wrap=True, highlight=False)
    written = _write_official(arguments) if arguments.to_official else _write_ours(arguments)
    console.print(f"{written} entries written to {arguments.output}", markup=False)
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
    official = read_state_dict(arguments.checkpoint)
    try:
        origin = detect_format(arguments.name, official).origin
        state = convert_checkpoint(arguments.name, official, arguments.num_classes)
        kept = leftovers(arguments.name, official, state)
    except ValueError as error:
        raise ValueError(f"{arguments.checkpoint}: {error}") from None
    if model_entry(arguments.name).task == "refinement":
        classes = FOREGROUND
    else:
        names, palette = _classes(arguments.labels, num_classes_of(arguments.name, state))
        classes = {"class_names": names, "palette": palette}
    card = WeightsCard(
        network=arguments.name,
        normalisation=Normalisation(),
        training=f"converted from {arguments.checkpoint.name}",
        licence="that of the converted checkpoint",
        origin=origin,
        **classes,
    )
    write_weights(arguments.output, card, state, leftovers=kept)
    return len(state)


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
    with atomic_path(arguments.output) as temporary:
        torch.save({wrapper: official} if wrapper else official, temporary)
    return len(official)


def _classes(labels: str | None, num_classes: int) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    if labels is None:
        return _unnamed(num_classes)
    is_file = labels.endswith((".yaml", ".yml"))
    spec = read_label_file(Path(labels)) if is_file else find_dataset(labels).spec(Path())
    if spec.num_classes != num_classes:
        raise ValueError(f"{spec.name} has {spec.num_classes} classes, not {num_classes}; change --labels.")
    return spec.class_names, spec.palette


def _unnamed(num_classes: int) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    """Return numbered names, and colours as far apart as their number allows."""
    names = tuple(f"class {index}" for index in range(num_classes))
    # Steps of the golden ratio around the circle of hues keep neighbours apart.
    hues = [(index * 0.618034) % 1 for index in range(num_classes)]
    colours = [colorsys.hsv_to_rgb(hue, 0.75, 0.95 - 0.3 * (index % 2)) for index, hue in enumerate(hues)]
    return names, tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in colours)

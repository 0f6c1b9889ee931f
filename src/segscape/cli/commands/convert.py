"""`segscape convert`: an official checkpoint as a weights file, and back."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from segscape.checkpoints.convert import official_formats, to_official
from segscape.checkpoints.convert.file import read_official
from segscape.checkpoints.shipped import find_weights
from segscape.checkpoints.store import read_leftovers, read_weights, write_weights
from segscape.cli.output import Output
from segscape.data.datasets import find_dataset
from segscape.files import write_from_memory
from segscape.labels.file import read_label_file
from segscape.registry import model_entry

_log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace) -> int:
    """Run `segscape convert`."""
    output = Output(arguments)
    count = _write_official(arguments) if arguments.to_official else _write_ours(arguments)
    if arguments.dry_run:
        output.console.print(f"{count} entries would be written to {arguments.output}")
    else:
        output.console.print(f"{count} entries written to {arguments.output}")
    output.record("weights", network=arguments.name, output=arguments.output, entries=count, dry_run=arguments.dry_run)
    return 0


def _write_ours(arguments: argparse.Namespace) -> int:
    """Write a weights file from an official checkpoint, and return its number of entries."""
    official = read_official(arguments.checkpoint, arguments.name, arguments.num_classes, which=arguments.which)
    card = official.card
    if arguments.labels is not None and model_entry(arguments.name).task != "refinement":
        card = replace(card, **_classes(arguments.labels, card.num_classes))
    if not arguments.dry_run:
        write_weights(arguments.output, card, official.state, leftovers=official.leftovers)
    return len(official.state)


def _write_official(arguments: argparse.Namespace) -> int:
    """Write an official checkpoint from a weights file, and return its number of entries."""
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
    if not arguments.dry_run:
        write_from_memory(arguments.output, partial(torch.save, {wrapper: official} if wrapper else official))
    return len(official)


def _classes(labels: str, num_classes: int) -> dict[str, Any]:
    """Return a card's class names and colours, those of a data set or of a labels.yaml."""
    is_file = labels.endswith((".yaml", ".yml"))
    spec = read_label_file(Path(labels)) if is_file else find_dataset(labels).spec(Path())
    if spec.num_classes != num_classes:
        raise ValueError(f"{spec.name} has {spec.num_classes} classes, not {num_classes}; change --labels.")
    return {"class_names": spec.class_names, "palette": spec.palette}

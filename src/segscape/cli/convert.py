"""`segscape convert`: an official checkpoint as a weights file."""

from __future__ import annotations

import argparse
import colorsys
from pathlib import Path

from rich.console import Console

from segscape.checkpoints.card import WeightsCard
from segscape.checkpoints.convert import convert_checkpoint
from segscape.checkpoints.read import read_state_dict
from segscape.checkpoints.store import write_weights
from segscape.data.datasets import DATASETS
from segscape.normalisation import Normalisation


def main(words: list[str]) -> int:
    """Run `segscape convert`."""
    parser = argparse.ArgumentParser(
        prog="segscape convert", description="Convert a checkpoint of the network's authors to a weights file."
    )
    parser.add_argument("name", help="the network, one of `segscape models`")
    parser.add_argument("checkpoint", type=Path, help="the official file (.pth, .pt, .tar, .safetensors)")
    parser.add_argument("output", type=Path, help="the weights file to write (.safetensors)")
    parser.add_argument("--num-classes", type=int, required=True, help="the number of classes it was trained for")
    parser.add_argument("--labels", choices=sorted(DATASETS), help="the data set whose class names and colours it has")
    arguments = parser.parse_args(words[1:])
    if arguments.output.suffix != ".safetensors":
        raise ValueError(f"A weights file ends in .safetensors; rename {arguments.output}.")
    spec = DATASETS[arguments.labels].label_spec if arguments.labels else None
    if spec is not None and spec.num_classes != arguments.num_classes:
        raise ValueError(f"{spec.name} has {spec.num_classes} classes, not {arguments.num_classes}; change --labels.")

    try:
        state = convert_checkpoint(arguments.name, read_state_dict(arguments.checkpoint), arguments.num_classes)
    except ValueError as error:
        raise ValueError(f"{arguments.checkpoint}: {error}") from None
    names, palette = (spec.class_names, spec.palette) if spec else _unnamed(arguments.num_classes)
    card = WeightsCard(
        network=arguments.name,
        class_names=names,
        palette=palette,
        normalisation=Normalisation(),
        training=f"converted from {arguments.checkpoint.name}",
        licence="that of the converted checkpoint",
    )
    write_weights(arguments.output, card, state)
    Console(soft_wrap=True, highlight=False).print(f"{len(state)} entries written to {arguments.output}")
    return 0


def _unnamed(num_classes: int) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    """Numbers for names, and colours as far apart as their number allows."""
    names = tuple(f"class {index}" for index in range(num_classes))
    # Steps of the golden ratio around the circle of hues keep neighbours apart.
    hues = [(index * 0.618034) % 1 for index in range(num_classes)]
    colours = [colorsys.hsv_to_rgb(hue, 0.75, 0.95 - 0.3 * (index % 2)) for index, hue in enumerate(hues)]
    return names, tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in colours)

"""An official checkpoint file with a card, as if it were a weights file."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from segscape.checkpoints.card import CHECKPOINT_KEY, FOREGROUND, WeightsCard
from segscape.checkpoints.convert import convert_checkpoint, detect_format, leftovers, num_classes_of
from segscape.checkpoints.read import read_state_dict
from segscape.checkpoints.shipped import find_weights
from segscape.checkpoints.store import check_finite, read_weights
from segscape.choices import Which
from segscape.normalisation import Normalisation
from segscape.registry import model_entry


class OfficialFile(NamedTuple):
    """The contents of an official checkpoint.

    Attributes:
        card: Says the network and where the file came from; the classes are numbered.
        state: Our state dict.
        leftovers: The official entries that must be kept to get the file back, see `write_weights`.
    """

    card: WeightsCard
    state: dict[str, Tensor]
    leftovers: dict[str, Tensor]


def read_official(path: Path, name: str, num_classes: int | None = None, *, which: Which = "averaged") -> OfficialFile:
    """Read an official checkpoint of network `name`.

    Args:
        path: The file, in any form that `convert_checkpoint` knows.
        name: A registered network.
        num_classes: K; by default what the checkpoint says.
        which: The weights to take where it holds averaged ones beside the raw ones.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged or not of this network; the message names the file.
    """
    official = read_state_dict(path)
    if CHECKPOINT_KEY in official:
        raise ValueError(
            f"{path} is a checkpoint of `segscape fit`; `segscape export-weights` makes a weights file of it."
        )
    try:
        origin = detect_format(name, official, which).origin
        state = convert_checkpoint(name, official, num_classes, which=which)
        kept = leftovers(name, official, state, which=which)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    check_finite(path, state)
    is_refiner = model_entry(name).task == "refinement"
    card = WeightsCard(
        network=name,
        normalisation=Normalisation(),
        training=f"converted from {path.name}",
        licence="that of the converted checkpoint",
        origin=origin,
        **(FOREGROUND if is_refiner else numbered_classes(num_classes_of(name, state))),
    )
    return OfficialFile(card, state, kept)


def read_weights_of(name: str, weights: str | Path) -> tuple[WeightsCard, dict[str, Tensor]]:
    """Read weights of network `name`: a weights file, or an official checkpoint, which is converted in memory.

    Args:
        name: A registered network.
        weights: A name of `list_weights()`, a weights file (`.safetensors`), or an official checkpoint.

    Raises:
        FileNotFoundError: There are no such weights.
        ValueError: The file is damaged, or of another network.
    """
    path = find_weights(weights)
    if path.suffix != ".safetensors":
        official = read_official(path, name)
        return official.card, official.state
    card, state = read_weights(path)
    if card.network != name:
        raise ValueError(f"{path} holds weights of {card.network}, not of {name}.")
    return card, state


def numbered_classes(num_classes: int) -> dict[str, Any]:
    """Return a card's numbered class names, and colours as far apart as their number allows."""
    # Steps of the golden ratio around the circle of hues keep neighbours apart.
    hues = [(index * 0.618034) % 1 for index in range(num_classes)]
    colours = [colorsys.hsv_to_rgb(hue, 0.75, 0.95 - 0.3 * (index % 2)) for index, hue in enumerate(hues)]
    return {
        "class_names": tuple(f"class {index}" for index in range(num_classes)),
        "palette": tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in colours),
    }

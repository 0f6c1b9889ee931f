"""The weights file of any checkpoint of a run: each checkpoint holds the card that belongs to its weights."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from segscape.checkpoints.card import CHECKPOINT_KEY, WeightsCard
from segscape.checkpoints.read import read_state_dict
from segscape.checkpoints.store import create_model, inference_state, load_inference_state, write_weights
from segscape.networks import SegmentationNetwork

_NETWORK = "network."


def put_card(checkpoint: dict[str, Any], card: WeightsCard) -> None:
    """Store a card in a checkpoint that is about to be saved."""
    checkpoint[CHECKPOINT_KEY] = card.to_json()


def card_of(checkpoint: Path) -> WeightsCard | None:
    """Return the card in a checkpoint of a run, or None in one of an earlier version.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: It is damaged.
    """
    text = read_state_dict(checkpoint).get(CHECKPOINT_KEY)
    return None if text is None else WeightsCard.from_json(text)


def is_whole(checkpoint: Path) -> bool:
    """Return whether a file that PyTorch saved is undamaged, by the checksums in it."""
    try:
        with zipfile.ZipFile(checkpoint) as file:
            return file.testzip() is None
    except (zipfile.BadZipFile, OSError):
        return False


def provenance(task: Any, trained_on: str) -> dict[str, Any]:
    """Return a card's `training` and `licence`, with those of the weights that the run started from.

    Args:
        task: The task in training: its `global_step`, and the `start_name` and `start` of the weights before it.
        trained_on: The data set and split, in words.
    """
    training, licence = f"{trained_on}, {task.global_step} steps", f"that of {trained_on}"
    if task.start is not None:
        training += f", from {task.start_name} ({task.start.training})"
        licence += f"; that of {task.start_name}: {task.start.licence}"
    return {"training": training, "licence": licence}


def export_weights(checkpoint: Path, target: Path, *, default: WeightsCard | None = None) -> WeightsCard:
    """Write the weights of a checkpoint as a weights file, without what only training uses.

    A run that averages its weights stores the averaged ones; these are written.

    Args:
        checkpoint: A file that `segscape fit` saved.
        target: The file to write, with the suffix `.safetensors`.
        default: The card of a checkpoint that holds none, as those of earlier versions.

    Returns:
        The card.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: It is damaged, or of another program.
        OSError: The file cannot be written.
    """
    contents = read_state_dict(checkpoint)
    state = contents.get("state_dict")
    if not isinstance(state, Mapping) or not any(str(key).startswith(_NETWORK) for key in state):
        raise ValueError(
            f"{checkpoint} is no checkpoint of `segscape fit`; `segscape convert` reads those of the networks' authors."
        )
    if CHECKPOINT_KEY in contents:
        card = WeightsCard.from_json(contents[CHECKPOINT_KEY])
    elif default is not None:
        card = default
    else:
        raise ValueError(
            f"{checkpoint} does not say its classes, as those of earlier versions do not; repeat the command of its "
            "run, which goes on from its end and saves it anew."
        )
    network = create_model(card.network, card.num_classes)
    found = {
        key.removeprefix(_NETWORK): value
        for key, value in state.items()
        if key.startswith(_NETWORK) and isinstance(value, Tensor)
    }
    load_inference_state(network, found, source=checkpoint)
    written = inference_state(network) if isinstance(network, SegmentationNetwork) else network.state_dict()
    write_weights(target, card, written)
    return card
